"""What every client needs to find and to be let into the cloud: files and `export` lines."""

import json
import pathlib
import shlex

S3CFG = """\
[default]
access_key = {access_key}
secret_key = {secret_key}
host_base = {host}
host_bucket = {host}
bucket_location = {region}
use_https = {https}
ca_certs_file = {bundle}
"""
SYSTEM_BUNDLE = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")


def load(layout):
    return json.loads(layout.credentials.read_text())


def variables(layout, https=False):
    """The variables that aws, boto3, euca2ools, s3cmd and our own command read, in order."""
    said = load(layout)
    url = layout.api_url.replace("http://", "https://") if https else layout.api_url
    folder = layout.dir("credentials")
    bundle = str(folder / "ca-bundle.pem")
    s3cfg = str(folder / ("s3cfg-https" if https else "s3cfg"))
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
        "S3CFG": s3cfg,
        "S3CMD_CONFIG": s3cfg,
        # Whom to trust: the machine's own authorities and the cloud's, so that nothing else in this
        # shell loses its trust. aws and boto3 by a file, for AWS_CA_BUNDLE makes rclone fail;
        # requests (euca2ools); curl; Go's programs (rclone, restic, terraform) and OpenSSL's.
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "REQUESTS_CA_BUNDLE": bundle,
        "CURL_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
        "MALLEE_ADMIN": str(layout.dir("clc") / "admin"),
    }
    image = layout.saved.get("image")
    return values | ({"MALLEE_IMAGE": image} if image else {})


def write(layout):
    """Puts the files behind the variables in place."""
    said = load(layout)
    folder = layout.dir("credentials")
    folder.mkdir(exist_ok=True, mode=0o700)
    bundle = folder / "ca-bundle.pem"
    s3cfg = {
        "access_key": said["access_key_id"],
        "secret_key": said["secret_access_key"],
        "host": layout.api_url.removeprefix("http://"),
        "region": said["region"],
        "bundle": bundle,
    }
    files = {
        "user-cert.pem": said["user_certificate_pem"],
        "user-key.pem": said["user_private_key_pem"],
        "cloud-cert.pem": said["cloud_certificate_pem"],
        "ca-bundle.pem": trusted(layout),
        "aws-config": f"[default]\nca_bundle = {bundle}\n",
        "s3cfg": S3CFG.format(https=False, **s3cfg),
        "s3cfg-https": S3CFG.format(https=True, **s3cfg),
        "eucarc": exports(layout),
    }
    for name, text in files.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text)


def trusted(layout):
    """The machine's authorities and the cloud's, in PEM."""
    system = SYSTEM_BUNDLE.read_text() if SYSTEM_BUNDLE.exists() else ""
    return system + (layout.dir("clc") / "ca/ca.pem").read_text()


def exports(layout, https=False):
    said = variables(layout, https)
    # It would win over the file that is named here.
    return "unset AWS_CA_BUNDLE\n" + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in said.items())
