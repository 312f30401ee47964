"""The least of an AWS client: signed queries, by Python's own library alone."""

import datetime
import hashlib
import hmac
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree

VERSION = "2016-11-15"
TIMEOUT_S = 30


class Refused(Exception):
    """The API said no."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Ec2:
    """EC2 at a URL with a key pair; `call("RunInstances", ImageId=…)` answers an XML element."""

    def __init__(self, url, access_key, secret_key, region):
        self.url, self.access_key, self.secret_key, self.region = url, access_key, secret_key, region

    def call(self, action, **parameters):
        # Double underscores stand for dots, which Python has no names for.
        form = {"Action": action, "Version": VERSION} | {k.replace("__", "."): str(v) for k, v in parameters.items()}
        body = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url, data=body, headers=self._headers(body))
        try:
            return _plain(urllib.request.urlopen(request, timeout=TIMEOUT_S).read())
        except urllib.error.HTTPError as error:
            said = _plain(error.read())
            raise Refused(said.findtext(".//Code"), said.findtext(".//Message")) from None

    def _headers(self, body):
        content = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        return _signed(self, "ec2", "POST", self.url, body, content)


class S3:
    """Objects by `BUCKET/KEY`, keys of plain letters and digits; a bucket is put by its name alone."""

    def __init__(self, url, access_key, secret_key, region):
        self.url, self.access_key, self.secret_key, self.region = url, access_key, secret_key, region

    def put(self, path, body=b""):
        self._call("PUT", path, body)

    def get(self, path):
        return self._call("GET", path)

    def delete(self, path):
        self._call("DELETE", path)

    def _call(self, method, path, body=b""):
        url = f"{self.url}/{path}"
        headers = _signed(self, "s3", method, url, body, {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()})
        request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S).read()
        except urllib.error.HTTPError as error:
            raise Refused(str(error.code), error.read().decode(errors="replace")) from None


def _signed(by, service, method, url, body, headers):
    """The headers with a signature of version 4 over all of them."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    parts = urllib.parse.urlsplit(url)
    scope = f"{now[:8]}/{by.region}/{service}/aws4_request"
    headers = dict(sorted((headers | {"host": parts.netloc, "x-amz-date": now}).items()))
    signed = ";".join(headers)
    canonical = "\n".join(
        [method, parts.path or "/", "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, hashlib.sha256(body).hexdigest()]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{by.secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, text).hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={by.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    return headers | {"authorization": authorization}


def _plain(body):
    """The element without its namespaces."""
    root = xml.etree.ElementTree.fromstring(body)
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
    return root
