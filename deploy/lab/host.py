"""What the machine itself must have: Debian packages, and the networks that join the hosts."""

import os
import subprocess

from layout import NODES_MAX

PACKAGES = """
    build-essential ca-certificates dnsmasq-base e2fsprogs grub-common grub-pc-bin iproute2
    iputils-ping libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-system
    libvirt-dev nftables openssh-client pkg-config procps qemu-system-x86 qemu-utils tgt util-linux
    cpio kmod zstd xz-utils openssl bubblewrap
""".split()


def run(*argv, **options):
    """Runs a host tool; raises with what it said if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def missing_packages(names):
    out = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *names], capture_output=True, text=True
    ).stdout
    there = {line.split()[0] for line in out.splitlines() if line.split()[1:] == ["ii"]}
    return [name for name in names if name not in there]


def install(names, say=lambda note: None):
    """Installs what is missing of the packages. Nothing of theirs is started."""
    missing = missing_packages(names)
    if not missing:
        return
    say(", ".join(missing))
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    run(*apt, "update", env=environment)
    command = [*apt, "install", "--no-install-recommends", "--allow-downgrades"]
    try:
        run(*command, *missing, env=environment)
    except RuntimeError:
        # A qemu-utils from elsewhere (backports) that no source offers any more holds back the
        # emulator of this release: take both from the release.
        run(*command, *missing, *of_one_release("qemu-utils", "qemu-system-x86"), env=environment)


def of_one_release(*names):
    pinned = []
    for name in names:
        policy = run("apt-cache", "madison", name)
        version = policy.splitlines()[0].split("|")[1].strip()
        pinned.append(f"{name}={version}")
    return pinned


# ---- networks -----------------------------------------------------------------------------------


def namespaces():
    out = run("ip", "netns", "list")
    return {line.split()[0] for line in out.splitlines() if line.strip()}


def has_link(name, namespace=None):
    scope = ["-n", namespace] if namespace else []
    return subprocess.run(["ip", *scope, "link", "show", name], capture_output=True).returncode == 0


def in_namespace(namespace, *argv):
    return run("nsenter", f"--net=/run/netns/{namespace}", *argv)


def make_namespace(name):
    if name not in namespaces():
        run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    # Bridged frames are filtered where a rule asks for it, never for a whole namespace.
    in_namespace(name, "sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0")


def make_bridge(namespace, name):
    if not has_link(name, namespace):
        run("ip", "-n", namespace, "link", "add", name, "type", "bridge", "forward_delay", "0")
    run("ip", "-n", namespace, "link", "set", name, "up")


def join_to_fabric(layout, port, namespace, device):
    """A cable from the fabric's bridge to a device in a namespace (None: the root's)."""
    if not has_link(device, namespace):
        temporary = f"ml{layout.slot}t{port[:6]}"
        subprocess.run(["ip", "-n", layout.fabric, "link", "del", port], capture_output=True)
        subprocess.run(["ip", "link", "del", temporary], capture_output=True)
        run("ip", "link", "add", temporary, "type", "veth", "peer", "name", port, "netns", layout.fabric)
        if namespace:
            run("ip", "link", "set", temporary, "netns", namespace, "name", device)
        else:
            run("ip", "link", "set", temporary, "name", device)
    scope = ["-n", namespace] if namespace else []
    run("ip", *scope, "link", "set", device, "up")
    run("ip", "-n", layout.fabric, "link", "set", port, "master", "fabric", "up")


def give_address(device, address, namespace=None):
    scope = ["-n", namespace] if namespace else []
    run("ip", *scope, "address", "replace", address, "dev", device)


def load_bridge_filter():
    """Group rules see bridged frames through br_netfilter, which is a module on most kernels. It
    switches itself on for every bridge of the host, which is not ours to want."""
    if not os.path.exists("/proc/sys/net/bridge"):
        run("modprobe", "br_netfilter")
        for kind in ("iptables", "ip6tables", "arptables"):
            run("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-{kind}=0")


def make_networks(layout):
    """The fabric, the one veth to the root, and each node's namespace with its two cables."""
    load_bridge_filter()
    make_namespace(layout.fabric)
    make_bridge(layout.fabric, "fabric")
    join_to_fabric(layout, "root", None, layout.root_veth)
    give_address(layout.root_veth, f"{layout.root_address}/24")
    give_address(layout.root_veth, f"{layout.public}.1/24")
    for node in layout.nodes:
        make_namespace(node.namespace)
        join_to_fabric(layout, f"{node.name}e", node.namespace, "eth0")
        give_address("eth0", f"{node.address}/24", node.namespace)
        make_bridge(node.namespace, "pub")
        join_to_fabric(layout, f"{node.name}p", node.namespace, "pub0")
        run("ip", "-n", node.namespace, "link", "set", "pub0", "master", "pub")


def remove_networks(layout):
    """Removes every namespace of this cloud, those that its Node Controllers made included."""
    mine = {layout.fabric} | {f"ml{layout.slot}-n{number}" for number in range(1, NODES_MAX + 1)}
    prefixes = tuple(f"ml{layout.slot}-n{number}-" for number in range(1, NODES_MAX + 1))
    for name in sorted(namespaces()):
        if name in mine or name.startswith(prefixes):
            run("ip", "netns", "del", name)
    # It goes with its other end, which the kernel may be about to take away.
    subprocess.run(["ip", "link", "del", layout.root_veth], capture_output=True)
    if has_link(layout.root_veth):
        raise RuntimeError(f"{layout.root_veth} cannot be removed")
