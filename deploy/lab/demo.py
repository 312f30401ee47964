"""The first hour of a newcomer in a minute: an image, a key, a rule, an instance, a login."""

import base64
import json
import os
import pathlib
import subprocess
import time

import credentials
from aws import Ec2, Refused
from host import run

RUNNING_TIMEOUT_S = 120
SSH_TIMEOUT_S = 120
BUCKET = "mallee-images"
KEY_NAME = "mallee-demo"
IMAGE_NAME = "mallee-tiny"
GUEST_BUILD = pathlib.Path(__file__).parent.parent / "guest/build"


def client(layout):
    said = credentials.load(layout)
    return Ec2(f"{layout.api_url}/", said["access_key_id"], said["secret_access_key"], said["region"])


def build_image(layout):
    """The tiny guest as a root partition, from Debian packages."""
    image = layout.dir("image") / f"{IMAGE_NAME}.img"
    if not image.exists():
        image.parent.mkdir(parents=True, exist_ok=True)
        run(str(GUEST_BUILD), "--out", str(image), "--cache", str(layout.dir("image") / "packages"))
    return image


def install_image(layout, binaries, image):
    """Bundles, uploads over S3, registers over EC2; answers the image's id."""
    ec2 = client(layout)
    known = layout.saved.get("image")
    if known:
        try:
            ec2.call("DescribeImages", ImageId__1=known)
            return known
        except Refused:
            pass
    # Registered by an `up` that was cut off before it wrote that down.
    there = ec2.call("DescribeImages", Owner__1="self", Filter__1__Name="name", Filter__1__Value__1=IMAGE_NAME)
    if found := there.findtext(".//imageId"):
        layout.saved["image"] = found
        layout.save()
        return found
    said = run(
        str(binaries / "mallee"), "image", "install", str(image), "--bucket", BUCKET, "--name", IMAGE_NAME, "--output", "json",
        env=os.environ | credentials.variables(layout),
    )  # fmt: skip
    layout.saved["image"] = json.loads(said)["image_id"]
    layout.save()
    return layout.saved["image"]


def make_key(layout):
    """A key pair, whose private half lies in the state folder."""
    file = layout.dir("credentials") / f"{KEY_NAME}.pem"
    ec2 = client(layout)
    if file.exists() and file.read_text():
        try:
            ec2.call("DescribeKeyPairs", KeyName__1=KEY_NAME)
            return file
        except Refused:
            pass
    ec2.call("DeleteKeyPair", KeyName=KEY_NAME)
    made = ec2.call("CreateKeyPair", KeyName=KEY_NAME)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(made.findtext("keyMaterial"))
    return file


def open_ssh(layout):
    """Port 22 of the default group, from everywhere."""
    try:
        client(layout).call(
            "AuthorizeSecurityGroupIngress", GroupName="default", IpPermissions__1__IpProtocol="tcp",
            IpPermissions__1__FromPort=22, IpPermissions__1__ToPort=22, IpPermissions__1__IpRanges__1__CidrIp="0.0.0.0/0",
        )  # fmt: skip
    except Refused as refused:
        if refused.code != "InvalidPermission.Duplicate":
            raise


def first_instance(layout, image):
    """The demo's instance: the one that still lives, else a new one."""
    known = layout.saved.get("instance")
    if known:
        try:
            if describe(layout, known)[0] in ("pending", "running"):
                return known
        except Refused:
            pass
    layout.saved["instance"] = run_instance(layout, image)
    layout.save()
    return layout.saved["instance"]


def run_instance(layout, image):
    made = client(layout).call("RunInstances", ImageId=image, MinCount=1, MaxCount=1, KeyName=KEY_NAME, InstanceType="m1.small")
    return made.findtext(".//instanceId")


def describe(layout, instance):
    found = client(layout).call("DescribeInstances", InstanceId__1=instance).find(".//instancesSet/item")
    reason = found.findtext("stateReason/message") or found.findtext("reason") or ""
    return found.findtext("instanceState/name"), found.findtext("ipAddress"), reason


def wait_running(layout, instance, say):
    until = time.monotonic() + RUNNING_TIMEOUT_S
    while time.monotonic() < until:
        state, address, reason = describe(layout, instance)
        if state == "running":
            return address
        if state not in ("pending", "running"):
            raise RuntimeError(f"{instance} is {state}: {reason}")
        say(f"{state} {reason}".strip()[:50])
        time.sleep(0.1)
    raise RuntimeError(f"{instance} was not running after {RUNNING_TIMEOUT_S} s: {reason}")


def ssh_argv(key, address):
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=2", "ServerAliveInterval=5", "ServerAliveCountMax=2"]
    return ["ssh", "-i", str(key), *(word for option in options for word in ("-o", option)), f"root@{address}"]


def login(layout, key, address, instance):
    """Logs in by ssh as soon as that works; what the guest says of itself is the proof."""
    until = time.monotonic() + SSH_TIMEOUT_S
    said = ""
    while time.monotonic() < until:
        done = subprocess.run([*ssh_argv(key, address), "uname -sr; hostname"], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip().replace("\n", ", ")
        said = done.stderr.strip()
        time.sleep(0.2)
    raise RuntimeError(f"no login at {address} after {SSH_TIMEOUT_S} s: {said}\n{console(layout, instance)}")


def console(layout, instance):
    output = client(layout).call("GetConsoleOutput", InstanceId=instance).findtext("output") or ""
    return base64.b64decode(output).decode(errors="replace")[-2000:]
