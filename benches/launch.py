"""RunInstances until `running` on a warm cache, against the least that anybody must do for it:
`qemu-img create` of the overlay and `virsh create` of the same domain, on the same node, in turns.

Bare has everything else made beforehand, untimed: scratch disks, network, XML.
"""

import json
import os
import pathlib
import re
import subprocess
import time
import uuid

import credentials
import demo
from caller import Caller
from figures import milliseconds, percentile
from layout import Layout

TARGET_MS = 150
# Seldom enough that asking takes nothing from what is measured; on average ours is half of it too long.
POLL_S = 0.02
# A guest that has booted is quiet; one that boots takes a core from whoever is measured.
BOOT_S = 25
# What follows the end of one guest (its disks, its rules) is not to fall on the next.
REST_S = 1.5


def bench(given):
    layout = Layout(given.state)
    said = credentials.load(layout)
    ec2 = Caller(f"{layout.api_url}/", said["access_key_id"], said["secret_access_key"], said["region"])
    image = layout.saved["image"]
    model = start(ec2, image)[1]
    bare = Bare(layout, model)
    time.sleep(BOOT_S)
    ours, theirs, moments = [], [], {}
    for _ in range(given.rounds):
        time.sleep(REST_S)
        took, instance = start(ec2, image)
        ours.append(took)
        for step, elapsed_ms in timeline(layout, instance):
            moments.setdefault(step, []).append(elapsed_ms)
        terminate(ec2, instance)
        time.sleep(REST_S)
        theirs.append(bare.start())
    terminate(ec2, model)
    print(f"Mallee, RunInstances to running   {milliseconds(ours)}")
    print(f"bare, qemu-img + virsh create     {milliseconds(theirs)}")
    print("of Mallee's, ms at p50 since each daemon heard of it:", ", ".join(f"{step} {percentile(times, 50)}" for step, times in moments.items()))
    over = (percentile(ours, 50) - percentile(theirs, 50)) * 1000
    print(f"ratio {percentile(ours, 50) / percentile(theirs, 50):.2f}; over bare at p50: {over:.0f} ms (target: at most {TARGET_MS} ms)")


def start(ec2, image):
    """Seconds from the request to `running`, as a client sees it."""
    began = time.monotonic()
    made = ec2.call("RunInstances", ImageId=image, MinCount=1, MaxCount=1, InstanceType="m1.small", KeyName=demo.KEY_NAME)
    instance = re.search(r"<instanceId>(i-[0-9a-f]+)<", made).group(1)
    while (state := ec2.state(instance)) != "running":
        if state != "pending":
            raise RuntimeError(f"{instance} is {state}")
        time.sleep(POLL_S)
    return time.monotonic() - began, instance


def timeline(layout, instance):
    """Steps with the milliseconds since the launch was admitted or its node heard of it."""
    mallee = pathlib.Path(os.readlink(f"/proc/{clc_pid(layout)}/exe")).parent / "mallee"
    argv = [mallee, "explain", instance, "--output", "json"]
    out = subprocess.run(argv, env=os.environ | credentials.variables(layout), capture_output=True, text=True)
    steps = json.loads(out.stdout)["timeline"] if out.returncode == 0 else []
    return [(f"{moment['by'].split('-')[0]}:{moment['step']}", moment["elapsed_ms"]) for moment in steps]


def clc_pid(layout):
    import daemons

    return daemons.cloud_controller(layout).pid


def terminate(ec2, instance):
    ec2.call("TerminateInstances", InstanceId__1=instance)
    while ec2.state(instance) != "terminated":
        time.sleep(0.05)


class Bare:
    """The same domain made by hand: its XML with another name, disks, address and tap."""

    def __init__(self, layout, instance):
        for node in layout.nodes:
            uri = f"qemu+unix:///system?socket={node.libvirt_socket}"
            dumped = subprocess.run(["virsh", "-c", uri, "dumpxml", "--inactive", instance], capture_output=True, text=True)
            if dumped.returncode == 0:
                self.uri, self.xml = uri, dumped.stdout
                break
        self.disk, *self.scratch = re.findall(r"<source file='([^']+)'(?: index='\d+')?/>", self.xml)
        # The disk is in use by its guest, which only reads of its header disturb.
        info = subprocess.run(["qemu-img", "info", "-U", self.disk], capture_output=True, text=True, check=True).stdout
        self.backing = re.search(r"^backing file: (.+?)(?: \(actual path.*)?$", info, re.M).group(1)
        self.size = re.search(r"\((\d+) bytes\)", info).group(1)
        self.scratch = [path for path in self.scratch if path != self.backing]
        self.folder = layout.dir("bench")
        self.folder.mkdir(exist_ok=True)

    def start(self):
        name = f"bare-{uuid.uuid4().hex[:8]}"
        disk = self.folder / f"{name}.qcow2"
        xml = self.folder / f"{name}.xml"
        xml.write_text(self.described(name, disk))
        began = time.monotonic()
        options = "extended_l2=on,cluster_size=128k,preallocation=metadata,lazy_refcounts=on"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", self.backing, "-F", "raw", str(disk), self.size], check=True)
        subprocess.run(["virsh", "-q", "-c", self.uri, "create", str(xml)], check=True)
        took = time.monotonic() - began
        subprocess.run(["virsh", "-q", "-c", self.uri, "destroy", name], check=True)
        for file in self.folder.glob(f"{name}*"):
            file.unlink()
        return took

    def start_raw(self, disk):
        """The same domain on a raw disk that is there; the moment at which it ran."""
        name = f"bare-{uuid.uuid4().hex[:8]}"
        xml = self.folder / f"{name}.xml"
        text = self.described(name, disk).replace("type='qcow2'", "type='raw'")
        xml.write_text(re.sub(r"<backingStore.*?</backingStore>", "", text, flags=re.S))
        subprocess.run(["virsh", "-q", "-c", self.uri, "create", str(xml)], check=True)
        ran = time.monotonic()
        subprocess.run(["virsh", "-q", "-c", self.uri, "destroy", name], check=True)
        for file in self.folder.glob(f"{name}*"):
            file.unlink()
        return ran

    def described(self, name, disk):
        text = re.sub(r"<uuid>.*?</uuid>", "", self.xml)
        text = re.sub(r"<sysinfo.*?</sysinfo>", "", text, flags=re.S)
        text = re.sub(r"<smbios mode='sysinfo'/>", "", text)
        text = re.sub(r"<name>.*?</name>", f"<name>{name}</name>", text)
        text = re.sub(r"<mac address='..:..:", "<mac address='d0:0e:", text)
        text = re.sub(r"<target dev='mt[0-9a-f]+'/>", "", text)
        text = re.sub(r"<log file='[^']+'", f"<log file='{self.folder}/{name}.log'", text)
        for number, path in enumerate(self.scratch):
            own = self.folder / f"{name}.{number}.raw"
            own.touch()
            os.truncate(own, os.path.getsize(path))
            text = text.replace(path, str(own))
        return text.replace(self.disk, str(disk))
