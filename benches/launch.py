"""RunInstances until `running` on a warm cache, against the least that anybody must do for it:
`qemu-img create` of the overlay and `virsh create` of the same domain, on the same node, in turns.
"""

import re
import subprocess
import time
import uuid

import demo
from figures import milliseconds, percentile
from layout import Layout

TARGET_MS = 150
POLL_S = 0.005


def bench(given):
    layout = Layout(given.state)
    image = layout.saved["image"]
    model = start(layout, image)[1]
    bare = Bare(layout, model)
    ours, theirs = [], []
    for _ in range(given.rounds):
        took, instance = start(layout, image)
        ours.append(took)
        terminate(layout, instance)
        theirs.append(bare.start())
    terminate(layout, model)
    print(f"Mallee, RunInstances to running   {milliseconds(ours)}")
    print(f"bare, qemu-img + virsh create     {milliseconds(theirs)}")
    over = (percentile(ours, 50) - percentile(theirs, 50)) * 1000
    print(f"ratio {percentile(ours, 50) / percentile(theirs, 50):.2f}; over bare at p50: {over:.0f} ms (target: at most {TARGET_MS} ms)")


def start(layout, image):
    """Seconds from the request to `running`, as a client sees it."""
    ec2 = demo.client(layout)
    began = time.monotonic()
    made = ec2.call("RunInstances", ImageId=image, MinCount=1, MaxCount=1, InstanceType="m1.small", KeyName=demo.KEY_NAME)
    instance = made.findtext(".//instanceId")
    while (state := demo.describe(layout, instance)[0]) != "running":
        if state != "pending":
            raise RuntimeError(f"{instance} is {state}")
        time.sleep(POLL_S)
    return time.monotonic() - began, instance


def terminate(layout, instance):
    demo.client(layout).call("TerminateInstances", InstanceId__1=instance)
    while demo.describe(layout, instance)[0] != "terminated":
        time.sleep(0.05)


class Bare:
    """The same domain made by hand: its XML with another name, disk, address and tap."""

    def __init__(self, layout, instance):
        for node in layout.nodes:
            uri = f"qemu+unix:///system?socket={node.libvirt_socket}"
            dumped = subprocess.run(["virsh", "-c", uri, "dumpxml", "--inactive", instance], capture_output=True, text=True)
            if dumped.returncode == 0:
                self.uri, self.xml = uri, dumped.stdout
                break
        self.disk = re.search(r"<source file='([^']+)'", self.xml).group(1)
        # The disk is in use by its guest, which only reads of its header disturb.
        info = subprocess.run(["qemu-img", "info", "-U", self.disk], capture_output=True, text=True, check=True).stdout
        self.backing = re.search(r"^backing file: (.+?)(?: \(actual path.*)?$", info, re.M).group(1)
        self.size = re.search(r"\((\d+) bytes\)", info).group(1)
        self.folder = layout.dir("bench")
        self.folder.mkdir(exist_ok=True)

    def start(self):
        name = f"bare-{uuid.uuid4().hex[:8]}"
        disk = self.folder / f"{name}.qcow2"
        xml = self.folder / f"{name}.xml"
        text = re.sub(r"<uuid>.*?</uuid>", "", self.xml)
        text = re.sub(r"<sysinfo.*?</sysinfo>", "", text, flags=re.S)
        text = re.sub(r"<smbios mode='sysinfo'/>", "", text)
        text = re.sub(r"<name>.*?</name>", f"<name>{name}</name>", text)
        text = re.sub(r"<mac address='..:..:", "<mac address='d0:0e:", text)
        text = re.sub(r"<target dev='mt[0-9a-f]+'/>", "", text)
        text = re.sub(r"<log file='[^']+'", f"<log file='{self.folder}/{name}.log'", text)
        text = text.replace(self.disk, str(disk))
        xml.write_text(text)
        began = time.monotonic()
        options = "extended_l2=on,cluster_size=128k,preallocation=metadata,lazy_refcounts=on"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", self.backing, "-F", "raw", str(disk), self.size], check=True)
        subprocess.run(["virsh", "-q", "-c", self.uri, "create", str(xml)], check=True)
        took = time.monotonic() - began
        subprocess.run(["virsh", "-q", "-c", self.uri, "destroy", name], check=True)
        for file in self.folder.glob(f"{name}*"):
            file.unlink()
        return took
