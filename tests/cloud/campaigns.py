"""Daemons killed at seeded moments during launches, terminations, uploads, volumes and keys; then the
invariants I1 to I8, of what was acknowledged and of what is left on the hosts."""

import json
import os
import random
import re
import subprocess
import threading
import time

import libvirt
from aws import Refused
from lab import Failed, check, equal, eventually

KILLS = int(os.environ.get("MALLEE_KILLS", 300 if os.environ.get("MALLEE_LONG") else 20))
SEED = int(os.environ.get("MALLEE_SEED", "1"))
SETTLE_S = 90
HOLD_LEASE_S = 60


class Load(threading.Thread):
    """Launches and terminates, writes objects, makes volumes and keys, until told to stop; remembers
    what was acknowledged."""

    def __init__(self, cloud, seed):
        super().__init__(daemon=True)
        self.cloud, self.rng, self.stop = cloud, random.Random(seed), threading.Event()
        self.began = time.time_ns()
        self.launched, self.terminated, self.tokens = [], set(), {}
        self.bucket, self.written = f"campaign-{self.began}", {}
        self.volumes, self.keys = [], []

    def run(self):
        while not self.stop.is_set():
            try:
                self.rng.choice([self.instances, self.instances, self.write, self.make])()
            except (Refused, OSError):
                pass  # Not acknowledged: nothing is owed.
            self.stop.wait(self.rng.uniform(0.05, 0.4))

    def instances(self):
        alive = [instance for instance in self.launched if instance not in self.terminated]
        if len(alive) < 5 and (len(alive) < 2 or self.rng.random() < 0.6):
            token = f"campaign-{self.began}-{len(self.tokens)}"
            self.tokens.setdefault(token, None)
            instance, *_ = self.cloud.launch(ClientToken=token)
            self.tokens[token] = instance
            self.launched.append(instance)
        else:
            instance = self.rng.choice(alive)
            self.cloud.ec2.call("TerminateInstances", InstanceId__1=instance)
            self.terminated.add(instance)

    def write(self):
        """An object: small ones live in the journal, larger ones in files of their own."""
        s3 = self.cloud.s3
        if not self.written:
            s3.put(self.bucket)
        key, body = f"{len(self.written)}", self.rng.randbytes(self.rng.choice([100, 5_000, 300_000]))
        s3.put(f"{self.bucket}/{key}", body)
        self.written[key] = body

    def make(self):
        """A volume or a key pair."""
        number = len(self.volumes) + len(self.keys)
        if self.rng.random() < 0.5:
            made = self.cloud.ec2.call("CreateVolume", AvailabilityZone=self.cloud.zone, Size=1)
            self.volumes.append(made.findtext("volumeId"))
        else:
            name = f"campaign-{self.began}-{number}"
            self.cloud.ec2.call("CreateKeyPair", KeyName=name)
            self.keys.append(name)


def test_kill_9_of_any_daemon_at_any_moment_loses_nothing(cloud):
    rng = random.Random(SEED)
    keeper, *_ = cloud.launch()
    address = cloud.wait_state(keeper, "running")
    cloud.ssh(address, "true")
    pid = cloud.guests()[keeper]
    load = Load(cloud, SEED)
    load.start()
    struck = {}
    # Each daemon at least once, whatever the seed; then as the dice fall.
    first = rng.sample(cloud.daemons(), len(cloud.daemons()))
    for number in range(KILLS):
        time.sleep(rng.uniform(0.1, 1.5))
        daemon = first.pop() if first else rng.choice(cloud.daemons())
        if daemon.pid:
            cloud.kill(daemon)
            struck[daemon.program] = struck.get(daemon.program, 0) + 1
            time.sleep(rng.uniform(0, 0.5))
        cloud.restart(daemon)
        check(cloud.guests().get(keeper) == pid, f"seed {SEED}, kill {number} of {daemon.name}: the guest is gone")
    load.stop.set()
    load.join(timeout=60)
    print(
        f"   {KILLS} kills with seed {SEED}: {struck}; acknowledged: {len(load.launched)} launches, {len(load.terminated)} terminations,"
        f" {len(load.written)} objects, {len(load.volumes)} volumes, {len(load.keys)} keys"
    )
    equal(set(struck), {"clc", "cc", "nc", "sc", "walrus"}, f"seed {SEED}: daemons that were struck")
    settle(cloud, load)
    read_back(cloud, load)
    check(cloud.guests().get(keeper) == pid, "the guest that ran before has another pid")
    cloud.ssh(address, "true")
    repeat_tokens(cloud, load)
    cloud.terminate(keeper, *[i for i in load.launched if i not in load.terminated])
    cloud.verify()
    nothing_is_left(cloud, [keeper, *load.launched])
    give_back(cloud, load)


def settle(cloud, load):
    """Every acknowledged instance reaches a state that lasts, and those terminated are so."""

    def settled():
        """no instance is on its way, and the terminated are terminated"""
        states = {instance: cloud.state_of(instance) for instance in load.launched}
        on_the_way = [i for i, state in states.items() if state in ("pending", "shutting-down")]
        back = [i for i in load.terminated if states[i] != "terminated"]
        return not on_the_way and not back

    try:
        eventually(settled, SETTLE_S, 0.5)
    except Failed:
        states = {instance: cloud.describe(instance) for instance in load.launched}
        raise Failed(f"seed {SEED}: not settled: {states}") from None
    running = {i for i in load.launched if cloud.state_of(i) == "running"}
    lost = running - cloud.guests().keys()
    check(not lost, f"seed {SEED}: said to run but do not: {lost}")
    # A launch that died with its daemon may hold its room until the end of its lease.
    cloud.verify(within_s=HOLD_LEASE_S + 15)


def repeat_tokens(cloud, load):
    """The same token again answers the same instance: nothing was launched twice."""
    for token, instance in load.tokens.items():
        if instance:
            again, *_ = cloud.launch(ClientToken=token)
            check(again == instance, f"token {token} made {instance} and then {again}")


def read_back(cloud, load):
    """What was acknowledged is there, and equal; nothing is half made or on its way."""
    for key, body in load.written.items():
        equal(cloud.s3.get(f"{load.bucket}/{key}"), body, f"seed {SEED}: object {key}")
    listed = cloud.ec2.call("DescribeKeyPairs")
    lost = set(load.keys) - {item.text for item in listed.findall(".//keyName")}
    check(not lost, f"seed {SEED}: keys lost: {lost}")

    def volumes():
        """every volume is available"""
        items = cloud.ec2.call("DescribeVolumes").findall("volumeSet/item")
        states = {item.findtext("volumeId"): item.findtext("status") for item in items}
        missing = [volume for volume in load.volumes if volume not in states]
        check(not missing, f"seed {SEED}: volumes lost: {missing}")
        return all(states[volume] == "available" for volume in load.volumes)

    eventually(volumes, SETTLE_S, 0.5)
    files = {path.name for path in cloud.layout.dir("sc").rglob("vol-*")}
    for volume in load.volumes:
        check(any(name.startswith(volume) for name in files), f"seed {SEED}: {volume} has no file")


def nothing_is_left(cloud, instances):
    """No guest, tap, lease, rule or file of instances that are over, on any host."""

    def traces():
        found = [f"guest {name}" for name in cloud.guests() if name in instances]
        for node in cloud.layout.nodes:
            known = subprocess.run(
                ["virsh", "-q", "-c", f"qemu+unix:///system?socket={node.libvirt_socket}", "list", "--all", "--name"],
                capture_output=True, text=True, check=True,
            ).stdout.split()  # fmt: skip
            found += [f"domain {name} on {node.name}" for name in known if name in instances]
            links = json.loads(subprocess.run(["ip", "-n", node.namespace, "-j", "link"], capture_output=True, check=True).stdout)
            # Other tests' guests may run beside: a tap for each guest, and no more.
            taps = [link["ifname"] for link in links if re.fullmatch(r"mt\d+", link["ifname"])]
            if len(taps) > len(libvirt.guests(node)):
                found.append(f"{len(taps)} taps on {node.name} for {len(libvirt.guests(node))} guests: {taps}")
        for instance in instances:
            found += [str(path) for path in cloud.traces_of(instance)]
        return found

    def clean():
        """nothing of them is left"""
        return not traces()

    try:
        eventually(clean, 30, 0.5)
    except Failed:
        raise Failed(f"seed {SEED}: left behind: {traces()}") from None


def give_back(cloud, load):
    """So that a campaign can follow on the same cloud."""
    for volume in load.volumes:
        cloud.ec2.call("DeleteVolume", VolumeId=volume)
    for name in load.keys:
        cloud.ec2.call("DeleteKeyPair", KeyName=name)
    # The last one may be there though nobody was told so.
    for number in range(len(load.written) + 1 if load.written else 0):
        cloud.s3.delete(f"{load.bucket}/{number}")
    if load.written:
        cloud.s3.delete(load.bucket)
