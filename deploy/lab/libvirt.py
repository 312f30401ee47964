"""A private libvirtd for each node: its own files, host id and name, in the node's network.

libvirt's paths are compiled in, so each gets a mount namespace where they point into the node's
folder. The socket is reached from outside through the folder itself.
"""

import os
import shutil
import subprocess
import time
import uuid

from layout import alive

QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
"""

LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "2:file:{dir}/libvirtd.log"
"""

BINDS = {"run": "/run/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "etc": "/etc/libvirt", "cache": "/var/cache/libvirt"}
UP_TIMEOUT_S = 20


def pid(node):
    pid_file = node.dir / "libvirt/run/libvirtd.pid"
    return alive(pid_file, str(pid_file))


def start(node, seed=None):
    """Starts the node's libvirtd unless it runs. `seed` is another node's folder, whose knowledge
    of what QEMU can do is copied: finding out takes five seconds."""
    if pid(node):
        return
    folder = node.dir / "libvirt"
    for name, point in BINDS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.makedirs(point, exist_ok=True)
    (folder / "etc/qemu.conf").write_text(QEMU_CONF)
    conf = folder / "etc/libvirtd.conf"
    if not conf.exists():
        conf.write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4(), dir=folder))
    if seed and not (folder / "cache/qemu").exists() and (seed / "libvirt/cache/qemu").exists():
        shutil.copytree(seed / "libvirt/cache/qemu", folder / "cache/qemu", dirs_exist_ok=True)
    binds = "\n".join(f'mount --bind "$1/{name}" {point}' for name, point in BINDS.items())
    script = f"""set -e
mount --make-rprivate /
{binds}
mkdir -p /run/lock && mount -t tmpfs none /run/lock
hostname "$2"
exec libvirtd -p "$1/run/libvirtd.pid" -f /etc/libvirt/libvirtd.conf"""
    with open(folder / "start.log", "ab") as log:
        subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{node.namespace}", "unshare", "-m", "-u", "bash", "-c", script, "libvirtd", str(folder), node.namespace],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    wait_for(node)


def wait_for(node):
    until = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < until:
        if pid(node) and node.libvirt_socket.exists():
            return
        time.sleep(0.05)
    raise RuntimeError(f"libvirtd of {node.name} did not come up: see {node.dir}/libvirt/start.log")


def warm(node):
    """Makes libvirt find out what QEMU can do, which the first guest would otherwise wait for."""
    uri = f"qemu+unix:///system?socket={node.libvirt_socket}"
    subprocess.run(["virsh", "-c", uri, "domcapabilities"], capture_output=True)


def guests(node):
    """The pid of each QEMU process of the node, by domain name."""
    found = {}
    for file in (node.dir / "libvirt/run/qemu").glob("i-*.pid"):
        if running := alive(file, f"guest={file.stem},"):
            found[file.stem] = running
    return found
