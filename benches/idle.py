"""What the five daemons take when nothing happens: resident memory and processor time."""

import os
import pathlib
import time

import daemons
from layout import Layout

SECONDS = 20
MEMORY_TARGET_MIB = 256
CPU_TARGET_PERCENT = 1.0


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench(given):
    layout = Layout(given.state)
    running = [daemon for daemon in daemons.all_daemons(layout) if daemon.pid]
    before = {daemon.name: cpu_seconds(daemon.pid) for daemon in running}
    time.sleep(SECONDS)
    memory = cpu = 0
    for daemon in running:
        took = 100 * (cpu_seconds(daemon.pid) - before[daemon.name]) / SECONDS
        print(f"{daemon.name:<10}{resident_mib(daemon.pid):8.1f} MiB {took:7.2f} % of a core")
        memory, cpu = memory + resident_mib(daemon.pid), cpu + took
    print(f"{'together':<10}{memory:8.1f} MiB {cpu:7.2f} % of a core")
    print(f"ratio to the target: memory {memory / MEMORY_TARGET_MIB:.2f} of {MEMORY_TARGET_MIB} MiB, processor {cpu / CPU_TARGET_PERCENT:.2f} of {CPU_TARGET_PERCENT} %")
