"""Daemons killed at seeded moments during launches and terminations; then the invariants."""

import os
import random
import signal
import threading
import time

from aws import Refused
from lab import Failed, check, eventually

KILLS = int(os.environ.get("MALLEE_KILLS", 300 if os.environ.get("MALLEE_LONG") else 20))
SEED = int(os.environ.get("MALLEE_SEED", "1"))
SETTLE_S = 90


class Load(threading.Thread):
    """Launches and terminates until told to stop; remembers what was acknowledged."""

    def __init__(self, cloud, seed):
        super().__init__(daemon=True)
        self.cloud, self.rng, self.stop = cloud, random.Random(seed), threading.Event()
        self.launched, self.terminated, self.tokens = [], set(), {}
        self.began = time.time_ns()

    def run(self):
        while not self.stop.is_set():
            try:
                self.step()
            except (Refused, OSError):
                pass  # Not acknowledged: nothing is owed.
            self.stop.wait(self.rng.uniform(0.05, 0.6))

    def step(self):
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


def test_kill_9_of_any_daemon_at_any_moment_loses_nothing(cloud):
    rng = random.Random(SEED)
    keeper, *_ = cloud.launch()
    address = cloud.wait_state(keeper, "running")
    cloud.ssh(address, "true")
    pid = cloud.guests()[keeper]
    load = Load(cloud, SEED)
    load.start()
    struck = {}
    for number in range(KILLS):
        time.sleep(rng.uniform(0.1, 1.5))
        daemon = rng.choice(cloud.daemons())
        if daemon.pid:
            os.kill(daemon.pid, signal.SIGKILL)
            struck[daemon.program] = struck.get(daemon.program, 0) + 1
            time.sleep(rng.uniform(0, 0.5))
        cloud.restart(daemon)
        check(cloud.guests().get(keeper) == pid, f"seed {SEED}, kill {number} of {daemon.name}: the guest is gone")
    load.stop.set()
    load.join(timeout=60)
    print(f"   {KILLS} kills with seed {SEED}: {struck}; {len(load.launched)} launches, {len(load.terminated)} terminations acknowledged")
    settle(cloud, load)
    check(cloud.guests().get(keeper) == pid, "the guest that ran before has another pid")
    cloud.ssh(address, "true")
    repeat_tokens(cloud, load)
    cloud.terminate(keeper, *[i for i in load.launched if i not in load.terminated])
    cloud.verify()
    check(not cloud.guests().keys() & set(load.launched), f"guests without a record: {cloud.guests()}")


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
    cloud.verify()


def repeat_tokens(cloud, load):
    """The same token again answers the same instance: nothing was launched twice."""
    for token, instance in load.tokens.items():
        if instance:
            again, *_ = cloud.launch(ClientToken=token)
            check(again == instance, f"token {token} made {instance} and then {again}")
