"""One image on N nodes that want it at the same moment, none of which has it, none of which shares a
cache: what that costs Walrus, and when all have it.

Real nodes, each in a network namespace of its own: `deploy/cloud up --nodes 8`. The image is a sparse
disk that is made, installed and removed here.
"""

import json
import os
import pathlib
import random
import re
import subprocess
import time
import urllib.request

import credentials
from caller import Caller
from launch import clc_pid
from layout import Layout

BUCKET = "mallee-bench"
NAME = "mallee-bench-fanout"
# A small machine image: what is written of it does not compress, the rest is holes.
IMAGE_MIB, DATA_MIB = 1024, 160
COUNTS = (1, 2, 4, 8)


def bench(given):
    layout = Layout(given.state)
    cloud = Cloud(layout)
    counts = [count for count in COUNTS if count <= len(layout.nodes)]
    if len(counts) < len(COUNTS):
        print(f"SKIPPED: {len(layout.nodes)} nodes; `deploy/cloud up --nodes {COUNTS[-1]}` gives the whole table")
    image = cloud.install(make_disk(layout.dir("bench") / "fanout.img"))
    try:
        report([cloud.spread(image, nodes) for nodes in (cloud.nodes[:count] for count in counts)])
    finally:
        cloud.remove(image)


def report(rows):
    """The first row, one node alone, is what the others are ratios to."""
    alone = rows[0]
    print(f"an image of {IMAGE_MIB} MiB with {DATA_MIB} MiB of data, in no cache before")
    print(f"{'nodes':>5}  {'read from Walrus':>16}  {'ratio':>5}  {'until all have it':>17}  {'ratio':>5}  {'N reads would be':>16}")
    for nodes, sent, took in rows:
        print(
            f"{nodes:5}  {sent / 2**20:12.1f} MiB  {sent / alone[1]:5.2f}  {took:15.2f} s  {took / alone[2]:5.2f}"
            f"  {nodes * alone[1] / 2**20:12.1f} MiB"
        )


def make_disk(path):
    path.parent.mkdir(exist_ok=True)
    noise = random.Random(7)
    with open(path, "wb") as disk:
        disk.truncate(IMAGE_MIB << 20)
        for piece in range(DATA_MIB):
            disk.seek(piece * (IMAGE_MIB // DATA_MIB) << 20)
            disk.write(noise.randbytes(1 << 20))
    return path


class Cloud:
    """The running cloud, by its own command and API."""

    def __init__(self, layout):
        self.layout = layout
        said = credentials.load(layout)
        self.ec2 = Caller(f"{layout.api_url}/", said["access_key_id"], said["secret_access_key"], said["region"])
        self.mallee = pathlib.Path(os.readlink(f"/proc/{clc_pid(layout)}/exe")).parent / "mallee"
        self.nodes = [node["node"] for node in self.run("nodes") if node["reach"] == "up"]

    def run(self, *words):
        argv = [self.mallee, *words, "--output", "json"]
        out = subprocess.run(argv, env=os.environ | credentials.variables(self.layout), capture_output=True, text=True)
        if out.returncode != 0:
            raise RuntimeError(f"mallee {' '.join(words)}: {out.stdout}{out.stderr}")
        return json.loads(out.stdout)

    def install(self, disk):
        made = self.run("image", "install", str(disk), "--bucket", BUCKET, "--name", f"{NAME}-{int(time.time())}")
        disk.unlink()
        return made["image_id"]

    def spread(self, image, nodes):
        """How many nodes, the bytes that Walrus sent for it, and the seconds until all have it."""
        self.run("image", "cache", "evict", image)
        before, began = self.sent_bytes(), time.monotonic()
        self.run("image", "cache", "warm", image, *(word for node in nodes for word in ("--node", node)))
        return len(nodes), self.sent_bytes() - before, time.monotonic() - began

    def sent_bytes(self):
        url = f"http://127.0.0.1:{self.layout.port('walrus_admin')}/metrics"
        shown = urllib.request.urlopen(url, timeout=10).read().decode()
        return int(re.search(r"^\S*sent_bytes(?:_total)?(?:\{.*\})? (\d+)", shown, re.M).group(1))

    def remove(self, image):
        self.run("image", "cache", "evict", image)
        self.ec2.call("DeregisterImage", ImageId=image)
