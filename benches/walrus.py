"""Walrus beside Garage, radosgw, nginx, MD5 and the disk: the bench itself is walrus/benches/peers."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def bench(given):
    argv = ["cargo", "bench", "-q", "-p", "mallee-walrus", "--bench", "peers", "--", "--rounds", str(min(given.rounds, 5))]
    subprocess.run(argv, cwd=ROOT, check=True)
