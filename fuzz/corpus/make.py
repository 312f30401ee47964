#!/usr/bin/env python3
"""Makes the corpus anew: the good and the hostile of each format. Needs qemu-img, tar and mke2fs."""

import pathlib
import struct
import subprocess
import tempfile
import zlib

HERE = pathlib.Path(__file__).parent
SHA1, WRAPPED = "da39a3ee5e6b4b0d3255bfef95601890afd80709", "ab" * 256


def put(target, name, content):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def run(*argv, **options):
    return subprocess.run([str(word) for word in argv], check=True, capture_output=True, **options).stdout


def manifests():
    parts = "".join(f"<part index='{n}'><filename>i.part.0{n}</filename><digest algorithm='SHA1'>{SHA1}</digest></part>" for n in range(2))
    good = (
        "<?xml version='1.0' encoding='ASCII'?><manifest><version>2007-10-10</version><bundler><name>euca2ools</name><version>3.4</version><release>0</release></bundler>"
        "<machine_configuration><architecture>x86_64</architecture><block_device_mapping><mapping><virtual>ami</virtual><device>sda1</device></mapping></block_device_mapping>"
        "<product_codes><product_code>p &amp; q</product_code></product_codes><kernel_id>eki-00000001</kernel_id><ramdisk_id>true</ramdisk_id></machine_configuration>"
        f"<image><name>i</name><user>123456789012</user><type>machine</type><digest algorithm='SHA1'>{SHA1}</digest><size>4096</size><bundled_size>1024</bundled_size>"
        f"<ec2_encrypted_key algorithm='AES-128-CBC'>{WRAPPED}</ec2_encrypted_key><user_encrypted_key algorithm='AES-128-CBC'></user_encrypted_key>"
        f"<ec2_encrypted_iv>{WRAPPED}</ec2_encrypted_iv><user_encrypted_iv></user_encrypted_iv><parts count='2'>{parts}</parts></image><signature>UNSIGNED</signature></manifest>"
    )
    for name, text in {
        "good": good,
        "truncated": good[: len(good) // 2],
        "pretty": good.replace("><", ">\n <"),
        "entities": good.replace("?>", '?><!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>', 1).replace("p &amp; q", "&b;"),
        "path": good.replace("i.part.00", "../../etc/passwd"),
        "nul": good.replace("i.part.00", "i&#0;.part.00"),
        "long": good.replace("i.part.00", "x" * 4096),
        "twice": good.replace("i.part.01", "i.part.00"),
        "huge": good.replace("<size>4096", "<size>18446744073709551615"),
        "deep": good.replace("<image>", "<a>" * 64 + "<image>"),
    }.items():
        put("manifest", name, text.encode())


def deflated(content):
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    return pack.compress(content) + pack.flush()


def member(content, flags=0, fields=b"", length=None, checksum=None):
    """A gzip member. `length` goes into a subfield that says how long it is; True tells the truth."""
    deflate = deflated(content)
    trailer = struct.pack("<II", zlib.crc32(content) if checksum is None else checksum, len(content))
    if length is not None:
        whole = 10 + 2 + 8 + len(deflate) + 8
        fields = struct.pack("<H2sHI", 8, b"ML", 4, whole if length is True else length)
        flags |= 4
    return struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, flags, 0, 4, 255) + fields + deflate + trailer


def gzips():
    words = b"".join(b"word %d " % n for n in range(2000))
    whole = member(words, length=True)
    for name, step, stream in [
        ("plain", 999, member(words)),
        ("announced", 999, whole + whole),
        ("mixed", 0, member(b"a") + member(b"b", length=True) + member(b"c", 31, b"\x05\0extraname\0comment\0\x12\x34")),
        ("empty-members", 3, member(b"") + member(b"", length=True)),
        ("stored", 99, struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 0, 0, 4, 255) + b"\x01\x05\0\xfa\xffhello" + struct.pack("<II", zlib.crc32(b"hello"), 5)),
        ("too-long", 999, member(words, length=len(whole) + 1) + whole),
        ("too-short", 999, member(words, length=40) + whole),
        ("endless", 999, member(words, length=0xFFFFFFFF)),
        ("checksum", 999, member(words, length=True, checksum=1)),
        ("bomb", 9999, member(bytes(8 << 20))),
        ("long-name", 9999, struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 8, 0, 4, 255) + b"n" * 70000),
        ("reserved", 9, b"\x1f\x8b\x08\xe0" + bytes(30)),
    ]:
        put("gzip", name, struct.pack("<H", step) + stream)


def tars():
    with tempfile.TemporaryDirectory() as folder:
        image = pathlib.Path(folder, "image")
        image.write_bytes(b"image" * 1000)
        sparse = pathlib.Path(folder, "sparse")
        with open(sparse, "wb") as file:
            for at in range(0, 40 << 16, 1 << 16):
                file.seek(at)
                file.write(b"data")
            file.truncate(40 << 16)
        for name, size, argv in [
            ("gnu", 5000, ["--format=gnu", "image"]),
            ("pax", 5000, ["--format=pax", "image"]),
            ("long-name", 5000, ["--format=gnu", f"--transform=s/image/{'n' * 200}/", "image"]),
            ("sparse", 40 << 16, ["--format=gnu", "-S", "sparse"]),
            ("two", 5000, ["--format=gnu", "image", "sparse"]),
            ("folder", 5000, ["--format=gnu", "."]),
        ]:
            stream = run("tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", folder, "-cf", "-", *argv)
            put("tar", name, struct.pack("<QB", size, 255) + stream[:32768])
        inner = run("tar", "--mtime=@0", "--owner=0", "--group=0", "-C", folder, "-cf", "-", "image")
        pathlib.Path(folder, "inner.tar").write_bytes(inner)
        outer = run("tar", "--mtime=@0", "--owner=0", "--group=0", "-C", folder, "-cf", "-", "inner.tar")
        put("tar", "tar-in-tar", struct.pack("<QB", len(inner), 7) + outer)


def qcow2s():
    with tempfile.TemporaryDirectory() as folder:
        for name, options, more in [
            ("version-2", "compat=0.10", []),
            ("version-3", "compat=1.1", []),
            ("subclusters", "extended_l2=on,cluster_size=16k", []),
            ("backing", "compat=1.1", ["-u", "-b", "/etc/shadow", "-F", "raw"]),
            ("data-file", f"data_file={folder}/data", []),
        ]:
            path = pathlib.Path(folder, name)
            run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"{options},cluster_size=4k" if "cluster_size" not in options else options, *more, path, "1M")
            put("qcow2", name, path.read_bytes()[:32768])
        whole = bytearray(pathlib.Path(HERE, "qcow2", "version-3").read_bytes())
        for name, at, value in [("two-to-the-60", 24, struct.pack(">Q", 1 << 60)), ("endless-l1", 36, b"\xff" * 4), ("snapshots", 60, b"\0\0\0\1"), ("features", 72, b"\x80" + b"\0" * 7)]:
            broken = bytearray(whole)
            broken[at : at + len(value)] = value
            put("qcow2", name, bytes(broken))


def gpt(first=2048, last=4095, count=128, entry=128):
    """A header and its entries with one partition, right in both checksums, of a disk of 1 GiB."""
    sectors = (1 << 30) // 512
    table = struct.pack("<16s16sQQQ72s", b"\xaf" * 16, b"\x01" * 16, first, last, 0, b"r\0o\0o\0t\0").ljust(128 * 128, b"\0")
    def header(checksum):
        return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, checksum, 0, 1, sectors - 1, 34, sectors - 34, b"\x02" * 16, 2, count, entry, zlib.crc32(table))
    return header(zlib.crc32(header(0))).ljust(512, b"\0") + table


def partitions():
    size = struct.pack("<Q", 1 << 30)

    def record(*entries):
        table = b"".join(struct.pack("<B3sB3sII", flag, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, sectors) for flag, kind, start, sectors in entries)
        return b"\0" * 446 + table.ljust(64, b"\0") + b"\x55\xaa"

    put("partitions", "one", size + record((0x80, 0x83, 2048, 100000)))
    put("partitions", "four", size + record(*[(0, 0x83, 2048 * n, 2048) for n in range(1, 5)]))
    put("partitions", "protective", size + record((0, 0xEE, 1, 0xFFFFFFFF)) + b"EFI PART" + b"\0\0\1\0" + b"\xff" * 80)
    put("partitions", "overlapping", size + record((0x80, 0x83, 1, 0xFFFFFFFF), (0, 0x05, 1, 0xFFFFFFFF)))
    put("partitions", "beyond", size + record((0x80, 0x83, 0xFFFFFFFF, 1)))
    # Sector 0, then the extended partition's records from sector 1 on: each has a partition, and says where the next one is.
    for name, records in {
        "logical": [((0, 0x83, 8, 100), (0, 0x05, 2, 1)), ((0, 0x83, 200, 100),), ((0, 0x82, 400, 100), (0, 0x05, 1, 1))],
        "logical-ring": [((0, 0x83, 8, 100), (0, 0x05, 1, 1)), ((0, 0x83, 200, 100), (0, 0x05, 2, 1)), ((0, 0x83, 8, 1), (0, 0x05, 1, 1))],
        "logical-outside": [((0, 0x83, 8, 100), (0, 0x0F, 1, 1)), ((0, 0x83, 0xFFFFFFFF, 0xFFFFFFFF), (0, 0x05, 0xFFFFFFFF, 1))],
        "logical-nested": [((0, 0x05, 1, 100), (0, 0x85, 1, 1)), ((0, 0x05, 1, 100), (0, 0x05, 2, 1))],
    }.items():
        put("partitions", name, size + record((0x80, 0x83, 2048, 2048), (0, 0x05, 1, 1000)) + b"".join(record(*entries) for entries in records))
    for name, change in {"gpt": {}, "gpt-far": {"last": 1 << 60}, "gpt-many": {"count": 0xFFFFFFFF}, "gpt-odd": {"entry": 0x81}, "gpt-outside": {"first": 1}}.items():
        put("partitions", name, size + record((0, 0xEE, 1, 0xFFFFFFFF)) + gpt(**change))
    for name, magic, at in [("vmdk", b"KDMV", 0), ("vhdx", b"vhdxfile", 0), ("vdi", b"\x7f\x10\xda\xbe", 64), ("luks", b"LUKS\xba\xbe", 0), ("qed", b"QED\0", 0)]:
        put("partitions", name, size + b"\0" * at + magic + b"\0" * 512)
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(8 << 20)
        run("mke2fs", "-qF", "-t", "ext4", "-U", "clear", "-E", "hash_seed=00000000-0000-0000-0000-000000000000", file.name)
        put("partitions", "ext4", struct.pack("<Q", 8 << 20) + pathlib.Path(file.name).read_bytes()[:4096])


for make in (manifests, gzips, tars, qcow2s, partitions):
    make()
