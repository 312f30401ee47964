"""What a virtual disk costs: `mallee bench disk` on this folder's file system, and on file systems
in a file with the mount options that matter, which takes root."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_SYSTEM_BYTES = 3 << 30
# Fewer writes than the paper's 1,024: there are many file systems, and ratios are what is looked for.
WRITES = 256
# name, how it is made, mount options, further options of the bench
PLACES = [
    ("ext4, as mounted by default", "mkfs.ext4 -q", "defaults", []),
    ("ext4, barrier=0", "mkfs.ext4 -q", "barrier=0", []),
    ("ext4, data=writeback", "mkfs.ext4 -q", "data=writeback", []),
    ("ext4, data=journal", "mkfs.ext4 -q", "data=journal", ["--cache", "writeback"]),
    ("ext3, as mounted by default", "mkfs.ext3 -q", "defaults", []),
    ("ext3, barrier=0", "mkfs.ext3 -q", "barrier=0", []),
    ("XFS", "mkfs.xfs -q", "defaults", ["--disk", "clone"]),
    ("btrfs", "mkfs.btrfs -q", "defaults", ["--disk", "clone"]),
]
CACHES = ["none", "writeback", "unsafe"]


def bench(given):
    with tempfile.TemporaryDirectory(prefix="mallee-disk-", dir=given.scratch) as scratch:
        scratch = pathlib.Path(scratch)
        guest, disks = scratch / "guest.img", scratch / "disks"
        packages = ROOT / "target/bench/packages"
        subprocess.run([ROOT / "deploy/guest/build", "--out", guest, "--cache", packages], check=True)
        disks.mkdir()
        report = json.loads(text(guest, disks, ["--count", "1024", "--output", "json"]))
        (ROOT / "docs/disks.svg").write_text(picture(report["disks"]))
        print_main(report)
        print(f"{'':30} {'raw first':>10} {'again':>7} {'Mallee first':>13} {'again':>7}   MB/s")
        for cache in CACHES:
            print_row(f"cache={cache}", measured(guest, disks, ["--cache", cache]))
        for name, make, options, more in PLACES:
            with file_system(scratch, make, options) as mounted:
                if mounted:
                    print_row(name, measured(guest, mounted, more))
                else:
                    print(f"SKIPPED: {name}: this kernel or machine cannot mount it")


def print_row(name, disks):
    raw, ours = disks[0], disks[-1]
    speeds = f"{raw['first_mb_s']:10.1f} {raw['over_mb_s']:7.1f} {ours['first_mb_s']:13.1f} {ours['over_mb_s']:7.1f}"
    print(f"{name:30} {speeds}   {ours['disk']}", flush=True)


def print_main(report):
    place = report["place"]
    print(f"{place['file_system']} ({place['mount_options']}) on {place['device']}, {report['writes']} writes of {report['write_mib']} MiB")
    cell = lambda ratios: f"{ratios['writes']:.2f} {ratios['flushes']:.2f}"  # noqa: E731
    print(f"{'':18} {'first':>7} {'ratio':>6} {'again':>7} {'ratio':>6}   into empty  over data   again")
    for row in report["host"]:
        print(f"{row['what']:18} {row['first_mb_s']:7.1f} {'':6} {row['over_mb_s']:7.1f}")
    for row in report["disks"]:
        print(
            f"{row['disk']:18} {row['first_mb_s']:7.1f} {row['first_ratio']:6.2f} {row['over_mb_s']:7.1f} {row['over_ratio']:6.2f}"
            f"   {cell(row['empty']):11} {cell(row['data']):11} {cell(row['again'])}"
        )


def mallee(guest, folder, more):
    return [ROOT / "target/release/mallee", "bench", "disk", "--guest", guest, "--dir", folder, *more]


def text(guest, folder, more):
    return subprocess.run(mallee(guest, folder, more), check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(guest, folder, more):
    options = ["--count", str(WRITES), "--disk", "raw", "--disk", "overlay", "--output", "json"]
    return json.loads(text(guest, folder, [*options, *more]))["disks"]


@contextlib.contextmanager
def file_system(scratch, make, options):
    """A file system in a file, mounted; None where it cannot be."""
    file, point = scratch / "file-system", scratch / "mounted"
    point.mkdir(exist_ok=True)
    with open(file, "wb") as made:
        made.truncate(FILE_SYSTEM_BYTES)
    mount = ["mount", "-o", f"loop,{options}", str(file), str(point)]
    is_up = shutil.which(make.split()[0]) and all(
        subprocess.run(argv, capture_output=True).returncode == 0 for argv in ([*make.split(), str(file)], mount)
    )
    try:
        yield point if is_up else None
    finally:
        if is_up:
            subprocess.run(["umount", str(point)], check=True)
        file.unlink()


def picture(disks):
    """The counts as bars: what one write and sync of a guest into empty space costs the host."""
    bar, scale, left = 11, 120, 150
    rows = []
    for number, disk in enumerate(disks):
        top = 44 + number * 38
        rows.append(f'<text x="{left - 10}" y="{top + 15}" text-anchor="end">{disk["disk"]}</text>')
        for kind, colour, offset in (("writes", "#3b6ea5", 0), ("flushes", "#c9762f", bar + 2)):
            value = disk["empty"][kind]
            width = value * scale
            rows.append(f'<rect x="{left}" y="{top + offset}" width="{width:.0f}" height="{bar}" fill="{colour}"/>')
            rows.append(f'<text x="{left + width + 6:.0f}" y="{top + offset + 10}">{value:.2f} {kind}</text>')
    height = 56 + len(disks) * 38
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{height}" font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="620" height="{height}" fill="white"/>'
        '<text x="10" y="22" font-size="14">Host writes and flushes for one synced write of a guest into new space</text>'
        + "".join(rows)
        + "</svg>\n"
    )
