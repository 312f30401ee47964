"""Where everything of one cloud lies: files, names, ports, addresses.

A cloud has a slot, a number from 0 to 99 that follows from its state folder. Names, ports and
networks follow from the slot, so two clouds with different folders never meet. The slot is taken
and written to `cloud.json` at the first `up` and never changes after.
"""

import hashlib
import json
import os
import pathlib
import select
import signal

DEFAULT_STATE = "/var/lib/mallee-cloud"
SLOTS = 100
CLAIMS = pathlib.Path("/var/lib/mallee-slots")
# Port of each listener in slot 0; a slot adds 100.
PORTS = {
    "api": 8773,
    "cc": 8774,
    "sc": 8776,
    "clc": 8777,
    "objects": 8778,
    "s3": 8779,
    "clc_admin": 8781,
    "cc_admin": 8782,
    "sc_admin": 8783,
    "walrus_admin": 8784,
}
NODE_PORT = 8775
NODE_ADMIN_PORT = 8785
FIRST_NODE_ADDRESS = 11
NODES_MAX = 50
# Of all clouds on this machine: the root namespace answers at each of them.
UNDERLAYS = "10.212.0.0/16"


class Layout:
    """The names of one cloud. Reads `cloud.json`; `save` makes it, and takes a slot for it."""

    def __init__(self, state):
        self.state = pathlib.Path(state).resolve()
        self.file = self.state / "cloud.json"
        if self.file.exists():
            self.saved = json.loads(self.file.read_text())
        else:
            self.saved = {"slot": None, "nodes": 1}

    @property
    def exists(self):
        return self.file.exists()

    def give_up(self):
        """Lets others have the slot."""
        (CLAIMS / str(self.slot)).unlink(missing_ok=True)

    def save(self):
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.slot is None:
            self.saved["slot"] = free_slot(self.state)
        publish(self.file, json.dumps(self.saved, indent=2) + "\n")

    @property
    def slot(self):
        return self.saved["slot"]

    @property
    def nodes(self):
        return [Node(self, number) for number in range(1, self.saved["nodes"] + 1)]

    def port(self, listener):
        return PORTS[listener] + 100 * self.slot

    # The underlay joins the hosts; the public network is what guests' public addresses come from.
    @property
    def underlay(self):
        return f"10.212.{self.slot}"

    @property
    def public(self):
        return f"10.213.{self.slot}"

    @property
    def root_address(self):
        return f"{self.underlay}.1"

    @property
    def fabric(self):
        return f"ml{self.slot}-fabric"

    @property
    def root_veth(self):
        return f"ml{self.slot}-root"

    @property
    def api_url(self):
        return f"http://{self.root_address}:{self.port('api')}"

    def dir(self, name):
        return self.state / name

    def config(self, daemon):
        return self.dir(daemon) / f"{daemon.split('/')[-1]}.toml"

    @property
    def credentials(self):
        return self.state / "credentials.json"


class Node:
    """One host of the cloud: a network namespace, a libvirtd, a Node Controller."""

    def __init__(self, layout, number):
        self.layout, self.number = layout, number

    @property
    def name(self):
        return f"n{self.number}"

    @property
    def namespace(self):
        return f"ml{self.layout.slot}-{self.name}"

    @property
    def dir(self):
        return self.layout.dir(f"nodes/{self.name}")

    @property
    def run_dir(self):
        """Where dnsmasq, which has no privileges, finds its files: state folders are closed to it."""
        return pathlib.Path("/run/mallee") / self.namespace

    @property
    def address(self):
        return f"{self.layout.underlay}.{FIRST_NODE_ADDRESS + self.number - 1}"

    @property
    def libvirt_socket(self):
        return self.dir / "libvirt/run/libvirt-sock"

    @property
    def config(self):
        return self.dir / "nc.toml"


def free_slot(state):
    """The slot that follows from the folder, or the next one that no other cloud here has. Taken by
    a link whose text is the folder: of two that take it at once one gets it, and it stays taken
    while that folder has a cloud, over a reboot too."""
    wanted = 0
    if str(state) != DEFAULT_STATE:
        wanted = 1 + int.from_bytes(hashlib.sha256(str(state).encode()).digest()[:4], "big") % (SLOTS - 1)
    CLAIMS.mkdir(parents=True, exist_ok=True)
    for step in range(SLOTS):
        slot = (wanted + step) % SLOTS
        if claim(slot, state):
            return slot
    raise SystemExit("cloud: every slot for a cloud on this machine is taken")


def claim(slot, state):
    """Takes a slot; False if another folder's cloud has it."""
    link = CLAIMS / str(slot)
    try:
        if not link.is_symlink() and pathlib.Path(f"/run/netns/ml{slot}-fabric").exists():
            return False  # Of a cloud that knew of no claims.
        link.symlink_to(state)
        return True
    except FileExistsError:
        holder = link.readlink()
    if holder == state:
        return True
    # `deploy/cloud` holds the lock file from before the claim to the end of `destroy`.
    if (holder / "cloud.json").exists() or pathlib.Path(f"{holder}.lock").exists():
        return False
    # Of a folder that somebody removed by hand.
    link.unlink(missing_ok=True)
    return claim(slot, state)


def alive(pid_file, word):
    """The pid in the file if that process lives and its command line has the word, else None.

    Pid files outlive a reboot, and a pid then belongs to somebody else."""
    try:
        pid = int(pathlib.Path(pid_file).read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return pid if word in command and state != "Z" else None
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None


def end(pid, how, limit_s):
    """Sends a signal and waits until the process has ended; False if it has not in time.

    By a descriptor, for /proc shows nothing of a process while its sockets and locks are still being
    closed, and whoever is started then finds them taken."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(process, how)
        return bool(select.select([process], [], [], limit_s)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(process)


def running_with(word):
    """The pid of a process whose command line has the word as one of its arguments, if one lives."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                return int(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def publish(file, text, mode=0o600):
    """Writes a file that is there whole or not at all."""
    temporary = file.with_name(file.name + ".new")
    temporary.touch(mode=mode)
    temporary.write_text(text)
    temporary.rename(file)
