"""Tests over a real cloud with real clients. Prints PASS, FAIL or SKIP and a name for each.

  python3 tests/cloud [NAME ...]      all of them, or those whose name holds one of the words

MALLEE_LONG=1 runs the campaigns whole, MALLEE_SEED=N another course of the kills, MALLEE_KILLS=N
so many of them,
MALLEE_KEEP=DIR keeps the cloud there and uses it again, MALLEE_BINARIES=DIR takes the daemons from
there instead of building them.
"""

import os
import sys
import tempfile
import time
import traceback

from lab import Cloud, Failed, Skip  # first: it makes deploy/lab importable

import campaigns
import clients
import guests
import hostile
import kernels
import objects

MODULES = [clients, objects, guests, kernels, hostile, campaigns]


def tests(words):
    """Each test is a function whose name says what it shows; `test_` is dropped."""
    found = [(f.__name__, f) for module in MODULES for f in vars(module).values() if getattr(f, "__module__", "") == module.__name__ and f.__name__.startswith("test_")]
    return [(name, f) for name, f in found if not words or any(word in name for word in words)]


def run(cloud, name, test):
    started = time.monotonic()
    try:
        test(cloud)
        word, why = "PASS", ""
    except Skip as skip:
        word, why = "SKIP", f": {skip}"
    except (Failed, Exception) as error:  # noqa: BLE001
        word, why = "FAIL", f": {error}"
        if not isinstance(error, Failed):
            traceback.print_exc(file=sys.stdout)
    print(f"{word} cloud: {name.removeprefix('test_').replace('_', ' ')} [{time.monotonic() - started:.1f} s]{why}", flush=True)
    return word != "FAIL"


def main():
    keep = os.environ.get("MALLEE_KEEP")
    state = keep or tempfile.mkdtemp(prefix="mallee-test-", dir="/var/tmp")
    cloud = Cloud(state)
    good = True
    try:
        if not run(cloud, "test_up_ends_with_a_login", lambda cloud: cloud.up()):
            return 1
        for name, test in tests(sys.argv[1:]):
            good &= run(cloud, name, test)
    finally:
        if not keep:
            cloud.command("destroy")
    return 0 if good else 1


sys.exit(main())
