"""DescribeInstances at scale, raw HTTP, signatures on, beside moto's server doing the same.

The instances are rows in the Cloud Controller's own database, written while it is down: its tables,
its queries, its XML, without the nodes that it has no need of for an answer.
"""

import contextlib
import json
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

from aws import Ec2
from caller import Caller
from figures import milliseconds, percentile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = (1_000, 10_000)
TARGET = 50
FULL_ROUNDS = 7
SINGLE_ROUNDS = 300
# moto needs seconds for each full answer.
MOTO_FULL_ROUNDS = 3
MOTO_BATCH = 100
UP_TIMEOUT_S = 30


def bench(given):
    moto = install_moto()
    for size in SIZES:
        print(f"\n{size} instances")
        with mallee(size) as (url, credentials, ids), moto_server(moto, size) as (moto_url, moto_credentials, moto_ids):
            ours = Side("Mallee", Caller(url, *credentials, "us-east-1"), ids)
            theirs = Side("moto", Caller(moto_url, *moto_credentials, "us-east-1"), moto_ids)
            # In turns, so that whatever else the machine does falls on both.
            for _ in range(MOTO_FULL_ROUNDS):
                ours.list(FULL_ROUNDS)
                theirs.list(1)
            ours.list(FULL_ROUNDS)
            ours.single()
            theirs.single()
        ours.show()
        theirs.show()
        full, one = (percentile(t, 50) / percentile(o, 50) for o, t in ((ours.full, theirs.full), (ours.one, theirs.one)))
        print(f"full listing: {full:.0f}× moto at p50 (target: at least {TARGET}×); one id: {one:.1f}×")


class Side:
    """One of the two servers, and what it took."""

    def __init__(self, name, caller, ids):
        self.name, self.caller, self.ids = name, caller, ids
        self.full, self.one = [], []

    def list(self, rounds):
        self.full += [self.caller.seconds("DescribeInstances") for _ in range(rounds)]

    def single(self):
        ids = (self.ids[n * 7919 % len(self.ids)] for n in range(SINGLE_ROUNDS))
        self.one += [self.caller.seconds("DescribeInstances", InstanceId__1=one) for one in ids]

    def show(self):
        print(f"{self.name:<8} full listing  {milliseconds(self.full)}   {self.caller.bytes / 1e6:.1f} MB")
        print(f"{self.name:<8} one id        {milliseconds(self.one)}   {len(self.one) / sum(self.one):.0f} calls/s on one connection")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_listening(port, process):
    until = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not come up")


@contextlib.contextmanager
def running(argv, port):
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_listening(port, process)
        yield
    finally:
        process.terminate()
        process.wait()


# ---- Mallee -------------------------------------------------------------------------------------


@contextlib.contextmanager
def mallee(size):
    program = ROOT / "target/release/mallee-clc"
    if not program.exists():
        subprocess.run(["cargo", "build", "--release", "-p", "mallee-clc"], cwd=ROOT, check=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mallee-bench-", dir="/var/tmp"))
    port = free_port()
    config = folder / "clc.toml"
    config.write_text(
        f'state_dir = "{folder}/clc"\n[api]\nlisten = "127.0.0.1:{port}"\n'
        f'[control]\nlisten = "127.0.0.1:{free_port()}"\n[admin]\nlisten = "127.0.0.1:{free_port()}"\n'
    )
    try:
        init = subprocess.run([program, "init", "--config", config, "--output", "json"], capture_output=True, text=True, check=True)
        said = json.loads(init.stdout)
        ids = populate(folder / "clc/clc.db", said["account_id"], size)
        with running([program, "--config", config], port):
            yield f"http://127.0.0.1:{port}/", (said["access_key_id"], said["secret_access_key"]), ids
    finally:
        shutil.rmtree(folder)


def hex_id(prefix, number):
    return f"{prefix}{number:017x}"


def populate(database, account, size):
    """Instances as RunInstances would have left them, running."""
    db = sqlite3.connect(database)
    now = int(time.time() * 1000)
    (vpc,) = db.execute("SELECT id FROM vpcs WHERE account = ?", (account,)).fetchone()
    subnet, zone = db.execute("SELECT id, zone FROM subnets WHERE vpc = ?", (vpc,)).fetchone()
    group = hex_id("sg-", 1)
    image = hex_id("emi-", 1)
    insert(db, "security_groups", [dict(id=group, account=account, vpc=vpc, name="bench", description="bench", short=1 << 20, created_at=now)])
    insert(db, "images", [dict(
        id=image, account=account, kind="machine", state="available", name="bench", architecture="x86_64",
        location="b/m.manifest.xml", size_bytes=1, manifest_sha256="00" * 32, created_at=now,
    )])  # fmt: skip
    numbers = range(1, size + 1)
    insert(db, "reservations", (dict(id=hex_id("r-", n), account=account, created_at=now) for n in numbers))
    insert(db, "instances", (dict(
        id=hex_id("i-", n), reservation=hex_id("r-", n), launch_index=0, account=account, image=image, architecture="x86_64",
        vm_type="m1.small", vcpus=1, memory_mib=256, disk_gib=5, zone=zone, launched_at=now, wanted="running",
        state="running", state_since=now, taken_generation=1,
    ) for n in numbers))  # fmt: skip
    insert(db, "interfaces", (dict(
        id=hex_id("eni-", n), attachment=hex_id("eni-attach-", n), instance=hex_id("i-", n), account=account, vpc=vpc, subnet=subnet,
        zone=zone, short=(1 << 21) + n, mac=f"d0:0d:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
        private_address=f"172.31.{n >> 8}.{n & 255}", created_at=now,
    ) for n in numbers))  # fmt: skip
    insert(db, "interface_groups", (dict(interface=hex_id("eni-", n), security_group=group) for n in numbers))
    insert(db, "tags", (dict(account=account, resource=hex_id("i-", n), kind="instance", key="Name", value=f"bench-{n}") for n in numbers))
    db.commit()
    db.close()
    return [hex_id("i-", n) for n in numbers]


def insert(db, table, rows):
    rows = iter(rows)
    first = next(rows)
    names = ", ".join(first)
    marks = ", ".join(f":{name}" for name in first)
    statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    db.execute(statement, first)
    db.executemany(statement, rows)


# ---- moto ---------------------------------------------------------------------------------------


def install_moto():
    folder = ROOT / "target/bench"
    if not (folder / "bin/moto_server").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin/pip"), "install", "-q", "moto[server,ec2]"], check=True)
    return folder / "bin/moto_server"


@contextlib.contextmanager
def moto_server(program, size):
    port = free_port()
    with running([str(program), "-H", "127.0.0.1", "-p", str(port)], port):
        url = f"http://127.0.0.1:{port}/"
        ec2 = Ec2(url, "AKIAABCDEFGHIJKLMNOP", "any", "us-east-1")
        image = ec2.call("DescribeImages").findtext(".//imageId")
        ids = []
        while len(ids) < size:
            made = ec2.call("RunInstances", ImageId=image, MinCount=MOTO_BATCH, MaxCount=MOTO_BATCH)
            ids += [item.text for item in made.findall(".//instanceId")]
        yield url, ("AKIAABCDEFGHIJKLMNOP", "any"), ids
