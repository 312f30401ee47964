"""Bad input over the real path: refused clearly, or ended with a reason; the cache stays clean."""

import gzip
import hashlib
import io
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib

from aws import Refused
from lab import Skip, check, equal, eventually

BUCKET = "hostile"


def _bundle(cloud, folder, image):
    """A bundle of an image, by our own command."""
    cloud.mallee("image", "bundle", str(image), "--destination", str(folder), "--name", "image")
    return sorted(pathlib.Path(folder).glob("image.part.*")), pathlib.Path(folder, "image.manifest.xml")


def _upload(cloud, folder):
    cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "mb", f"s3://{BUCKET}") if BUCKET not in cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "ls") else None
    files = [str(file) for file in sorted(pathlib.Path(folder).iterdir()) if file.is_file()]
    cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "--force", "put", *files, f"s3://{BUCKET}/")


def _register(cloud, name):
    return cloud.ec2.call("RegisterImage", ImageLocation=f"{BUCKET}/image.manifest.xml", Name=f"{name} {time.time_ns()}").findtext("imageId")


def _caches(cloud):
    """What lies in the nodes' image caches."""
    return sorted(str(path) for node in cloud.layout.nodes for path in node.dir.glob("cache/**/*") if path.is_file())


def _fails_with(cloud, image, pattern):
    """A launch of the image ends terminated, with a reason that names the trouble, and leaves nothing."""
    before = _caches(cloud)
    instance, *_ = cloud.launch(ImageId=image)
    cloud.wait_state(instance, "terminated")
    reason = cloud.ec2.call("DescribeInstances", InstanceId__1=instance).findtext(".//stateReason/message") or ""
    check(re.search(pattern, reason, re.I), f"the reason does not say {pattern!r}: {reason!r}")
    equal(_caches(cloud), before, "the caches")
    check(instance not in cloud.guests(), "a guest runs all the same")


def _refused(cloud, call, *codes):
    try:
        call()
    except Refused as refused:
        check(refused.code in codes, f"{refused}, not one of {codes}")
        return str(refused)
    check(False, f"taken, though {codes[0]} was due")


def test_an_unknown_image_is_refused(cloud):
    _refused(cloud, lambda: cloud.launch(ImageId="emi-00000000000000000"), "InvalidAMIID.NotFound")
    _refused(cloud, lambda: cloud.launch(ImageId="emi-../../etc"), "InvalidAMIID.Malformed")


def test_j2_j3_a_broken_manifest_is_refused_at_registration(cloud):
    image = cloud.layout.dir("image") / "mallee-tiny.img"
    with tempfile.TemporaryDirectory() as folder:
        _, manifest = _bundle(cloud, folder, image)
        whole = manifest.read_text()
        _upload(cloud, folder)
        for name, text in {
            "truncated": whole[: len(whole) // 2],
            "not XML": "not XML at all",
            "a document type": whole.replace("?>", '?><!DOCTYPE m [<!ENTITY a "b">]>', 1),
            "a hostile part name": whole.replace("image.part.00", "../../etc/passwd"),
            "a part in another folder": whole.replace("image.part.00", "other/image.part.00"),
            "somebody else's": whole.replace(cloud.variables["EC2_USER_ID"], "999999999999"),
            "an absolute part name": whole.replace("image.part.00", "/etc/passwd"),
            "a part name with a NUL": whole.replace("image.part.00", "image&#0;.part.00"),
            "a part name of 4 KiB": whole.replace("image.part.00", "x" * 4096),
            "a lying count": re.sub(r"count=.\d+.", 'count="9"', whole),
            "a part that is not there": whole.replace("image.part.00", "image.part.77"),
        }.items():
            manifest.write_text(text)
            cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "--force", "put", manifest, f"s3://{BUCKET}/")
            said = _refused(cloud, lambda name=name: _register(cloud, f"bad {name}"), "InvalidManifest", "InvalidAMIID.Malformed", "AuthFailure", "InvalidParameterValue", "InvalidImageLocation")
            print(f"   {name}: {said}")
    _refused(cloud, lambda: cloud.ec2.call("RegisterImage", ImageLocation=f"{BUCKET}/none.manifest.xml", Name="none"), "InvalidManifest", "InvalidAMIID.NotFound", "InvalidParameterValue", "InvalidImageLocation")


def test_j1_a_corrupt_part_ends_the_launch_and_is_named(cloud):
    image = cloud.layout.dir("image") / "mallee-tiny.img"
    with tempfile.TemporaryDirectory() as folder:
        parts, _ = _bundle(cloud, folder, image)
        content = bytearray(parts[0].read_bytes())
        content[len(content) // 2] ^= 0xFF
        parts[0].write_bytes(content)
        _upload(cloud, folder)
        registered = _register(cloud, "corrupt part")
        _fails_with(cloud, registered, r"part 0 is corrupt")
        cloud.ec2.call("DeregisterImage", ImageId=registered)


def test_j6_a_qcow2_that_says_it_is_raw_is_refused(cloud):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sources:
        disguised = pathlib.Path(sources, "disguised.img")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", str(disguised), "16M"], check=True)
        with open(disguised, "ab") as file:
            file.truncate((disguised.stat().st_size + 511) // 512 * 512)
        said = None
        try:
            _bundle(cloud, folder, disguised)
        except AssertionError as error:
            said = str(error)
        if said:
            # Our own command does not even bundle it; that is as good an end.
            check("qcow2" in said, said)
            return
        _upload(cloud, folder)
        registered = _register(cloud, "disguised")
        _fails_with(cloud, registered, "qcow2")
        cloud.ec2.call("DeregisterImage", ImageId=registered)

# ---- bundles that our own command would not make ----


def _forged(cloud, folder, stream, size):
    """A bundle that is right in every digest, of any bytes where the gzipped tar belongs."""
    source = pathlib.Path(folder, "source.img")
    source.write_bytes(b"\1" * 512)
    parts, manifest = _bundle(cloud, folder, source)
    text = manifest.read_text()
    field = lambda name: re.search(rf"<{name}[^>]*>([^<]*)</{name}>", text).group(1)  # noqa: E731
    secret = []
    for name in ("user_encrypted_key", "user_encrypted_iv"):
        opened = subprocess.run(["openssl", "pkeyutl", "-decrypt", "-inkey", cloud.variables["EC2_PRIVATE_KEY"]], input=bytes.fromhex(field(name)), capture_output=True, check=True)
        secret.append(opened.stdout.decode())
    plain = gzip.compress(stream, 1) if isinstance(stream, bytes) else stream[1]
    digest = hashlib.sha1(stream if isinstance(stream, bytes) else stream[0]).hexdigest()
    sealed = subprocess.run(["openssl", "enc", "-aes-128-cbc", "-K", secret[0], "-iv", secret[1]], input=plain, capture_output=True, check=True).stdout
    for part in parts:
        part.unlink()
    listed, made = "", []
    for number, at in enumerate(range(0, len(sealed), 10 << 20)):
        made.append(pathlib.Path(folder, f"image.part.{number:02}"))
        made[-1].write_bytes(sealed[at : at + (10 << 20)])
        listed += f"<part index='{number}'><filename>{made[-1].name}</filename><digest algorithm='SHA1'>{hashlib.sha1(made[-1].read_bytes()).hexdigest()}</digest></part>"
    for pattern, new in [
        (r"<digest algorithm=.SHA1.>[^<]*</digest><size>", f"<digest algorithm='SHA1'>{digest}</digest><size>"),
        (r"<size>[^<]*<", f"<size>{size}<"),
        (r"<bundled_size>[^<]*<", f"<bundled_size>{len(sealed)}<"),
        (r"<parts count=.*</parts>", f"<parts count='{len(made)}'>{listed}</parts>"),
    ]:
        text, count = re.subn(pattern, new, text, count=1)
        check(count == 1, f"the manifest has no {pattern}")
    manifest.write_text(text)
    source.unlink()
    return manifest


def _tar(content, name="image"):
    """A tar of one file, as a bundler makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _launch_of_forged_fails(cloud, name, stream, size, pattern):
    with tempfile.TemporaryDirectory() as folder:
        _forged(cloud, folder, stream, size)
        _upload(cloud, folder)
        registered = _register(cloud, name)
        _fails_with(cloud, registered, pattern)
        cloud.ec2.call("DeregisterImage", ImageId=registered)


def test_j4_a_bomb_stops_at_what_it_declared(cloud):
    # 1 GiB of zeros behind a header that is right for 1 MiB.
    packed, zeros = zlib.compressobj(1, zlib.DEFLATED, 31), bytes(64 << 20)
    bomb = packed.compress(_tar(bytes(1 << 20))[:512]) + b"".join(packed.compress(zeros) for _ in range(16)) + packed.flush()
    started = time.monotonic()
    _launch_of_forged_fails(cloud, "bomb", (b"", bomb), 1 << 20, "unpacks to more than")
    check(time.monotonic() - started < 60, "it took a minute")


def test_j4_a_tar_in_a_tar_is_no_image(cloud):
    inner = _tar(b"image" * 1000)
    _launch_of_forged_fails(cloud, "tar in tar", _tar(inner), len(inner), "tar archive")


def test_j5_a_bundle_of_another_size_or_key_is_refused(cloud):
    _launch_of_forged_fails(cloud, "lying size", _tar(b"\1" * 4096), 8192, "the manifest says 8192")
    with tempfile.TemporaryDirectory() as folder:
        manifest = _forged(cloud, folder, _tar(b"\1" * 4096), 4096)
        whole = manifest.read_text()
        key = re.search(r"<ec2_encrypted_key[^>]*>([^<]*)<", whole).group(1)
        iv = re.search(r"<ec2_encrypted_iv[^>]*>([^<]*)<", whole).group(1)
        _upload(cloud, folder)
        for name, text in {"no key": whole.replace(key, ""), "a short key": whole.replace(key, key[:64]), "a long key": whole.replace(key, key * 8), "noise for a key": whole.replace(key, "7" * len(key))}.items():
            manifest.write_text(text)
            cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "--force", "put", manifest, f"s3://{BUCKET}/")
            print(f"   {name}: {_refused(cloud, lambda: _register(cloud, 'key'), 'InvalidManifest')}")
        # Key and IV the wrong way round: both are right for this cloud, and open nothing.
        manifest.write_text(whole.replace(key, "@").replace(iv, key).replace("@", iv))
        cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "--force", "put", manifest, f"s3://{BUCKET}/")
        registered = _register(cloud, "swapped keys")
        _fails_with(cloud, registered, "cannot be decrypted|cannot be decompressed")
        cloud.ec2.call("DeregisterImage", ImageId=registered)


def test_j6_j7_j9_other_formats_in_disguise_are_refused_by_name(cloud):
    for fmt, options, pattern in [
        ("qcow2", ["-u", "-b", "/etc/shadow", "-F", "raw"], "backing file"),
        ("qcow2", ["-o", "data_file=data.raw"], "external data file"),
        ("vmdk", [], "VMDK"),
        ("vmdk", ["-o", "subformat=monolithicFlat"], "VMDK descriptor"),
        ("vhdx", [], "VHDX"),
        ("vdi", [], "VDI"),
        ("qed", [], "QED"),
        ("luks", ["--object", "secret,id=s,data=x", "-o", "key-secret=s,iter-time=10"], "LUKS"),
    ]:
        with tempfile.TemporaryDirectory() as sources:
            path = pathlib.Path(sources, "image")
            subprocess.run(["qemu-img", "create", "-q", "-f", fmt, *options, str(path), "1M"], check=True, cwd=sources)
            content = path.read_bytes()
        _launch_of_forged_fails(cloud, f"{fmt} {pattern}", _tar(content), len(content), pattern)


def test_j8_a_header_that_a_guest_writes_changes_nothing(cloud):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "header")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", str(path), "64T"], check=True)
        header = path.read_bytes()[:512]
    instance, *_ = cloud.launch()
    address = cloud.wait_state(instance, "running")
    octal = "".join(f"\\{byte:03o}" for byte in header)
    for disk in ("vdb", "vdc"):
        cloud.ssh(address, f"printf '{octal}' >/tmp/h; dd if=/tmp/h of=/dev/{disk} conv=notrunc 2>/dev/null; sync; cat /sys/block/{disk}/size >/tmp/{disk}")
    before = cloud.ssh(address, "cat /sys/block/vdb/size /sys/block/vdc/size")
    boot = cloud.ssh(address, "cat /proc/sys/kernel/random/boot_id")
    cloud.ec2.call("RebootInstances", InstanceId__1=instance)

    def rebooted():
        """the guest has booted again"""
        try:
            return cloud.ssh(address, "cat /proc/sys/kernel/random/boot_id", limit_s=5) != boot
        except AssertionError:
            return False

    eventually(rebooted, 90)
    equal(cloud.ssh(address, "cat /sys/block/vdb/size /sys/block/vdc/size"), before, "the sizes of the disks")
    for disk in ("vdb", "vdc"):
        equal(cloud.ssh(address, f"head -c 512 /dev/{disk} | md5sum").split()[0], hashlib.md5(header).hexdigest(), f"what {disk} begins with")
    cloud.terminate(instance)


def test_j10_a_size_beyond_all_room_is_refused(cloud):
    content = b"\1" * 4096
    with tempfile.TemporaryDirectory() as folder:
        manifest = _forged(cloud, folder, _tar(content), 1 << 40)
        _upload(cloud, folder)
        registered = _register(cloud, "a tebibyte")
        said = _refused(cloud, lambda: cloud.launch(ImageId=registered), "InvalidParameterCombination")
        check("needs a disk of" in said, said)
        cloud.ec2.call("DeregisterImage", ImageId=registered)
        for size in ((1 << 40) + 1, 1 << 63, 1 << 64, -1, 0):
            manifest.write_text(re.sub(r"<size>[^<]*<", f"<size>{size}<", manifest.read_text()))
            cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "--force", "put", manifest, f"s3://{BUCKET}/")
            _refused(cloud, lambda: _register(cloud, "size"), "InvalidManifest")


def test_j11_no_host_mounts_what_is_in_an_image(cloud):
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    table = bytearray(4 << 20)
    for number, kind in enumerate((0x83, 0x05, 0x0F, 0xEE)):
        at = 446 + 16 * number
        table[at : at + 16] = bytes([0, 0, 0, 0, kind, 0, 0, 0]) + b"\1\0\0\0" + b"\xff" * 4
    table[510:512] = b"\x55\xaa"
    # A file system's magic in a superblock of noise.
    noise = bytearray(hashlib.shake_128(b"noise").digest(4 << 20))
    noise[:1024] = bytes(1024)
    noise[1080:1082] = b"\x53\xef"
    # Without the features that GRUB cannot read, which would be refused by name.
    noise[1024 + 0x60 : 1024 + 0x64] = bytes(4)
    nodes = [daemon for daemon in cloud.daemons() if daemon.name.startswith("nc")]
    check(nodes, "no node's daemon")
    with tempfile.TemporaryDirectory() as traces:
        tracers = [subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=mount,move_mount,open_tree,fsopen,fsmount", "-o", f"{traces}/{daemon.name}", "-p", str(daemon.pid)]) for daemon in nodes]
        try:
            time.sleep(1)
            check(all(tracer.poll() is None for tracer in tracers), "strace cannot attach to the node's daemon")
            for name, content in {"hostile table": bytes(table), "hostile file system": bytes(noise)}.items():
                with tempfile.TemporaryDirectory() as folder:
                    _forged(cloud, folder, _tar(content), len(content))
                    _upload(cloud, folder)
                    registered = _register(cloud, name)
                instance, *_ = cloud.launch(ImageId=registered)
                cloud.wait_state(instance, "running")
                cloud.terminate(instance)
                cloud.ec2.call("DeregisterImage", ImageId=registered)
        finally:
            # Asked to end, it would stop each thread first, and wait for ever for one that waits for the
            # tool that it starts. The kernel lets all of them go.
            for tracer in tracers:
                tracer.kill()
                tracer.wait()
        lines = [line for trace in pathlib.Path(traces).iterdir() for line in trace.read_text(errors="replace").splitlines()]
    check(lines, "strace has seen nothing")
    file_systems = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "iso9660", "ntfs", "/dev/loop", "/dev/nbd", str(cloud.state))
    bad = [line for line in lines if any(f'"{word}' in line for word in file_systems)]
    check(not bad, f"a host mounted something: {bad[:3]}")


def test_bad_requests_are_clients_errors_and_nothing_breaks(cloud):
    import urllib.error
    import urllib.request

    url = cloud.layout.api_url
    for path, data in [
        ("/", b"Action=DescribeRegions"),
        ("/?Action=DescribeRegions&Version=2016-11-15", None),
        ("/services/compute/", b"\xff\xfe=%%%&&&==="),
        ("/services/compute/?" + "A=1&" * 5000, None),
        ("/services/nonsense", b""),
        ("/bucket/%00%ff/../..", None),
    ]:
        try:
            urllib.request.urlopen(urllib.request.Request(url + path, data=data), timeout=10).read()
            check(False, f"{path[:40]} was answered without a signature")
        except urllib.error.HTTPError as error:
            check(400 <= error.code < 500, f"{path[:40]}: HTTP {error.code}")
    cloud.aws("ec2", "describe-regions")
