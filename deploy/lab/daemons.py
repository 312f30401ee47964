"""The five daemons as processes of this machine: configuration, join, start, stop."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from host import run
from layout import NODE_ADMIN_PORT, NODE_PORT, UNDERLAYS, alive, end, publish, running_with

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
NODE_VCPUS = 16
NODE_MEMORY_MIB = 8192
NODE_DISK_GIB = 200


class Daemon:
    """One daemon: its name, folder and configuration, and how it is started."""

    def __init__(self, layout, program, folder, config, admin, namespace=None):
        self.layout, self.program, self.config_values = layout, program, config
        self.dir = layout.dir(folder)
        self.name = folder if "/" not in folder else f"nc {folder.split('/')[1]}"
        self.config = self.dir / f"{program}.toml"
        self.admin, self.namespace = admin, namespace

    @property
    def pid_file(self):
        return self.dir / f"{self.program}.pid"

    @property
    def pid(self):
        return alive(self.pid_file, str(self.config))

    @property
    def joined(self):
        return (self.dir / "tls/cert.pem").exists()

    def argv(self, binaries, *more):
        enter = ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        return [*enter, str(binaries / f"mallee-{self.program}"), *more[:1], "--config", str(self.config), *more[1:]]

    def write_config(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        self.config.write_text(toml(self.config_values))

    def start(self, binaries):
        if self.pid:
            return
        # One that was started and not yet written down, by an `up` that was cut off.
        if pid := running_with(str(self.config)):
            return publish(self.pid_file, f"{pid}\n")
        with open(self.dir / f"{self.program}.log", "ab") as log:
            process = subprocess.Popen(
                self.argv(binaries), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        publish(self.pid_file, f"{process.pid}\n")

    def stop(self, how=signal.SIGTERM):
        pid = self.pid
        if not pid:
            return
        if not end(pid, how, STOP_TIMEOUT_S):
            end(pid, signal.SIGKILL, STOP_TIMEOUT_S)

    def why_not_ready(self):
        """None if the daemon says that it is ready, else why not."""
        if not self.pid:
            return f"is not running; see {self.dir}/{self.program}.log"
        try:
            return self._ask_ready()
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            return f"does not answer: {error}"

    def _ask_ready(self):
        url = f"http://{self.admin}/readyz"
        if self.namespace:
            # Its admin listener is on the loopback of its own host.
            fetch = f"import urllib.request as u\ntry: print(u.urlopen('{url}', timeout=2).status)\nexcept u.HTTPError as e: print(e.read().decode())"
            said = run("nsenter", f"--net=/run/netns/{self.namespace}", "python3", "-c", fetch).strip()
            return None if said == "200" else said
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return None
        except urllib.error.HTTPError as error:
            return error.read().decode(errors="replace")


def toml(values):
    """TOML of a table of plain values and tables of those."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    tables = [f"\n[{key}]\n{toml(value)}" for key, value in values.items() if isinstance(value, dict)]
    return "\n".join(plain + tables) + "\n"


def cloud_controller(layout):
    here = layout.root_address
    return Daemon(layout, "clc", "clc", {
        "state_dir": str(layout.dir("clc")),
        "api": {"listen": f"{here}:{layout.port('api')}", "public_url": layout.api_url},
        "tls": {"names": ["s3.localhost", "*.s3.localhost"]},
        "control": {"listen": f"{here}:{layout.port('clc')}"},
        "admin": {"listen": f"127.0.0.1:{layout.port('clc_admin')}"},
        "s3": {"url": f"http://{here}:{layout.port('s3')}"},
        "network": {
            "public_cidr": f"{layout.public}.0/24",
            "public_gateway": f"{layout.public}.1",
            "public_addresses": [f"{layout.public}.10-{layout.public}.250"],
            # Nodes and daemons of this cloud are protected anyway; this is for other clouds' on this machine.
            "protected": [UNDERLAYS],
        },
    }, f"127.0.0.1:{layout.port('clc_admin')}")  # fmt: skip


def others(layout):
    here = layout.root_address

    def service(program, port, **more):
        admin = f"127.0.0.1:{layout.port(program + '_admin')}"
        values = {"state_dir": str(layout.dir(program)), "control": {"listen": f"{here}:{layout.port(port)}"}, "admin": {"listen": admin}}
        return Daemon(layout, program, program, values | more, admin)

    return [
        service("walrus", "objects", s3={"listen": f"{here}:{layout.port('s3')}"}),
        service("cc", "cc"),
        service("sc", "sc"),
        *(node_controller(layout, node) for node in layout.nodes),
    ]


def node_controller(layout, node):
    admin = f"127.0.0.1:{NODE_ADMIN_PORT}"
    return Daemon(layout, "nc", f"nodes/{node.name}", {
        "state_dir": str(node.dir),
        "control": {"listen": f"{node.address}:{NODE_PORT}"},
        "admin": {"listen": admin},
        "hypervisor": {"uri": f"qemu+unix:///system?socket={node.libvirt_socket}"},
        "network": {
            "underlay": node.address,
            "public_bridge": "pub",
            "namespace_prefix": node.namespace,
            "run_dir": str(node.run_dir),
        },
        "capacity": {"vcpus": NODE_VCPUS, "memory_mib": NODE_MEMORY_MIB, "disk_gib": NODE_DISK_GIB},
    }, admin, node.namespace)  # fmt: skip


def all_daemons(layout):
    return [cloud_controller(layout), *others(layout)]


def init(clc, binaries, layout):
    """Makes the cloud's authority, keys and first account, once."""
    if layout.credentials.exists():
        return
    said = run(*clc.argv(binaries, "init", "--output", "json"))
    publish(layout.credentials, said)


def join(daemon, clc, binaries, zone):
    """Gives a daemon its certificate, once."""
    if daemon.joined:
        return
    more = ["--zone", zone] if daemon.program != "walrus" else []
    token = run(*clc.argv(binaries, "token", "--role", daemon.program, *more)).strip()
    run(*daemon.argv(binaries, "join", "--token", token))


def wait_listening(daemon):
    """Waits until the others can call a daemon; what it lacks to be ready may be them."""
    host, port = daemon.config_values["control"]["listen"].rsplit(":", 1)
    until = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until:
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
            return
        except OSError:
            # One that has only just begun has no command line to be known by.
            time.sleep(0.05)
            if not daemon.pid:
                break
    raise RuntimeError(f"{daemon.name} did not come up; see {daemon.dir}/{daemon.program}.log")


def wait_ready(daemons, say=lambda note: None):
    until = time.monotonic() + READY_TIMEOUT_S
    waiting = list(daemons)
    why = {}
    while waiting and time.monotonic() < until:
        for daemon in list(waiting):
            why[daemon.name] = daemon.why_not_ready()
            if why[daemon.name] is None:
                waiting.remove(daemon)
        if waiting:
            say(f"{waiting[0].name}: {why[waiting[0].name]}"[:60])
            time.sleep(0.1)
    if waiting:
        raise RuntimeError("; ".join(f"{d.name} {why[d.name]}" for d in waiting))
