"""What every client needs to find and to be let into the cloud: files and `export` lines."""

import json
import shlex

S3CFG = """\
[default]
access_key = {access_key}
secret_key = {secret_key}
host_base = {host}
host_bucket = {host}
bucket_location = {region}
use_https = False
"""


def load(layout):
    return json.loads(layout.credentials.read_text())


def variables(layout):
    """The variables that aws, boto3, euca2ools, s3cmd and our own command read, in order."""
    said = load(layout)
    url = layout.api_url
    folder = layout.dir("credentials")
    values = {
        "EC2_URL": f"{url}/services/compute/",
        "S3_URL": f"{url}/services/objectstorage/",
        "AWS_IAM_URL": f"{url}/services/Euare/",
        "TOKEN_URL": f"{url}/services/Tokens/",
        "EUCA_BOOTSTRAP_URL": f"{url}/services/Empyrean/",
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": said["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": said["secret_access_key"],
        "AWS_ACCESS_KEY": said["access_key_id"],
        "AWS_SECRET_KEY": said["secret_access_key"],
        "AWS_DEFAULT_REGION": said["region"],
        "EC2_USER_ID": said["account_id"],
        "EC2_CERT": str(folder / "user-cert.pem"),
        "EC2_PRIVATE_KEY": str(folder / "user-key.pem"),
        "EUCALYPTUS_CERT": str(folder / "cloud-cert.pem"),
        "S3CFG": str(folder / "s3cfg"),
        "S3CMD_CONFIG": str(folder / "s3cfg"),
        "MALLEE_ADMIN": str(layout.dir("clc") / "admin"),
    }
    image = layout.saved.get("image")
    return values | ({"MALLEE_IMAGE": image} if image else {})


def write(layout):
    """Puts the files behind the variables in place."""
    said = load(layout)
    folder = layout.dir("credentials")
    folder.mkdir(exist_ok=True, mode=0o700)
    files = {
        "user-cert.pem": said["user_certificate_pem"],
        "user-key.pem": said["user_private_key_pem"],
        "cloud-cert.pem": said["cloud_certificate_pem"],
        "s3cfg": S3CFG.format(
            access_key=said["access_key_id"],
            secret_key=said["secret_access_key"],
            host=layout.api_url.removeprefix("http://"),
            region=said["region"],
        ),
        "eucarc": exports(layout),
    }
    for name, text in files.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text)


def exports(layout):
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables(layout).items())
