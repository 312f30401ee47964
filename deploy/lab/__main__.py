"""deploy/cloud: a whole Mallee on one machine, each host a network namespace.

  up       install what is missing, build, start everything; the first time also make an image,
           run an instance and log in (--no-demo leaves that out). Again: starts what is down.
  status   daemons, nodes, instances, addresses
  env      shell lines that point every client at the cloud:  eval "$(deploy/cloud env)"
           (--https for https addresses; whom to trust there is set in both)
  down     stop the daemons; guests go on, state stays (--guests stops guests and libvirtd too)
  destroy  down --guests, then remove networks and all state

Everything lies under --state (default /var/lib/mallee-cloud). Each command may be run again, and
interrupted at any time. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import credentials
import daemons
import demo
import host
import libvirt
from layout import DEFAULT_STATE, NODES_MAX, Layout
from progress import Progress

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def arguments():
    parser = argparse.ArgumentParser(
        prog="deploy/cloud", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "status", "env", "down", "destroy"])
    parser.add_argument("--state", default=DEFAULT_STATE, metavar="DIR", help="where everything lies")
    parser.add_argument("--nodes", type=int, metavar="N", help="hosts of the cloud (default 1; never fewer than there are)")
    parser.add_argument("--no-demo", action="store_true", help="up: no image, no instance")
    parser.add_argument("--https", action="store_true", help="env: https addresses (the trust for them is there either way)")
    parser.add_argument("--guests", action="store_true", help="down: stop guests and libvirtd too")
    parser.add_argument("--profile", default="release", choices=["release", "dev"], help="cargo's profile")
    parser.add_argument("--binaries", metavar="DIR", help="take the daemons from there, build nothing")
    given = parser.parse_args()
    if given.nodes is not None and not 1 <= given.nodes <= NODES_MAX:
        parser.error(f"--nodes is 1 to {NODES_MAX}")
    return given


def build(given, say):
    if given.binaries:
        return pathlib.Path(given.binaries).resolve()
    say("cargo build")
    profile = [] if given.profile == "dev" else [f"--profile={given.profile}"]
    packages = ["clc", "cc", "nc", "sc", "walrus", "cli"]
    argv = ["cargo", "build", *profile, *(word for name in packages for word in ("-p", f"mallee-{name}"))]
    subprocess.run(argv, cwd=ROOT, check=True, stdout=sys.stderr)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / ("debug" if given.profile == "dev" else given.profile)


def up(given):
    layout = Layout(given.state)
    layout.saved["nodes"] = max(given.nodes or 1, layout.saved["nodes"] if layout.exists else 1)
    layout.save()
    progress = Progress()
    with progress.step("install packages"):
        host.install(host.PACKAGES, progress.say)
    with progress.step("build"):
        binaries = build(given, progress.say)
    with progress.step("networks"):
        host.make_networks(layout)
    with progress.step("libvirt on each node"):
        start_libvirts(layout)
    clc = daemons.cloud_controller(layout)
    with progress.step("first account, keys, certificates"):
        clc.write_config()
        daemons.init(clc, binaries, layout)
        credentials.write(layout)
    with progress.step("five daemons"):
        start_daemons(layout, clc, binaries, progress.say)
    if not given.no_demo:
        show(layout, binaries, progress)
    progress.table()
    say_what_next(layout)


def start_libvirts(layout):
    first = layout.nodes[0]
    libvirt.start(first)
    libvirt.warm(first)
    for node in layout.nodes[1:]:
        libvirt.start(node, seed=first.dir)


def start_daemons(layout, clc, binaries, say):
    clc.start(binaries)
    daemons.wait_listening(clc)
    rest = daemons.others(layout)
    zone = credentials.load(layout)["zone"]
    for daemon in rest:
        daemon.write_config()
        daemons.join(daemon, clc, binaries, zone)
        daemon.start(binaries)
    daemons.wait_ready([clc, *rest], say)


def show(layout, binaries, progress):
    with progress.step("build a small Linux image"):
        image_file = demo.build_image(layout)
    with progress.step("bundle, upload, register"):
        image = demo.install_image(layout, binaries, image_file)
    with progress.step("key pair and port 22"):
        key = demo.make_key(layout)
        demo.open_ssh(layout)
    with progress.step("run an instance until running"):
        instance = demo.first_instance(layout, image)
        address = demo.wait_running(layout, instance, progress.say)
    with progress.step("log in by ssh"):
        said = demo.login(layout, key, address, instance)
    credentials.write(layout)
    print(f"\n{instance} at {address} says: {said}")
    print(f"log in:     {' '.join(demo.ssh_argv(key, address))}")


def say_what_next(layout):
    me = "deploy/cloud"
    state = "" if str(layout.state) == DEFAULT_STATE else f" --state {layout.state}"
    print(f"""
The cloud is up at {layout.api_url}. Type next:
  eval "$({me} env{state})"            # every client now finds it
  aws ec2 describe-instances            # or euca-describe-instances, boto3, s3cmd -c $S3CFG ls
  {me} status{state}                   # what runs where
  {me} down{state}                     # stop the daemons; guests go on""")


def down(given):
    layout = Layout(given.state)
    if not layout.exists:
        return
    # From the edge inwards, so that nobody is told of a failure that is only the end.
    for daemon in daemons.all_daemons(layout):
        daemon.stop()
    if given.guests:
        stop_guests(layout)


def stop_guests(layout):
    for node in layout.nodes:
        for pid in libvirt.guests(node).values():
            os.kill(pid, signal.SIGTERM)
        wait_gone(lambda node=node: libvirt.guests(node))
        if pid := libvirt.pid(node):
            os.kill(pid, signal.SIGTERM)
            wait_gone(lambda node=node: libvirt.pid(node))
        stop_leftovers(node)


def stop_leftovers(node):
    """Ends what the node's daemons left running in its namespaces, dnsmasq above all."""
    for name in sorted(host.namespaces()):
        if name == node.namespace or name.startswith(f"{node.namespace}-"):
            for pid in host.run("ip", "netns", "pids", name).split():
                os.kill(int(pid), signal.SIGTERM)


def wait_gone(what, limit_s=15):
    until = time.monotonic() + limit_s
    while what() and time.monotonic() < until:
        time.sleep(0.05)


def destroy(given):
    layout = Layout(given.state)
    if not layout.exists:
        return
    given.guests = True
    down(given)
    host.remove_networks(layout)
    for node in layout.nodes:
        shutil.rmtree(node.run_dir, ignore_errors=True)
    # What says that there is a cloud, and which, goes last: cut off before, this goes on from there.
    for path in layout.state.iterdir():
        if path != layout.file:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    layout.give_up()
    layout.file.unlink()
    layout.state.rmdir()


def status(given):
    layout = Layout(given.state)
    if not layout.exists:
        raise SystemExit(f"cloud: there is none in {given.state}; `deploy/cloud up` makes one")
    print(f"state    {layout.state}\nAPI      {layout.api_url}\n")
    print(f"{'daemon':<14}{'pid':>8}  state")
    for daemon in daemons.all_daemons(layout):
        print(f"{daemon.name:<14}{daemon.pid or '-':>8}  {daemon.why_not_ready() or 'ready'}")
    guests = {name: pid for node in layout.nodes for name, pid in libvirt.guests(node).items()}
    print(f"\n{len(guests)} guests run" + "".join(f"\n  {name} pid {pid}" for name, pid in guests.items()))
    if daemons.cloud_controller(layout).pid:
        binaries = build_of_running(layout)
        print(flush=True)
        for what in ("nodes", "instances"):
            subprocess.run([str(binaries / "mallee"), what], env=os.environ | credentials.variables(layout), check=False)


def build_of_running(layout):
    """Where the running daemons' programs lie."""
    return pathlib.Path(os.readlink(f"/proc/{daemons.cloud_controller(layout).pid}/exe")).parent


def env(given):
    layout = Layout(given.state)
    if not layout.credentials.exists():
        raise SystemExit(f"cloud: there is none in {given.state}; `deploy/cloud up` makes one")
    print(credentials.exports(layout, given.https), end="")


def locked(given, what):
    """One command at a time for one state folder; `status` and `env` only look."""
    folder = pathlib.Path(given.state)
    if what in (status, env) or not (what is up or folder.exists()):
        return what(given)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock_file = pathlib.Path(f"{folder.resolve()}.lock")
    with open(lock_file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        what(given)
        if what is destroy:
            lock_file.unlink(missing_ok=True)


def main():
    given = arguments()
    if os.geteuid() != 0:
        raise SystemExit("cloud: it makes network namespaces and runs guests: start it as root")
    try:
        locked(given, {"up": up, "status": status, "env": env, "down": down, "destroy": destroy}[given.command])
    except (RuntimeError, subprocess.CalledProcessError, OSError) as error:
        raise SystemExit(f"cloud: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("\ncloud: interrupted; the same command goes on from here") from None


main()
