# SPDX-License-Identifier: Apache-2.0
"""A plain client of the emulator for the tests of the emulator itself, and what these share."""

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True
WRAP = {"alg": "RSA-OAEP-256", "value": base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()}
HERE = os.path.dirname(os.path.abspath(__file__))


class Emulator:
    """One that is started for the test, with its control program."""

    def __init__(self, directory):
        self.dir = directory
        self.process = subprocess.Popen([os.path.join(HERE, "emulator"), "--dir", directory, "--arc-dir",
                                         os.path.join(directory, "arc")])
        while not os.path.exists(os.path.join(directory, "ready")):
            if self.process.poll() is not None:
                raise SystemExit("the emulator did not start")
            time.sleep(0.02)
        self.info = self.ctl("info")
        self.ports = self.info["ports"]
        self.tls = ssl.create_default_context(cafile=os.path.join(directory, "ca.pem"))
        self.control = None
        self.tokens = {}

    def ctl(self, *words):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(self.dir, "control.sock"))
            with s.makefile("rwb") as f:
                f.write(json.dumps([str(w) for w in words]).encode() + b"\n")
                f.flush()
                answer = json.loads(f.readline())
        if "ok" not in answer:
            raise AssertionError(f"ctl {' '.join(map(str, words))}: {answer}")
        return answer["ok"]

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=30)

    def connect(self, host, port):
        s = socket.create_connection(("127.0.0.1", port), timeout=30)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(s, server_hostname=host) if host.endswith(".localhost") else s

    def request(self, host, port, method, path, headers=None, body=None, conn=None):
        """(status, headers with names in lower case, body)"""
        c = conn or http.client.HTTPConnection(host, port)
        if c.sock is None:
            c.sock = self.connect(host, port)
        try:
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            if not conn:
                c.close()

    # ---- Entra ----

    def post_token(self, tenant, **form):
        tenant = self.info["tenants"].get(tenant, tenant)
        form = {"grant_type": "client_credentials", "scope": "https://vault.localhost/.default", **form}
        status, head, body = self.request("login.localhost", self.ports["login"], "POST",
                                          f"/{tenant}/oauth2/v2.0/token",
                                          {"Content-Type": "application/x-www-form-urlencoded"},
                                          urllib.parse.urlencode(form))
        return status, head, json.loads(body)

    def token(self, name, hsm=False, tenant="T1"):
        if (name, hsm) not in self.tokens:
            who = self.ctl("identity", "show", name)
            status, _, answer = self.post_token(
                tenant, client_id=who["client_id"], client_secret=f"{name}-secret",
                scope=f"https://{'managedhsm' if hsm else 'vault'}.localhost/.default")
            assert status == 200, answer
            self.tokens[name, hsm] = answer["access_token"]
        return self.tokens[name, hsm]

    # ---- vaults ----

    def call(self, vault, method, path, who="app1", body=None, hsm=False, token=None, headers=None, conn=None):
        """(status, headers, JSON or bytes) of a call as identity who; None: without a token."""
        host = f"{vault}.{'managedhsm' if hsm else 'vault'}.localhost"
        headers = dict(headers or {})
        if token or who:
            headers["Authorization"] = "Bearer " + (token or self.token(who, hsm))
        if "api-version" not in path:
            path += ("&" if "?" in path else "?") + "api-version=7.4"
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        status, head, data = self.request(host, self.ports["vault"], method, path, headers, body, conn)
        try:
            return status, head, json.loads(data)
        except (ValueError, RecursionError):
            return status, head, data

    def wrapped(self, vault="v1", key="k1", hsm=False, who="app1", ask=None):
        status, _, body = self.call(vault, "POST", f"/keys/{key}/wrapkey", who, ask or WRAP, hsm=hsm)
        assert status == 200, body
        return body["kid"].split("/keys/")[1], body["value"]

    def unwrap(self, at, value, vault="v1", hsm=False, who="app1", alg="RSA-OAEP-256", **more):
        return self.call(vault, "POST", f"/keys/{at}/unwrapkey", who, {"alg": alg, "value": value}, hsm=hsm, **more)

    def new_key(self, name, *words, vault="v1"):
        self.ctl("key", "create", vault, name, *words)
        return name

    def metadata(self, service, path, **headers):
        status, head, body = self.request("127.0.0.1", self.ports[service], "GET", path, headers)
        try:
            return status, head, json.loads(body)
        except ValueError:
            return status, head, body


# ---- tests ----

def equal(found, want, what=""):
    assert found == want, f"{what}: {found!r}, not {want!r}"


def error(answer, status, code, inner=None, says=""):
    """Is the answer this error? The order: status, error.code, error.innererror.code, a part of the message."""
    found, head, body = answer
    shown = (found, body.get("error") if isinstance(body, dict) else body)
    assert found == status, f"status {shown}"
    e = body["error"]
    assert e["code"] == code and (e.get("innererror") or {}).get("code") == inner and says in e["message"], shown
    assert ("innererror" in e) == (inner is not None), shown
    equal(set(e) - {"innererror"}, {"code", "message"}, "members of the error")
    assert head["content-type"] == "application/json; charset=utf-8", head
    return answer


class Cases(list):
    """The functions below @cases.add, in that order; each gets the emulator."""

    def add(self, f):
        self.append(f)
        return f

    def run(self):
        if subprocess.run(["/usr/bin/python3", "-c", "import cryptography"], stderr=subprocess.DEVNULL).returncode:
            print("SKIP: python3-cryptography is not installed")
            return 77
        e = Emulator(os.path.join(os.environ.get("T") or sys.argv[1], "emu"))
        e.ctl("vault", "create", "h1", "--hsm")
        e.ctl("grant", "h1", "admin", "officer")
        failed = 0
        for f in self:
            try:
                f(e)
                print(f"ok: {f.__name__}")
            except Exception as x:  # the others are of interest too
                failed += 1
                print(f"FAIL: {f.__name__}: {type(x).__name__} {x}")
        equal(e.stop(), 0, "the emulator's exit code")
        return 1 if failed else 0
