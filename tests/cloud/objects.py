"""What people do with an object store, with the clients that they have, over http and over https."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

from lab import Skip, check, equal


def _both_ways(cloud):
    """The variables of clients that come over http, and of those that come over https."""
    return [cloud.variables, cloud.variables | cloud.https]


def _fill(folder, seed=0):
    for number in range(12):
        path = pathlib.Path(folder, f"sub {number % 3}", f"file {number}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 1000 + seed))
    pathlib.Path(folder, "large").write_bytes(os.urandom(20 << 20))


def test_rclone_syncs_checks_copies_moves_and_purges(cloud):
    for number, said in enumerate(_both_ways(cloud)):
        store = f":s3,provider=Other,access_key_id={said['AWS_ACCESS_KEY_ID']},secret_access_key={said['AWS_SECRET_ACCESS_KEY']},endpoint='{said['AWS_ENDPOINT_URL']}':"
        bucket = f"{store}rclone-all-{number}"

        def rclone(*words, said=said, **options):
            return cloud.run("rclone", "--retries", "1", *words, variables=said, **options)

        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as back:
            _fill(folder)
            rclone("sync", folder, f"{bucket}/a")
            rclone("check", "--download", folder, f"{bucket}/a")
            rclone("copy", f"{bucket}/a", f"{bucket}/b")
            rclone("check", f"{bucket}/a", f"{bucket}/b")
            rclone("move", f"{bucket}/b", f"{bucket}/c")
            equal(rclone("lsf", "-R", "--files-only", f"{bucket}/b"), "", "what was moved away")
            rclone("check", folder, f"{bucket}/c")
            pathlib.Path(folder, "large").unlink()
            rclone("sync", folder, f"{bucket}/a")
            check("large" not in rclone("lsf", f"{bucket}/a"), "what is gone here goes there")
            rclone("check", folder, f"{bucket}/c", succeeds=False)
            rclone("copy", f"{bucket}/a", back)
            rclone("check", folder, back)
            rclone("purge", bucket)
            rclone("lsf", bucket, succeeds=False)


def test_restic_backs_up_checks_restores_and_prunes(cloud):
    for number, said in enumerate(_both_ways(cloud)):
        more = {"RESTIC_REPOSITORY": f"s3:{said['AWS_ENDPOINT_URL']}/restic-{number}/repository", "RESTIC_PASSWORD": "of a test"}
        with tempfile.TemporaryDirectory() as folder:
            home, back = pathlib.Path(folder, "home"), pathlib.Path(folder, "back")
            home.mkdir()

            def restic(*words, said=said, more=more, folder=folder, **options):
                return cloud.run("restic", "--cacert", said["SSL_CERT_FILE"], "--cache-dir", f"{folder}/cache", *words, variables=said | more, **options)

            _fill(home)
            restic("init")
            restic("backup", home)
            _fill(home, seed=1)
            restic("backup", home)
            restic("check", "--read-data")
            equal(len(json.loads(restic("snapshots", "--json"))), 2, "snapshots")
            restic("restore", "latest", "--target", back)
            subprocess.run(["diff", "-r", home, pathlib.Path(back, *home.parts[1:])], check=True)
            restic("forget", "--keep-last", "1", "--prune")
            equal(len(json.loads(restic("snapshots", "--json"))), 1, "snapshots after prune")
            restic("check", "--read-data")
        cloud.run(cloud.client_programs / "aws", "s3", "rb", "--force", f"s3://restic-{number}")


STATE = """
terraform {
  backend "s3" {
    bucket                      = "terraform-%(number)d"
    key                         = "lab/terraform.tfstate"
    region                      = "%(region)s"
    endpoints                   = { s3 = "%(url)s" }
    use_lockfile                = true
    use_path_style              = true
    skip_credentials_validation = true
    skip_requesting_account_id  = true
    skip_metadata_api_check     = true
    skip_region_validation      = true
    %(more)s
  }
}

resource "terraform_data" "one" {
  input = "%(input)s"
%(provisioner)s}
"""
SLEEPS = '  provisioner "local-exec" { command = "sleep 6" }\n'


def test_terraform_keeps_its_state_and_locks_it(cloud):
    if not shutil.which("terraform"):
        raise Skip("terraform is in no registry that this project installs from")
    for number, said in enumerate(_both_ways(cloud)):
        cloud.run(cloud.client_programs / "aws", "s3", "mb", f"s3://terraform-{number}", variables=said)
        ours = {"AWS_ENDPOINT_URL": "", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
        is_tls = said["AWS_ENDPOINT_URL"].startswith("https")
        more = f'custom_ca_bundle = "{said["SSL_CERT_FILE"]}"' if is_tls else ""
        with tempfile.TemporaryDirectory() as folder:

            def terraform(*words, succeeds=True, folder=folder, said=said, ours=ours):
                return cloud.run("terraform", f"-chdir={folder}", *words, succeeds=succeeds, variables=said | ours)

            def write(text, provisioner="", folder=folder, number=number, said=said, more=more):
                values = {"number": number, "region": said["AWS_DEFAULT_REGION"], "url": said["AWS_ENDPOINT_URL"], "more": more, "input": text, "provisioner": provisioner}
                pathlib.Path(folder, "main.tf").write_text(STATE % values)

            write("first")
            terraform("init", "-input=false", "-no-color")
            terraform("apply", "-auto-approve", "-no-color")
            check("first" in terraform("state", "pull"), "the state is in the bucket")
            # While one applies, another is refused by the lock; after it, nothing is locked.
            write("second", SLEEPS)
            terraform("apply", "-auto-approve", "-no-color", "-destroy")
            environment = cloud.variables | said | ours
            slow = subprocess.Popen(["terraform", f"-chdir={folder}", "apply", "-auto-approve", "-no-color"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            time.sleep(3)
            refused = terraform("plan", "-no-color", "-lock-timeout=0s", succeeds=False)
            check("Error acquiring the state lock" in refused and "PreconditionFailed" in refused, f"a second one meets the lock: {refused}")
            out, _ = slow.communicate(timeout=60)
            equal(slow.returncode, 0, f"the first one ends well: {out}")
            terraform("plan", "-no-color", "-detailed-exitcode")
            terraform("destroy", "-auto-approve", "-no-color")
        cloud.run(cloud.client_programs / "aws", "s3", "rb", "--force", f"s3://terraform-{number}", variables=said)


def test_the_aws_cli_knows_versions_policies_locks_rules_and_cors(cloud):
    for number, said in enumerate(_both_ways(cloud)):
        bucket = f"cli-all-{number}"

        def aws(*words, said=said, **options):
            out = cloud.run(cloud.client_programs / "aws", *words, "--output", "json", variables=said, **options)
            return json.loads(out) if out.strip().startswith(("{", "[")) else out

        def api(verb, *words, bucket=bucket, aws=aws, **options):
            return aws("s3api", verb, "--bucket", bucket, *words, **options)

        api("create-bucket", "--object-lock-enabled-for-bucket")
        equal(api("get-bucket-versioning")["Status"], "Enabled", "a bucket with locks has versions")
        with tempfile.TemporaryDirectory() as folder:
            _fill(folder)
            cloud.run(cloud.client_programs / "aws", "s3", "sync", folder, f"s3://{bucket}/in", variables=said)
            same = cloud.run(cloud.client_programs / "aws", "s3", "sync", folder, f"s3://{bucket}/in", variables=said)
            equal(same.strip(), "", "a second sync has nothing to do")
            large = pathlib.Path(folder, "large")
            url = cloud.run(cloud.client_programs / "aws", "s3", "presign", f"s3://{bucket}/in/large", "--expires-in", "60", variables=said).strip()
            plain = url.replace("https://", "http://", 1)
            equal(urllib.request.urlopen(plain).read(), large.read_bytes(), "by a presigned address")
            large.write_bytes(b"second")
            aws("s3", "cp", large, f"s3://{bucket}/in/large")
        versions = api("list-object-versions", "--prefix", "in/large")["Versions"]
        equal(len(versions), 2, "versions")
        old = next(v["VersionId"] for v in versions if not v["IsLatest"])

        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        api("put-object-retention", "--key", "in/large", "--version-id", old, "--retention", f"Mode=GOVERNANCE,RetainUntilDate={until}")
        said_no = api("delete-object", "--key", "in/large", "--version-id", old, succeeds=False)
        check("AccessDenied" in said_no, f"a locked version stays: {said_no}")
        api("put-object-legal-hold", "--key", "in/large", "--version-id", old, "--legal-hold", "Status=ON")
        api("put-object-legal-hold", "--key", "in/large", "--version-id", old, "--legal-hold", "Status=OFF")
        api("delete-object", "--key", "in/large", "--version-id", old, "--bypass-governance-retention")

        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/in/*"}]}
        api("put-bucket-policy", "--policy", json.dumps(policy))
        equal(json.loads(api("get-bucket-policy")["Policy"]), policy, "the policy")
        open_url = f"{cloud.layout.api_url}/{bucket}/in/large"
        equal(urllib.request.urlopen(open_url).read(), b"second", "what the policy lets anybody read")
        api("delete-bucket-policy")

        rules = {"Rules": [{"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "in/"}, "Expiration": {"Days": 30}, "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}]}
        api("put-bucket-lifecycle-configuration", "--lifecycle-configuration", json.dumps(rules))
        equal(api("get-bucket-lifecycle-configuration")["Rules"], rules["Rules"], "lifecycle rules")
        cors = {"CORSRules": [{"AllowedOrigins": ["https://lab.example"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 60}]}
        api("put-bucket-cors", "--cors-configuration", json.dumps(cors))
        equal(api("get-bucket-cors")["CORSRules"], cors["CORSRules"], "CORS rules")
        ask = urllib.request.Request(open_url, method="OPTIONS", headers={"Origin": "https://lab.example", "Access-Control-Request-Method": "GET"})
        equal(urllib.request.urlopen(ask).headers["Access-Control-Allow-Origin"], "https://lab.example", "a preflight")
        said_no = api("get-bucket-replication", succeeds=False)
        check("NotImplemented" in said_no, f"what is not there says so: {said_no}")

        everything = api("list-object-versions")
        for each in [*everything.get("Versions", []), *everything.get("DeleteMarkers", [])]:
            api("delete-object", "--key", each["Key"], "--version-id", each["VersionId"], "--bypass-governance-retention")
        api("delete-bucket")
