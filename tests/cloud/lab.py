"""One real cloud for all tests: brought up by the README's own command, thrown away at the end."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy/lab"))

import credentials  # noqa: E402
import daemons  # noqa: E402
import demo  # noqa: E402
import libvirt  # noqa: E402
from aws import S3  # noqa: E402
from layout import Layout, end  # noqa: E402

NODES = 2
PYPI_CLIENTS = ["boto3", "awscli"]


class Failed(AssertionError):
    """What a test says when the cloud did something else than it should."""


class Skip(Exception):
    """Why a test cannot run here."""


def check(truth, what):
    if not truth:
        raise Failed(what)


def equal(seen, wanted, what):
    check(seen == wanted, f"{what}: {seen!r}, not {wanted!r}")


def eventually(what, limit_s=30, every_s=0.1):
    """The first true answer of a function; fails when there is none in time."""
    until = time.monotonic() + limit_s
    while True:
        if seen := what():
            return seen
        if time.monotonic() > until:
            raise Failed(f"not within {limit_s} s: {what.__doc__ or what.__name__}")
        time.sleep(every_s)


class Cloud:
    """The cloud under test and the clients that use it."""

    def __init__(self, state):
        self.layout = Layout(state)
        self.state = pathlib.Path(state)

    # ---- the cloud itself ----

    def command(self, *words):
        argv = [str(ROOT / "deploy/cloud"), *words, "--state", str(self.state)]
        done = subprocess.run(argv, capture_output=True, text=True)
        sys.stdout.write(done.stderr + done.stdout)
        check(done.returncode == 0, f"deploy/cloud {' '.join(words)}: exit {done.returncode}")
        return done.stdout

    def up(self, *words):
        built = ["--binaries", str(self.binaries)] if "MALLEE_BINARIES" in os.environ else ["--profile", "dev"]
        said = self.command("up", *built, "--nodes", str(NODES), *words)
        self.layout = Layout(self.state)
        return said

    @property
    def variables(self):
        return os.environ | credentials.variables(self.layout)

    @property
    def https(self):
        """The variables that differ where clients come over https."""
        return credentials.variables(self.layout, https=True)

    @property
    def binaries(self):
        if built := os.environ.get("MALLEE_BINARIES"):
            return pathlib.Path(built)
        return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"

    @property
    def key(self):
        return self.layout.dir("credentials") / f"{demo.KEY_NAME}.pem"

    @property
    def image(self):
        return self.layout.saved["image"]

    def daemon(self, name):
        return next(d for d in daemons.all_daemons(self.layout) if d.name == name)

    def daemons(self):
        return daemons.all_daemons(self.layout)

    def kill(self, daemon):
        """SIGKILL, and its end."""
        check(end(daemon.pid, signal.SIGKILL, 30), f"{daemon.name} does not end")

    def restart(self, daemon):
        daemon.start(self.binaries)
        daemons.wait_ready([daemon])

    def guests(self):
        """QEMU's pid by instance, over all nodes."""
        return {name: pid for node in self.layout.nodes for name, pid in libvirt.guests(node).items()}

    def mallee(self, *words):
        argv = [str(self.binaries / "mallee"), *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.variables)
        check(done.returncode == 0, f"mallee {' '.join(words)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def verify(self, within_s=0):
        """The invariants on the running cloud; fails with what breaks them."""
        until = time.monotonic() + within_s
        while broken := self.broken():
            check(time.monotonic() < until, "; ".join(broken))
            time.sleep(1)

    def broken(self):
        argv = [str(self.binaries / "mallee"), "verify", "--output", "json"]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.variables)
        check(done.returncode in (0, 2), f"mallee verify: exit {done.returncode}: {done.stderr.strip()}")
        checks = json.loads(done.stdout)["checks"]
        check(checks, "verify looked at nothing")
        return [f"{c['name']} {c['says']}: {c['broken']}" for c in checks if c["broken"]]

    # ---- clients ----

    @property
    def client_programs(self):
        folder = ROOT / "target/clients"
        if not (folder / "bin/aws").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(folder / "bin/pip"), "install", "-q", *PYPI_CLIENTS], check=True)
        return folder / "bin"

    def run(self, *argv, succeeds=True, variables=None):
        """A client as its user runs it; answers what it printed."""
        environment = self.variables | {"AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"} | (variables or {})
        # As `deploy/cloud env` does: it would win over the file that says whom to trust.
        environment.pop("AWS_CA_BUNDLE", None)
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, env=environment)
        said = done.stdout + done.stderr
        if succeeds:
            check(done.returncode == 0, f"{' '.join(map(str, argv))}: exit {done.returncode}: {said.strip()}")
        else:
            check(done.returncode != 0, f"{' '.join(map(str, argv))} should have failed: {said.strip()}")
        return done.stdout if succeeds else said

    def aws(self, *words, succeeds=True):
        said = self.run(self.client_programs / "aws", *words, "--output", "json", succeeds=succeeds)
        return (json.loads(said) if said.strip() else None) if succeeds else said

    def boto(self, script, variables=None):
        """A script of boto3's in its own Python; `ec2` and `s3` are clients. It ends by asserting."""
        head = (
            "import boto3, botocore, os\n"
            "url = os.environ['AWS_ENDPOINT_URL']\n"
            "config = botocore.config.Config(retries={'max_attempts': 0}, s3={'addressing_style': 'path'})\n"
            "ec2 = boto3.client('ec2', endpoint_url=url, config=config)\n"
            "s3 = boto3.client('s3', endpoint_url=url, config=config)\n"
            "def refused(code, call, **parameters):\n"
            "    try: call(**parameters)\n"
            "    except botocore.exceptions.ClientError as e:\n"
            "        got = e.response['Error']['Code']; assert got == code, (got, code); return e\n"
            "    assert False, f'{code} expected'\n"
        )
        return self.run(self.client_programs / "python", "-c", head + script, variables=variables)

    @property
    def ec2(self):
        return demo.client(self.layout)

    @property
    def s3(self):
        said = credentials.load(self.layout)
        return S3(self.layout.api_url, said["access_key_id"], said["secret_access_key"], said["region"])

    @property
    def zone(self):
        return credentials.load(self.layout)["zone"]

    # ---- instances ----

    def launch(self, **parameters):
        asked = {"ImageId": self.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "m1.small", "KeyName": demo.KEY_NAME}
        made = self.ec2.call("RunInstances", **(asked | parameters))
        return [item.text for item in made.findall(".//instanceId")]

    def describe(self, instance):
        return demo.describe(self.layout, instance)

    def state_of(self, instance):
        return self.describe(instance)[0]

    def wait_state(self, instance, state, limit_s=60):
        def there():
            return self.state_of(instance) == state

        there.__doc__ = f"{instance} is {state}"
        try:
            eventually(there, limit_s)
        except Failed as failed:
            raise Failed(f"{failed}; it is {self.describe(instance)}") from None
        return self.describe(instance)[1]

    def terminate(self, *instances):
        named = {f"InstanceId__{number}": instance for number, instance in enumerate(instances, 1)}
        self.ec2.call("TerminateInstances", **named)
        for instance in instances:
            self.wait_state(instance, "terminated")

    def ssh(self, address, command, limit_s=60, key=None):
        """What a command says in the guest, as soon as a login works."""
        said = {}

        def works():
            """the guest lets us in"""
            argv = [*demo.ssh_argv(key or self.key, address), command]
            done = subprocess.run(argv, capture_output=True, text=True)
            said["out"] = done.stdout
            return done.returncode == 0

        eventually(works, limit_s)
        return said["out"].strip()

    def traces_of(self, instance):
        """Files of an instance that is over. Its record stays for an hour, so that nobody misses its
        end, and libvirt keeps its log."""
        named = [path for path in self.state.rglob(f"*{instance}*") if "/libvirt/log/" not in str(path)]
        within = [file for path in named for file in ([path] if path.is_file() else path.rglob("*"))]
        return [file for file in within if file.name != "instance.json"]

    def reachable(self, address, port=22, timeout_s=2):
        import socket

        try:
            socket.create_connection((address, port), timeout=timeout_s).close()
            return True
        except OSError:
            return False
