"""What a person sees while the cloud comes up: one line for each step, and a table at the end."""

import contextlib
import sys
import threading
import time

TICK_S = 0.5


class Progress:
    """Times steps. On a terminal a running step shows its seconds; elsewhere a line when done."""

    def __init__(self):
        self.steps = []
        self.terminal = sys.stderr.isatty()
        self.note = ""

    @contextlib.contextmanager
    def step(self, name):
        self.note = ""
        started = time.monotonic()
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(name, started, stop), daemon=True)
        if self.terminal:
            ticker.start()
        else:
            print(f"  … {name}", file=sys.stderr, flush=True)
        try:
            yield self
        except BaseException:
            stop.set()
            self._line(f"  ✗ {name}", time.monotonic() - started)
            raise
        stop.set()
        seconds = time.monotonic() - started
        self.steps.append((name, seconds))
        self._line(f"  ✓ {name}", seconds)

    def say(self, note):
        """What the running step is at, shown behind its name."""
        self.note = note

    def _tick(self, name, started, stop):
        while not stop.wait(TICK_S):
            note = f" ({self.note})" if self.note else ""
            print(f"\r\033[K  … {name}{note} {time.monotonic() - started:5.1f} s", end="", file=sys.stderr, flush=True)

    def _line(self, text, seconds):
        start = "\r\033[K" if self.terminal else ""
        print(f"{start}{text:<58}{seconds:8.1f} s", file=sys.stderr, flush=True)

    def table(self):
        width = max(len(name) for name, _ in self.steps)
        print(f"\n{'step':<{width}}  seconds")
        for name, seconds in self.steps:
            print(f"{name:<{width}}  {seconds:7.1f}")
        print(f"{'total':<{width}}  {sum(s for _, s in self.steps):7.1f}")
