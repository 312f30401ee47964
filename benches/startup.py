"""How long an instance of a large image takes to run: an image of 4 GB with 0.8 GB of data.

Cold, warm on another node, warm on the same node; beside it what the parts of the machine can do at
best, a bare `qemu-img create` + `virsh create`, and the way of the paper (`benches/paper-way`). The
page cache is dropped before each cold run. A cold run is an image registered anew: no cache has it. It
and the paper's way end when libvirt has the domain running; warm is until a client sees it run.

Makes a cloud of its own with two nodes under --state (it must not be there yet, or be one of an
earlier run) and leaves it up; `deploy/cloud destroy --state DIR` removes it. Needs 20 GB of disk.
MALLEE_BINARIES=DIR takes the daemons from there instead of building them.
"""

import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import threading
import time

import credentials
import daemons
import demo
import gantt
from caller import Caller
from figures import percentile
from launch import POLL_S, REST_S, TARGET_MS, Bare, terminate
from layout import Layout

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE_BYTES = 4 << 30
DATA_BYTES = 800 << 20
PARTITION_START = 1 << 20
BUCKET = "startup-bench"
COLD_TARGET_S = 15
PAPER_TARGET = 10
AT_ONCE = 50
# Nothing that is measured here takes so long.
GIVE_UP_S = 600
# Servers keep a connection that says nothing for longer than this.
IDLE_S = 4
# Guests that halt at their first instruction: what is measured is the way there.
HALT = bytes.fromhex("faf4ebfd")
TYPE = "m1.small"


def bench(given):
    layout = cloud(given.state)
    binaries = pathlib.Path(os.readlink(f"/proc/{daemons.cloud_controller(layout).pid}/exe")).parent
    said = credentials.load(layout)
    ec2 = Rested(f"{layout.api_url}/", said["access_key_id"], said["secret_access_key"], said["region"])
    end_all(ec2)
    folder = layout.dir("bench")
    folder.mkdir(exist_ok=True)
    image = make_image(folder / "big.img", SIZE_BYTES, DATA_BYTES)
    location = upload(layout, binaries, image, "big")
    dense = upload_without_holes(layout, binaries, image)
    print(f"image {SIZE_BYTES / 1e9:.1f} GB, {data_bytes(image) / 1e6:.0f} MB of data, {bundled(layout, location) / 1e6:.0f} MB as a bundle")

    one_at_each_node(layout, binaries)
    rows, stages = [], []
    limits = physical_limits(layout, location, image, folder)
    for _ in range(given.cold_rounds):
        # In turns: what else the machine's host does falls on both.
        row = one_image(layout, ec2, location, stages)
        row["paper"], paper_stages = paper_way(layout, location, folder, ec2)
        rows.append(row)
    warm, bare = warm_and_bare(layout, ec2, location, given.rounds)
    of_dense = one_image(layout, ec2, dense, [])["cold"], paper_way(layout, dense, folder, ec2)[0]
    table(rows, limits, bare, warm, of_dense)
    gantt.write(ROOT / "docs/startup.svg", stages, paper_stages)
    at_once(layout, binaries, ec2, folder)


class Rested(Caller):
    """A caller whose connection the server may have closed while something else took its time."""

    last = 0.0

    def call(self, action, **parameters):
        if time.monotonic() - self.last > IDLE_S:
            self.connection.close()
        self.last = time.monotonic()
        return super().call(action, **parameters)


# ---- the cloud and its image ---------------------------------------------------------------------


def cloud(state):
    built = ["--binaries", os.environ["MALLEE_BINARIES"]] if "MALLEE_BINARIES" in os.environ else []
    subprocess.run([str(ROOT / "deploy/cloud"), "up", "--state", str(state), "--nodes", "2", "--no-demo", *built], check=True, stdout=subprocess.DEVNULL)
    layout = Layout(state)
    demo.make_key(layout)
    return layout


def end_all(ec2):
    """Ends what a run left that was cut off."""
    said = ec2.call("DescribeInstances")
    for instance in set(re.findall(r"<instanceId>(i-[0-9a-f]+)<", said)):
        if ec2.state(instance) != "terminated":
            terminate(ec2, instance)


def configure(layout, binaries, change):
    """Restarts the nodes with their configuration changed."""
    nodes = [daemons.node_controller(layout, node) for node in layout.nodes]
    for daemon in nodes:
        daemon.stop()
        change(daemon.config_values)
        daemon.write_config()
        daemon.start(binaries)
    daemons.wait_ready(nodes)
    # The cluster hears of the new capacity in a moment.
    time.sleep(2)


def one_at_each_node(layout, binaries):
    """Room for one instance on each node, so that the second goes to the other node."""
    configure(layout, binaries, lambda values: values.update(capacity={"vcpus": 1, "memory_mib": 1024, "disk_gib": 100}))


def make_image(path, size, data):
    """A disk that halts when it is booted, with a file system in its partition that holds so much of
    this host's own /usr."""
    if path.exists():
        return path
    tree = path.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    fill(tree, data)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(draft, "wb") as file:
        file.truncate(size)
    blocks = (size - PARTITION_START) // 4096
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-E", f"offset={PARTITION_START}", "-d", str(tree), str(draft), str(blocks)], check=True, stderr=subprocess.DEVNULL)
    with open(draft, "r+b") as file:
        file.write(boot_record(size))
    shutil.rmtree(tree)
    draft.rename(path)
    return path


def fill(tree, data):
    """Files of /usr by links, in the order of their names, until they are so much."""
    have = 0
    for folder, folders, names in os.walk("/usr"):
        folders.sort()
        for name in sorted(names):
            file = pathlib.Path(folder, name)
            if file.is_symlink() or not file.is_file():
                continue
            to = tree / file.relative_to("/usr")
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, to)
            except OSError:
                shutil.copyfile(file, to)
            # As the file system holds them, in blocks.
            have += -(-file.stat().st_size // 4096) * 4096
            if have >= data:
                return


def boot_record(size):
    entry = bytes([0x80, 0xFE, 0xFF, 0xFF, 0x83, 0xFE, 0xFF, 0xFF]) + (PARTITION_START // 512).to_bytes(4, "little") + ((size - PARTITION_START) // 512).to_bytes(4, "little")
    return HALT.ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"


def mallee(layout, binaries, *words):
    argv = [str(binaries / "mallee"), *map(str, words)]
    return subprocess.run(argv, env=os.environ | credentials.variables(layout), capture_output=True, text=True, check=True).stdout


def upload(layout, binaries, image, name):
    """Bundles, uploads and registers; gives the location of the manifest."""
    kept = layout.saved.setdefault("bench", {})
    if name not in kept:
        said = mallee(layout, binaries, "image", "install", image, "--bucket", BUCKET, "--name", f"{name}-{time.time_ns()}", "--output", "json")
        kept[name] = json.loads(said)["location"]
        layout.save()
    return kept[name]


def upload_without_holes(layout, binaries, image):
    """The same image in a bundle such as euca2ools 3 makes: its zeros are in the archive."""
    if "dense" in layout.saved.setdefault("bench", {}):
        return layout.saved["bench"]["dense"]
    copy = image.with_suffix(".dense")
    subprocess.run(["cp", "--sparse=never", str(image), str(copy)], check=True)
    location = upload(layout, binaries, copy, "dense")
    copy.unlink()
    return location


def register(ec2, location):
    """The same bundle under another id: no cache has it."""
    made = ec2.call("RegisterImage", ImageLocation=location, Name=f"bench-{time.time_ns()}")
    return re.search(r"<imageId>(emi-[0-9a-f]+)<", made).group(1)


def data_bytes(path):
    """Without its holes, and without what is only set aside, as mke2fs does for a journal."""
    data = end = 0
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        while end < size:
            try:
                begin = file.seek(end, os.SEEK_DATA)
            except OSError:  # No data behind it.
                break
            end = file.seek(begin, os.SEEK_HOLE)
            data += end - begin
    return data


# ---- what is measured ----------------------------------------------------------------------------


def drop_caches():
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def start(ec2, image, count=1):
    """Seconds from the request until all run, as a client sees it; and the instances."""
    began = time.monotonic()
    made = ec2.call("RunInstances", ImageId=image, MinCount=count, MaxCount=count, InstanceType=TYPE)
    instances = re.findall(r"<instanceId>(i-[0-9a-f]+)<", made)
    waiting = set(instances)
    those = {f"InstanceId__{number}": instance for number, instance in enumerate(instances, 1)}
    while waiting:
        time.sleep(POLL_S)
        said = ec2.call("DescribeInstances", **those)
        for item in re.findall(r"<instanceId>.*?</instanceState>", said, re.S):
            instance = re.search(r"i-[0-9a-f]+", item).group(0)
            state = re.search(r"<name>([a-z-]+)<", item).group(1)
            if instance in waiting and state == "running":
                waiting.discard(instance)
            elif instance in waiting and state != "pending":
                raise RuntimeError(f"{instance} is {state}")
    return time.monotonic() - began, instances


class Started:
    """Hears from each node's libvirt when a domain has started, and takes nothing meanwhile from what is
    measured, as a client does that asks again and again."""

    def __init__(self, layout):
        self.told = queue.Queue()
        self.listeners = [self.listen(node) for node in layout.nodes]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for listener in self.listeners:
            listener.terminate()
            listener.wait()

    def listen(self, node):
        argv = ["stdbuf", "-oL", "virsh", "-c", f"qemu+unix:///system?socket={node.libvirt_socket}", "event", "--event", "lifecycle", "--loop"]
        listener = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, args=[listener.stdout], daemon=True).start()
        return listener

    def read(self, lines):
        for line in lines:
            if found := re.search(r"for domain '?(i-[0-9a-f]+)'?: Started", line):
                self.told.put((found.group(1), time.monotonic()))

    def moment(self, instance):
        while True:
            name, moment = self.told.get(timeout=GIVE_UP_S)
            if name == instance:
                return moment


def start_and_listen(layout, ec2, image):
    """Seconds from the request until libvirt has it running, which is where the paper's way ends too."""
    with Started(layout) as started:
        # Listeners that are still connecting would miss it.
        time.sleep(REST_S)
        began = time.monotonic()
        made = ec2.call("RunInstances", ImageId=image, MinCount=1, MaxCount=1, InstanceType=TYPE)
        instance = re.search(r"<instanceId>(i-[0-9a-f]+)<", made).group(1)
        took = started.moment(instance) - began
    while ec2.state(instance) != "running":
        time.sleep(POLL_S)
    return took, instance


def one_image(layout, ec2, location, stages):
    """One image on a node that has not got it, then on the other node."""
    image = register(ec2, location)
    drop_caches()
    cold, first = start_and_listen(layout, ec2, image)
    stages[:] = stages_of(layout, image)
    other, second = start_and_listen(layout, ec2, image)
    for instance in [first, second]:
        terminate(ec2, instance)
    ec2.call("DeregisterImage", ImageId=image)
    return {"cold": cold, "on another node": other}


def stages_of(layout, image):
    """The stages of the last fill of that image, from the node's log: name, begin, end, seconds of CPU."""
    for node in layout.nodes:
        log = (node.dir / "nc.log").read_text(errors="replace")
        lines = [line for line in log.splitlines() if "image cached" in line and image in line]
        if lines:
            found = re.findall(r"(\w+) [\d.]+ MB, ([\d.]+) to ([\d.]+) s, ([\d.]+) s CPU", lines[-1])
            return [(name, float(first), float(last), float(cpu)) for name, first, last, cpu in found]
    return []


def warm_and_bare(layout, ec2, location, rounds):
    """Launches from a warm cache, and the least that anybody must do for one, in turns: the machine's
    other work falls on both. One instance stays, whose domain the bare ones copy; ours go to the
    other node."""
    image = register(ec2, location)
    _, [model] = start(ec2, image)
    bare = Bare(layout, model)
    terminate(ec2, start(ec2, image)[1][0])
    ours, theirs = [], []
    for _ in range(rounds):
        time.sleep(REST_S)
        took, [instance] = start(ec2, image)
        ours.append(took)
        terminate(ec2, instance)
        time.sleep(REST_S)
        theirs.append(bare.start())
    terminate(ec2, model)
    return ours, theirs


def physical_limits(layout, location, image, folder):
    """What the parts can do at best, each alone, from cold: seconds."""
    urls, key, iv = opened(layout, location, folder)
    limits = {}
    drop_caches()
    limits["download alone"] = timed(f"xargs -P 3 -n 1 curl -sSf -o /dev/null < {urls}")
    subprocess.run(f"xargs -n 1 curl -sSf < {urls} | openssl enc -d -aes-128-cbc -K {key} -iv {iv} > {folder}/big.tgz", shell=True, check=True)
    limits["gzip -d alone"] = timed(f"gzip -dc {folder}/big.tgz > /dev/null")
    drop_caches()
    subprocess.run(["cat", str(image)], stdout=subprocess.DEVNULL, check=True)
    limits["disk write alone"] = timed(f"cp --sparse=always {image} {folder}/written && sync {folder}/written")
    for name in ("big.tgz", "written"):
        (folder / name).unlink()
    return limits


def timed(command):
    began = time.monotonic()
    subprocess.run(command, shell=True, check=True)
    return time.monotonic() - began


def opened(layout, location, folder):
    """The bundle with the cloud's own key: a file of presigned addresses, and key and IV in hex."""
    manifest = object_text(layout, location)
    names = re.findall(r"<filename>([^<]+)</filename>", manifest)
    prefix = location.rsplit("/", 1)[0]
    urls = folder / "urls"
    urls.write_text("".join(presigned(layout, f"{prefix}/{name}") + "\n" for name in names))
    secrets = [re.search(rf"<ec2_encrypted_{what}[^>]*>([0-9a-f]+)<", manifest).group(1) for what in ("key", "iv")]
    return urls, *(unwrapped(layout, secret) for secret in secrets)


def unwrapped(layout, secret):
    argv = ["openssl", "pkeyutl", "-decrypt", "-inkey", str(layout.dir("clc") / "image-key.pem"), "-pkeyopt", "rsa_padding_mode:pkcs1"]
    return subprocess.run(argv, input=bytes.fromhex(secret), capture_output=True, check=True).stdout.decode()


def presigned(layout, path):
    """An address by signature version 2, good for a day."""
    import base64
    import hashlib
    import hmac
    import urllib.parse

    said = credentials.load(layout)
    expires = int(time.time()) + 24 * 60 * 60
    text = f"GET\n\n\n{expires}\n/{path}"
    signature = base64.b64encode(hmac.new(said["secret_access_key"].encode(), text.encode(), hashlib.sha1).digest())
    query = urllib.parse.urlencode({"AWSAccessKeyId": said["access_key_id"], "Expires": expires, "Signature": signature.decode()})
    return f"http://{layout.root_address}:{layout.port('s3')}/{path}?{query}"


def object_text(layout, path):
    return subprocess.run(["curl", "-sSf", presigned(layout, path)], capture_output=True, text=True, check=True).stdout


def bundled(layout, location):
    return int(re.search(r"<bundled_size>(\d+)<", object_text(layout, location)).group(1))


def paper_way(layout, location, folder, ec2):
    """Seconds until libvirt says `running`, and the stages on the way."""
    urls, key, iv = opened(layout, location, folder)
    image = register(ec2, location)
    _, [model] = start(ec2, image)
    bare = Bare(layout, model)
    disk = folder / "paper.img"
    drop_caches()
    began = time.monotonic()
    script = [str(ROOT / "benches/paper-way"), str(urls), key, iv, str(folder / "paper"), str(disk)]
    said = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout
    ready = time.monotonic() - began
    took = bare.start_raw(disk) - began
    terminate(ec2, model)
    shutil.rmtree(folder / "paper")
    disk.unlink()
    stages = [(name, float(first), float(last), None) for name, first, last in (line.rsplit(" ", 2) for line in said.splitlines())]
    return took, [*stages, ("start", ready, took, None)]


def at_once(layout, binaries, ec2, folder):
    """Many launches at once of one small image on two nodes that are told to have the room."""
    small = make_image(folder / "small.img", 64 << 20, 8 << 20)
    location = upload(layout, binaries, small, "small")
    configure(layout, binaries, lambda values: values.update(capacity={"vcpus": 64, "memory_mib": 16384, "disk_gib": 1000}))
    image = register(ec2, location)
    for warm in (start(ec2, image)[1], start(ec2, image)[1]):
        terminate(ec2, warm[0])
    took, instances = start(ec2, image, AT_ONCE)
    steps = {}
    for instance in instances:
        told = json.loads(mallee(layout, binaries, "explain", instance, "--output", "json"))["timeline"]
        moments = {moment["step"]: moment["elapsed_ms"] for moment in told if moment["by"] == "nc"}
        steps.setdefault("disk", []).append(moments["disk"] - moments["received"])
        steps.setdefault("start", []).append(moments["started"] - moments["disk"])
    share = percentile(steps["disk"], 50) / (percentile(steps["disk"], 50) + percentile(steps["start"], 50))
    print(f"\n{AT_ONCE} launches at once on two nodes: all run after {took:.1f} s, none failed")
    print(f"of a launch on its node: disks p50 {percentile(steps['disk'], 50)} ms, domain p50 {percentile(steps['start'], 50)} ms: disks are {share:.0%} of it")
    for instance in instances:
        ec2.call("TerminateInstances", InstanceId__1=instance)
    while any(ec2.state(instance) != "terminated" for instance in instances):
        time.sleep(0.2)


# ---- what is printed -----------------------------------------------------------------------------


def table(rows, limits, bare, warm, of_dense):
    best = max(limits.values())
    cold, other, paper = (percentile([row[name] for row in rows], 50) for name in ("cold", "on another node", "paper"))
    dense, paper_dense = of_dense
    p50, bare50 = percentile(warm, 50), percentile(bare, 50)
    lines = [
        ("the paper's way, cold", paper, f"{paper / cold:.1f} of ours (target: at least {PAPER_TARGET})"),
        ("  from a bundle as of euca2ools 3", paper_dense, f"{paper_dense / dense:.1f} of ours from the same, {paper_dense / cold:.1f} of ours from our own"),
        *((f"cold, run {number}", row["cold"], f"the paper's way beside it {row['paper']:.1f} s: {row['paper'] / row['cold']:.1f}") for number, row in enumerate(rows, 1)),
        ("cold", cold, f"target: at most {COLD_TARGET_S} s; {cold / best:.2f} of the slowest limit below"),
        *((f"  {name}", seconds, "") for name, seconds in limits.items()),
        ("cold, bundle as of euca2ools 3", dense, ""),
        ("on another node", other, f"{other / cold:.2f} of cold"),
        ("warm on the same node", p50, f"bare + {(p50 - bare50) * 1000:.0f} ms (target: at most {TARGET_MS} ms)"),
        ("bare qemu-img + virsh create", bare50, ""),
    ]
    print(f"\n{'until running, p50':<36}{'seconds':>9}   ratio")
    for name, seconds, ratio in lines:
        print(f"{name:<36}{seconds:>9.2f}   {ratio}")
