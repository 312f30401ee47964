"""Which kernel boots: one that an image names, or the one on a guest's own disk, updated from inside.
And what becomes of an image's instances and copies when the image goes."""

import pathlib
import shutil
import subprocess
import tempfile
import time

from aws import Refused
from lab import Skip, check, equal, eventually

BUCKET = "kernels"


def _debugfs(image, command, write=False):
    """The guest's file system, read and written as a file: nothing is mounted."""
    argv = ["debugfs", *(["-w"] if write else []), "-R", command, str(image)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _install(cloud, file, name, *more):
    said = cloud.mallee("image", "install", str(file), "--bucket", BUCKET, "--name", f"{name}-{time.time_ns()}", *more)
    return said.strip().splitlines()[-1]


def _taken_apart(cloud, folder):
    """The lab's guest as three files: its kernel, its ramdisk, and a root that has no GRUB menu."""
    if not shutil.which("debugfs"):
        raise Skip("debugfs is not installed (Debian: e2fsprogs)")
    whole = cloud.layout.dir("image") / "mallee-tiny.img"
    names = [line.split("/")[5] for line in _debugfs(whole, "ls -p /boot").splitlines() if line.count("/") > 5]
    for start in ("vmlinuz", "initrd"):
        name = next(name for name in names if name.startswith(start))
        _debugfs(whole, f"dump /boot/{name} {folder}/{start}")
    root = pathlib.Path(folder, "root.img")
    shutil.copyfile(whole, root)
    _debugfs(root, "rm /boot/grub/grub.cfg", write=True)
    return pathlib.Path(folder, "vmlinuz"), pathlib.Path(folder, "initrd"), root


def _reboot(cloud, instance, address, how):
    """Reboots, and waits until the guest has."""
    boot = cloud.ssh(address, "cat /proc/sys/kernel/random/boot_id")
    how()

    def rebooted():
        """the guest has booted again"""
        try:
            return cloud.ssh(address, "cat /proc/sys/kernel/random/boot_id", limit_s=5) != boot
        except AssertionError:
            return False

    eventually(rebooted, 90)
    equal(cloud.state_of(instance), "running", "state")


def test_an_image_boots_the_kernel_and_the_ramdisk_that_it_names(cloud):
    with tempfile.TemporaryDirectory() as folder:
        kernel, ramdisk, root = _taken_apart(cloud, folder)
        eki = _install(cloud, kernel, "kernel", "--kind", "kernel")
        eri = _install(cloud, ramdisk, "ramdisk", "--kind", "ramdisk")
        check(eki.startswith("eki-") and eri.startswith("eri-"), f"{eki} {eri}")
        emi = _install(cloud, root, "root", "--kernel", eki, "--ramdisk", eri)
    listed = cloud.ec2.call("DescribeImages", ImageId__1=emi)
    equal((listed.findtext(".//kernelId"), listed.findtext(".//ramdiskId")), (eki, eri), "what the image boots with")
    instance, *_ = cloud.launch(ImageId=emi)
    address = cloud.wait_state(instance, "running")
    said = cloud.ssh(address, "cat /proc/cmdline")
    check(said.startswith("root=/dev/vda1 console=ttyS0") and "BOOT_IMAGE" not in said, f"GRUB booted it: {said}")
    shown = cloud.ec2.call("DescribeInstances", InstanceId__1=instance)
    equal((shown.findtext(".//kernelId"), shown.findtext(".//ramdiskId")), (eki, eri), "what the instance boots with")
    equal(cloud.ssh(address, "wget -q -O - http://169.254.169.254/latest/meta-data/kernel-id"), eki, "kernel-id in the metadata")
    _reboot(cloud, instance, address, lambda: cloud.ec2.call("RebootInstances", InstanceId__1=instance))
    cloud.terminate(instance)
    for image in (emi, eri, eki):
        cloud.ec2.call("DeregisterImage", ImageId=image)
    try:
        cloud.launch(ImageId=emi)
        check(False, "a deregistered image was launched")
    except Refused as refused:
        check(refused.code in ("InvalidAMIID.Unavailable", "InvalidAMIID.NotFound"), str(refused))


def test_a_guest_that_updates_its_kernel_boots_the_new_one(cloud):
    instance, *_ = cloud.launch()
    address = cloud.wait_state(instance, "running")
    before = cloud.ssh(address, "cat /proc/cmdline")
    check("BOOT_IMAGE=/boot/vmlinuz-" in before and "updated" not in before, before)
    # As a package of a kernel does it: new files in /boot, and a menu that names them first.
    cloud.ssh(
        address,
        "set -e; cd /boot; cp vmlinuz-* vmlinuz.new; cp initrd.img-* initrd.new; mv vmlinuz.new vmlinuz-9.9-updated; mv initrd.new initrd.img-9.9-updated;"
        " old=$(uname -r); sed -i \"s/vmlinuz-$old/vmlinuz-9.9-updated/; s/initrd.img-$old/initrd.img-9.9-updated/; s/ quiet/ quiet mallee.kernel=updated/\" grub/grub.cfg; rm vmlinuz-$old; sync",
    )
    _reboot(cloud, instance, address, lambda: cloud.ssh(address, "reboot"))
    after = cloud.ssh(address, "cat /proc/cmdline")
    check("BOOT_IMAGE=/boot/vmlinuz-9.9-updated" in after and "mallee.kernel=updated" in after, f"the old one booted: {after}")
    _reboot(cloud, instance, address, lambda: cloud.ec2.call("RebootInstances", InstanceId__1=instance))
    check("mallee.kernel=updated" in cloud.ssh(address, "cat /proc/cmdline"), "a reset boots another one")
    cloud.terminate(instance)


def test_a_deregistered_image_stays_for_its_instances_and_a_copy_outlives_its_bundle(cloud):
    bucket = f"copies-{time.time_ns()}"
    image = cloud.layout.dir("image") / "mallee-tiny.img"
    original = cloud.mallee("image", "install", str(image), "--bucket", bucket, "--name", bucket).strip().splitlines()[-1]
    first, *_ = cloud.launch(ImageId=original)
    copy = cloud.ec2.call("CopyImage", SourceRegion="mallee-1", SourceImageId=original, Name=f"{bucket} copy").findtext("imageId")

    def copied():
        """the copy is available"""
        return cloud.ec2.call("DescribeImages", ImageId__1=copy).findtext(".//imageState") == "available"

    eventually(copied, 30)
    address = cloud.wait_state(first, "running")
    cloud.ssh(address, "true")
    cloud.ec2.call("DeregisterImage", ImageId=original)
    cloud.run("s3cmd", "-c", cloud.variables["S3CFG"], "rb", "--recursive", "--force", f"s3://{bucket}")
    for call in (lambda: cloud.ec2.call("DescribeImages", ImageId__1=original), lambda: cloud.launch(ImageId=original)):
        try:
            call()
            check(False, "a deregistered image is still there")
        except Refused as refused:
            check(refused.code in ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"), str(refused))
    _reboot(cloud, first, address, lambda: cloud.ec2.call("RebootInstances", InstanceId__1=first))

    # Nothing of the bundle is left but what the copy holds, and no node has fetched the copy yet.
    second, *_ = cloud.launch(ImageId=copy)
    cloud.ssh(cloud.wait_state(second, "running"), "true")
    cloud.terminate(first, second)
    cloud.ec2.call("DeregisterImage", ImageId=copy)
