"""The clients that users have, each doing what its users do."""

import base64
import hashlib
import os
import pathlib
import tempfile
import time

from lab import Skip, check, equal, eventually


def test_the_aws_cli_finds_its_way(cloud):
    zones = cloud.aws("ec2", "describe-availability-zones")["AvailabilityZones"]
    equal([zone["State"] for zone in zones], ["available"], "zones")
    regions = cloud.aws("ec2", "describe-regions")["Regions"]
    equal([region["RegionName"] for region in regions], ["mallee-1"], "regions")
    who = cloud.aws("sts", "get-caller-identity")
    equal(who["Account"], cloud.variables["EC2_USER_ID"], "account")
    images = cloud.aws("ec2", "describe-images", "--owners", "self")["Images"]
    check(cloud.image in [image["ImageId"] for image in images], "the demo's image is ours")
    types = cloud.aws("ec2", "describe-instance-types", "--instance-types", "m1.small")["InstanceTypes"]
    equal(types[0]["MemoryInfo"]["SizeInMiB"], 256, "memory of m1.small")


def test_every_example_configuration_passes_its_daemons_check(cloud):
    from lab import ROOT

    examples = sorted((ROOT / "deploy/examples").rglob("*.toml"))
    check(len(examples) >= 5, f"examples: {examples}")
    for example in examples:
        program = cloud.binaries / f"mallee-{example.stem}"
        said = cloud.run(program, "--config", example, "--check")
        check("listen" in said, f"{example}: {said}")
        wrong = cloud.run(program, "--config", example, "--set", "control.lisen=1", "--check", succeeds=False)
        check("did you mean `listen`?" in wrong, wrong)


def test_wrong_keys_and_signatures_get_their_codes(cloud):
    from aws import Ec2, Refused

    said = cloud.variables
    for key, secret, code in [
        ("AKIAABCDEFGHIJKLMNOP", said["AWS_SECRET_ACCESS_KEY"], "AuthFailure"),
        (said["AWS_ACCESS_KEY_ID"], "wrong", ("AuthFailure", "SignatureDoesNotMatch")),
    ]:
        try:
            Ec2(f"{cloud.layout.api_url}/", key, secret, "mallee-1").call("DescribeRegions")
            check(False, "a wrong key was let in")
        except Refused as refused:
            check(refused.code in code, f"{refused}")


def test_boto3_pages_filters_and_dry_runs(cloud):
    cloud.boto("""
names = [f'page-{n}' for n in range(12)]
for name in names: ec2.create_key_pair(KeyName=name)
assert {k['KeyName'] for k in ec2.describe_key_pairs(Filters=[{'Name': 'key-name', 'Values': ['page-1*']}])['KeyPairs']} == {'page-1', 'page-10', 'page-11'}
refused('InvalidParameterValue', ec2.describe_key_pairs, Filters=[{'Name': 'nonsense', 'Values': ['x']}])
refused('InvalidKeyPair.Duplicate', ec2.create_key_pair, KeyName='page-1')
refused('InvalidKeyPair.NotFound', ec2.describe_key_pairs, KeyNames=['page-1', 'none-such'])
refused('DryRunOperation', ec2.create_key_pair, KeyName='page-12', DryRun=True)
refused('InvalidKeyPair.NotFound', ec2.describe_key_pairs, KeyNames=['page-12'])
for name in names: ec2.delete_key_pair(KeyName=name)
ec2.delete_key_pair(KeyName='none-such')
types = [t for page in ec2.get_paginator('describe_instance_types').paginate(PaginationConfig={'PageSize': 5}) for t in page['InstanceTypes']]
assert len(types) == len({t['InstanceType'] for t in types}) == 18, len(types)
""")


def test_boto3_groups_hold_what_they_are_given(cloud):
    cloud.boto("""
made = ec2.create_security_group(GroupName='web', Description='a web server')
group = made['GroupId']
allow = [{'IpProtocol': 'tcp', 'FromPort': 80, 'ToPort': 80, 'IpRanges': [{'CidrIp': '10.0.0.0/8'}]}]
ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=allow)
refused('InvalidPermission.Duplicate', ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=allow)
seen = ec2.describe_security_groups(GroupIds=[group])['SecurityGroups'][0]
assert seen['IpPermissions'][0]['FromPort'] == 80 and seen['IpPermissions'][0]['IpRanges'][0]['CidrIp'] == '10.0.0.0/8'
assert seen['IpPermissionsEgress'][0]['IpProtocol'] == '-1'
refused('InvalidGroup.Duplicate', ec2.create_security_group, GroupName='web', Description='again')
ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=allow)
refused('InvalidPermission.NotFound', ec2.revoke_security_group_ingress, GroupId=group, IpPermissions=allow)
ec2.delete_security_group(GroupId=group)
refused('InvalidGroup.NotFound', ec2.describe_security_groups, GroupIds=[group])
""")


def test_boto3_volumes_come_and_go(cloud):
    cloud.boto("""
zone = ec2.describe_availability_zones()['AvailabilityZones'][0]['ZoneName']
volume = ec2.create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=[{'ResourceType': 'volume', 'Tags': [{'Key': 'Name', 'Value': 'data'}]}])['VolumeId']
ec2.get_waiter('volume_available').wait(VolumeIds=[volume], WaiterConfig={'Delay': 1, 'MaxAttempts': 20})
assert ec2.describe_volumes(Filters=[{'Name': 'tag:Name', 'Values': ['data']}])['Volumes'][0]['VolumeId'] == volume
refused('InvalidZone.NotFound', ec2.create_volume, AvailabilityZone='elsewhere', Size=1)
ec2.delete_volume(VolumeId=volume)
ec2.get_waiter('volume_deleted').wait(VolumeIds=[volume], WaiterConfig={'Delay': 1, 'MaxAttempts': 20})
""")


def _round_trip(cloud, put, get):
    with tempfile.TemporaryDirectory() as folder:
        there, back = pathlib.Path(folder, "there"), pathlib.Path(folder, "back")
        there.write_bytes(os.urandom(20 << 20))
        put(there)
        get(back)
        equal(hashlib.sha256(back.read_bytes()).digest(), hashlib.sha256(there.read_bytes()).digest(), "what came back")


def test_s3cmd_puts_gets_lists_and_removes(cloud):
    config = cloud.variables["S3CFG"]
    s3cmd = lambda *words: cloud.run("s3cmd", "-c", config, *words)  # noqa: E731
    s3cmd("mb", "s3://s3cmd-bucket")
    _round_trip(
        cloud,
        lambda file: s3cmd("put", file, "s3://s3cmd-bucket/folder/a file"),
        lambda file: s3cmd("get", "--force", "s3://s3cmd-bucket/folder/a file", file),
    )
    check("folder/a file" in s3cmd("ls", "-r", "s3://s3cmd-bucket"), "the object is listed")
    check("s3cmd-bucket" in s3cmd("info", "s3://s3cmd-bucket"), "the bucket has properties")
    s3cmd("setacl", "--acl-public", "s3://s3cmd-bucket/folder/a file")
    s3cmd("del", "s3://s3cmd-bucket/folder/a file")
    s3cmd("rb", "s3://s3cmd-bucket")


def test_the_aws_cli_puts_gets_lists_and_removes(cloud):
    cloud.run(cloud.client_programs / "aws", "s3", "mb", "s3://cli-bucket")
    _round_trip(
        cloud,
        lambda file: cloud.run(cloud.client_programs / "aws", "s3", "cp", file, "s3://cli-bucket/x/y"),
        lambda file: cloud.run(cloud.client_programs / "aws", "s3", "cp", "s3://cli-bucket/x/y", file),
    )
    listed = cloud.aws("s3api", "list-objects-v2", "--bucket", "cli-bucket", "--delimiter", "/")
    equal([p["Prefix"] for p in listed["CommonPrefixes"]], ["x/"], "common prefixes")
    cloud.run(cloud.client_programs / "aws", "s3", "rb", "--force", "s3://cli-bucket")


def test_clients_come_over_https_and_believe_the_clouds_authority_alone(cloud):
    https = cloud.https
    url = https["AWS_ENDPOINT_URL"]
    check(url.startswith("https://"), url)
    cloud.boto("""
assert url.startswith('https://')
assert ec2.describe_regions()['Regions']
s3.create_bucket(Bucket='tls-bucket')
# The default of current SDKs over https: a body in chunks with its checksum in a trailer.
s3.put_object(Bucket='tls-bucket', Key='a', Body=b'x' * 100000)
assert s3.get_object(Bucket='tls-bucket', Key='a', ChecksumMode='ENABLED')['Body'].read() == b'x' * 100000
""", variables=https)  # fmt: skip
    aws = cloud.client_programs / "aws"
    _round_trip(
        cloud,
        lambda file: cloud.run(aws, "s3", "cp", file, "s3://tls-bucket/cli", variables=https),
        lambda file: cloud.run(aws, "s3", "cp", "s3://tls-bucket/cli", file, variables=https),
    )
    config = https["S3CFG"]
    _round_trip(
        cloud,
        lambda file: cloud.run("s3cmd", "-c", config, "put", file, "s3://tls-bucket/s3cmd", variables=https),
        lambda file: cloud.run("s3cmd", "-c", config, "get", "--force", "s3://tls-bucket/s3cmd", file, variables=https),
    )
    remote = f":s3,provider=Other,access_key_id={https['AWS_ACCESS_KEY_ID']},secret_access_key={https['AWS_SECRET_ACCESS_KEY']},endpoint='{url}':tls-bucket"
    check("s3cmd" in cloud.run("rclone", "lsf", remote, variables=https), "rclone lists it")
    cloud.run("rclone", "purge", remote, variables=https)
    cloud.run("curl", "-sS", "--tls-max", "1.2", url, variables=https)
    refused = cloud.run("curl", "-sS", "--cacert", "/etc/ssl/certs/ca-certificates.crt", url, succeeds=False)
    check("certificate" in refused, f"a stranger does not believe it: {refused}")


def euca2ools():
    """The folder of euca2ools' programs: its source is in no registry, so it is not everywhere."""
    folder = os.environ.get("EUCA2OOLS_BIN")
    if not folder or not pathlib.Path(folder, "euca-version").exists():
        raise Skip("euca2ools 3.4 is in no registry; say where its programs are with EUCA2OOLS_BIN")
    return pathlib.Path(folder)


def test_euca2ools_bundles_uploads_registers_and_runs(cloud):
    programs = euca2ools()
    name = f"from-euca-{time.time_ns()}"
    euca = lambda name, *words: cloud.run(programs / name, *words)  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        image = cloud.layout.dir("image") / "mallee-tiny.img"
        said = cloud.variables
        euca(
            "euca-bundle-image", "-i", image, "-r", "x86_64", "-d", folder, "-p", "euca",
            "--ec2cert", said["EUCALYPTUS_CERT"], "--cert", said["EC2_CERT"], "--privatekey", said["EC2_PRIVATE_KEY"], "--user", said["EC2_USER_ID"],
        )  # fmt: skip
        euca("euca-upload-bundle", "-b", "euca-bucket", "-m", f"{folder}/euca.manifest.xml")
    made = euca("euca-register", "euca-bucket/euca.manifest.xml", "-n", name, "-a", "x86_64").split()
    registered = made[1]
    check(registered in euca("euca-describe-images"), "the image is listed")
    ran = euca("euca-run-instances", registered, "-k", "mallee-demo", "-t", "m1.small")
    instance = next(line.split("\t")[1] for line in ran.splitlines() if line.startswith("INSTANCE"))
    address = cloud.wait_state(instance, "running")
    cloud.ssh(address, "true")
    check(address in euca("euca-describe-instances", instance), "the address is shown")
    check(len(euca("euca-get-console-output", instance).splitlines()) > 3, "the console is shown")
    euca("euca-create-keypair", "from-euca")
    check("from-euca" in euca("euca-describe-keypairs"), "the key pair is listed")
    euca("euca-delete-keypair", "from-euca")
    euca("euca-create-group", "euca-group", "-d", "made by euca2ools")
    euca("euca-authorize", "euca-group", "-P", "tcp", "-p", "8080", "-s", "10.0.0.0/8")
    check("8080" in euca("euca-describe-groups", "euca-group"), "the rule is shown")
    euca("euca-revoke", "euca-group", "-P", "tcp", "-p", "8080", "-s", "10.0.0.0/8")
    euca("euca-delete-group", "euca-group")
    check("m1.small" in euca("euca-describe-instance-types"), "types are listed")
    check("m1.small" in euca("euca-describe-availability-zones", "verbose"), "capacity is listed")
    euca("euca-terminate-instances", instance)
    cloud.wait_state(instance, "terminated")
    euca("euca-deregister", registered)
    check(not euca("euca-describe-images", "--filter", f"name={name}").strip(), "the image is gone")


def test_euca2ools_take_back_what_our_own_command_bundled(cloud):
    programs = euca2ools()
    image = cloud.layout.dir("image") / "mallee-tiny.img"
    said = cloud.variables
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        cloud.run(cloud.binaries / "mallee", "image", "bundle", image, "--name", "ours", "-d", folder)
        cloud.run(cloud.binaries / "mallee", "image", "upload", f"{folder}/ours.manifest.xml", "--bucket", "ours-bucket")
        cloud.run(programs / "euca-download-bundle", "-b", "ours-bucket", "-p", "ours", "-d", f"{folder}")
        cloud.run(programs / "euca-unbundle", "-m", f"{folder}/ours.manifest.xml", "-s", folder, "-d", folder, "--privatekey", said["EC2_PRIVATE_KEY"])
        equal(hashlib.sha256(pathlib.Path(folder, "ours").read_bytes()).hexdigest(), digest, "the image")


def test_an_instance_is_bundled_by_euca2ools_and_the_bundle_runs(cloud):
    programs = euca2ools()
    said = cloud.variables
    keys = ["-o", said["AWS_ACCESS_KEY_ID"], "-w", said["AWS_SECRET_ACCESS_KEY"]]
    bucket = f"bundle-{time.time_ns()}"
    cloud.run("s3cmd", "-c", said["S3CFG"], "mb", f"s3://{bucket}")
    instance, *_ = cloud.launch()
    address = cloud.wait_state(instance, "running")
    cloud.ssh(address, "echo bundled > /etc/proof; sync")
    asked = cloud.run(programs / "euca-bundle-instance", instance, "-b", bucket, "-p", "mine/proof", *keys)
    task = asked.split("\t")[1]
    again = cloud.run(programs / "euca-bundle-instance", instance, "-b", bucket, "-p", "mine/proof", *keys, succeeds=False)
    check("BundlingInProgress" in again, again)
    states = []

    def ended():
        """the bundle task has ended"""
        row = cloud.run(programs / "euca-describe-bundle-tasks", task).split("\t")
        states.append(next(word for word in row if word in ("pending", "waiting-for-shutdown", "bundling", "storing", "complete", "failed")))
        return states[-1] in ("complete", "failed")

    eventually(ended, 180)
    equal(states[-1], "complete", f"after {sorted(set(states))}")

    # What the client shows is what the guest was; it goes on as if nothing had been.
    cloud.wait_state(instance, "running")
    cloud.ssh(address, "test $(cat /etc/proof) = bundled")
    cloud.terminate(instance)
    with tempfile.TemporaryDirectory() as folder:
        cloud.run(programs / "euca-download-bundle", "-b", f"{bucket}/mine", "-p", "proof", "-d", folder)
        cloud.run(programs / "euca-unbundle", "-m", f"{folder}/proof.manifest.xml", "-s", folder, "-d", folder, "--privatekey", said["EC2_PRIVATE_KEY"])
        equal(os.path.getsize(f"{folder}/proof"), (cloud.layout.dir("image") / "mallee-tiny.img").stat().st_size, "the root partition's size")
    made = cloud.run(programs / "euca-register", f"{bucket}/mine/proof.manifest.xml", "-n", f"proof-{time.time_ns()}", "-a", "x86_64").split()
    second, *_ = cloud.launch(ImageId=made[1])
    address = cloud.wait_state(second, "running")
    equal(cloud.ssh(address, "cat /etc/proof"), "bundled", "what the guest wrote")
    cloud.terminate(second)


def test_a_bundle_that_is_given_up_or_has_no_bucket_leaves_the_instance_running(cloud):
    programs = euca2ools()
    said = cloud.variables
    keys = ["-o", said["AWS_ACCESS_KEY_ID"], "-w", said["AWS_SECRET_ACCESS_KEY"]]
    mine = f"bundle-{time.time_ns()}"
    cloud.run("s3cmd", "-c", said["S3CFG"], "mb", f"s3://{mine}")
    instance, *_ = cloud.launch()
    address = cloud.wait_state(instance, "running")
    for bucket, give_up, ends in [("no-such-bucket", False, "failed"), (mine, True, "cancelled")]:
        task = cloud.run(programs / "euca-bundle-instance", instance, "-b", bucket, "-p", "mine/none", *keys).split("\t")[1]
        if give_up:
            cloud.run(programs / "euca-cancel-bundle-task", task)
        eventually(lambda: ends in cloud.run(programs / "euca-describe-bundle-tasks", task), 120)  # noqa: B023
        cloud.wait_state(instance, "running")
        cloud.ssh(address, "true")
    cloud.terminate(instance)


def test_user_data_reaches_the_guest_and_too_much_is_refused(cloud):
    script = "#!/bin/sh\necho it-ran > /tmp/proof\n"
    instance, *_ = cloud.launch(UserData=base64.b64encode(script.encode()).decode())
    address = cloud.wait_state(instance, "running")
    equal(cloud.ssh(address, "for i in 1 2 3 4 5 6 7 8 9; do test -s /tmp/proof && break; sleep 1; done; cat /tmp/proof"), "it-ran", "user data")
    cloud.terminate(instance)
    cloud.boto("""
import os
refused('InvalidParameterValue', ec2.run_instances, ImageId=os.environ['MALLEE_IMAGE'], MinCount=1, MaxCount=1, UserData='x' * 16385)
""")
