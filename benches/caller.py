"""Signed EC2 calls over one kept connection, as every SDK makes them; answers are read to their end."""

import http.client
import re
import time
import urllib.parse

from aws import VERSION, Ec2


class Caller:
    def __init__(self, url, access_key, secret_key, region):
        self.signer = Ec2(url, access_key, secret_key, region)
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=300)
        self.bytes = 0

    def call(self, action, **parameters):
        """The answer as text. Double underscores stand for dots."""
        form = {"Action": action, "Version": VERSION} | {k.replace("__", "."): str(v) for k, v in parameters.items()}
        body = urllib.parse.urlencode(form).encode()
        self.connection.request("POST", "/", body=body, headers=self.signer._headers(body))
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {said[:300]}")
        self.bytes = max(self.bytes, len(said))
        return said.decode()

    def seconds(self, action, **parameters):
        began = time.monotonic()
        self.call(action, **parameters)
        return time.monotonic() - began

    def state(self, instance):
        said = self.call("DescribeInstances", InstanceId__1=instance)
        return re.search(r"<instanceState>.*?<name>([a-z-]+)</name>", said, re.S).group(1)
