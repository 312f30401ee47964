"""Bad input over the real path: refused clearly, or ended with a reason; the cache stays clean."""

import pathlib
import re
import subprocess
import tempfile
import time

from aws import Refused
from lab import check, equal

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


def test_a_broken_manifest_is_refused_at_registration(cloud):
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
            "a part that is not there": whole.replace("image.part.00", "image.part.77"),
        }.items():
            manifest.write_text(text)
            cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "--force", "put", manifest, f"s3://{BUCKET}/")
            said = _refused(cloud, lambda name=name: _register(cloud, f"bad {name}"), "InvalidManifest", "InvalidAMIID.Malformed", "AuthFailure", "InvalidParameterValue", "InvalidImageLocation")
            print(f"   {name}: {said}")
    _refused(cloud, lambda: cloud.ec2.call("RegisterImage", ImageLocation=f"{BUCKET}/none.manifest.xml", Name="none"), "InvalidManifest", "InvalidAMIID.NotFound", "InvalidParameterValue", "InvalidImageLocation")


def test_a_corrupt_part_ends_the_launch_and_is_named(cloud):
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


def test_a_qcow2_that_says_it_is_raw_is_refused(cloud):
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
