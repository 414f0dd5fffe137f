#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
"""Do the emulator's faults do what they say, and does it stand many clients?"""

import http.client
import os
import ssl
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import WRAP, Cases, equal, error  # noqa: E402

cases = Cases()
case = cases.add


def get_k1(E):
    """What a client has of GET /keys/k1: status and JSON, or the exception's name."""
    try:
        status, head, body = E.call("v1", "GET", "/keys/k1")
        return status, head, body
    except ssl.SSLCertVerificationError as e:
        return e.verify_message, {}, None
    except (OSError, http.client.HTTPException) as e:
        return type(e).__name__, {}, None


@case
def faults_of_a_vault(E):
    for kind, words, want in (
            ("status", ["--status", 503], 503), ("status", ["--status", 408], 408), ("throttle", [], 429),
            ("akv10046", [], 401), ("challenge", ["--value", "https://other.localhost"], 401),
            ("challenge-tenant", [], 401), ("no-challenge", [], 401), ("insufficient-claims", [], 401),
            ("redirect", ["--value", "https://elsewhere.example/"], 307), ("not-json", [], 200), ("empty", [], 200),
            ("deep-json", [], 200), ("oversize-body", ["--value", 400000], 200),
            ("oversize-headers", [], "HTTPException"),
            ("garbage", [], "BadStatusLine"), ("reset", [], "ConnectionResetError"),
            ("close", [], "RemoteDisconnected"), ("reset-headers", [], "ConnectionResetError"),
            ("reset-body", [], "ConnectionResetError"), ("truncated", [], "IncompleteRead"),
            ("wrong-length", [], 200), ("chunked", [], 200), ("latency", ["--value", 0.05], 200),
            ("slow", ["--value", 0], 200)):
        E.ctl("fault", "add", "v1", "get", kind, "--count", 1, "--after", 1, *words)
        equal(get_k1(E)[0], 200, f"{kind}: one passes before")
        status, head, body = get_k1(E)
        # Python's ssl shows a reset as the end.
        if status in ("RemoteDisconnected", "IncompleteRead") and want == "ConnectionResetError":
            status = want
        equal(status, want, kind)
        if kind == "redirect":
            equal(head["location"], "https://elsewhere.example/")
        equal("www-authenticate" in head, want == 401 and kind != "no-challenge", kind)
        equal(isinstance(body, dict) and "key" in body, kind in ("chunked", "latency", "slow"), kind)
        equal(get_k1(E)[0], 200, f"{kind}: no more than once")
        E.ctl("fault", "clear")


@case
def faults_in_answers(E):
    at, value = E.wrapped()
    for kind, same_kid, same_value in (("wrong-kid", False, True), ("wrong-value", True, False),
                                       ("short-value", True, False), ("no-kid", False, True)):
        E.ctl("fault", "add", "v1", "unwrapkey", kind, "--count", 1)
        status, _, body = E.unwrap(at, value)
        equal((status, body.get("kid", "").endswith(at), body["value"] == WRAP["value"]),
              (200, same_kid, same_value), kind)


@case
def faults_of_tls(E):
    for kind, want in (("tls-name", "Hostname mismatch"), ("tls-expired", "certificate has expired"),
                       ("tls-foreign", "unable to get local issuer certificate"), ("tls-reset", "SSLError")):
        E.ctl("fault", "add", "v1", "handshake", kind, "--count", 1)
        found = get_k1(E)[0]
        assert str(found).startswith(want), (kind, found)
        equal(get_k1(E)[0], 200)


@case
def faults_of_tokens(E):
    path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.localhost"
    for kind, says in (("expired-token", "[TokenExpired]"), ("foreign-token", "AKV10032"),
                       ("wrong-audience", "AKV10022"), ("early-token", "Token not yet valid"),
                       ("unknown-signer", "AKV10046")):
        E.ctl("fault", "add", "imds", "token", kind, "--count", 1)
        token = E.metadata("imds", path, Metadata="true")[2]["access_token"]
        error(E.call("v1", "GET", "/keys/k1", token=token), 401, "Unauthorized", None, says)


@case
def reset_is_a_reset(E):
    for kind in ("reset", "reset-headers"):
        E.ctl("fault", "add", "imds", "token", kind, "--count", 1)
        try:
            found = E.metadata("imds", "/metadata/identity/oauth2/token", Metadata="true")
            raise AssertionError(f"{kind}: {found}")
        except ConnectionResetError:
            pass


@case
def ports_close_and_open(E):
    for service in ("vault", "login", "imds", "arc"):
        E.ctl("port", "close", service)
        try:
            E.connect("127.0.0.1", E.ports[service])
            raise AssertionError(f"{service} still listens")
        except ConnectionRefusedError:
            pass
        E.ctl("port", "open", service)
    equal(get_k1(E)[0], 200)


@case
def many_clients(E):
    """Keep-alive, many at once, clients that go away in the middle."""
    at, value = E.wrapped()
    mark, failed = E.ctl("mark"), []

    def work():
        try:
            conn = http.client.HTTPConnection("v1.vault.localhost", E.ports["vault"])
            for _ in range(50):
                status, _, _ = E.unwrap(at, value, conn=conn)
                equal(status, 200)
            conn.close()
            for part in (b"", b"GET /ke", b"POST /keys/k1/wrapkey HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"):
                s = E.connect("v1.vault.localhost", E.ports["vault"])
                s.sendall(part)
                s.close()
        except Exception as e:  # shown below
            failed.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    equal(E.ctl("count", "--op", "unwrapkey", "--after", mark), 400)


if __name__ == "__main__":
    sys.exit(cases.run())
