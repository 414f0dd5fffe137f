# SPDX-License-Identifier: Apache-2.0
"""Faults on order: which answers go wrong, how, and how often."""

import json
import os
import time

from . import errors
from .http import Answer
from .jwt import b64u, unb64u

# Instead of the true answer
EARLY = ("status", "throttle", "akv10046", "not-yet-valid", "insufficient-claims", "challenge", "challenge-tenant",
         "no-challenge", "redirect", "not-json", "empty", "deep-json", "garbage", "reset", "close", "hang",
         "oversize-body", "oversize-headers")
# To the true answer
LATE = ("latency", "reset-headers", "reset-body", "truncated", "wrong-length", "chunked", "slow", "wrong-kid",
        "wrong-value", "short-value", "no-kid")
# In the token that is given out
TOKEN = ("expired-token", "foreign-token", "wrong-audience", "early-token", "unknown-signer")
# Before there is a request
TLS = ("tls-name", "tls-expired", "tls-foreign", "tls-reset", "tls-hang")
KINDS = EARLY + LATE + TOKEN + TLS


class Fault:
    number = 0

    def __init__(self, target, op, kind, count=None, after=0, **more):
        Fault.number += 1
        self.id = Fault.number
        self.target = target
        self.op = op
        self.kind = kind
        self.left = count
        self.after = after
        self.more = {k: v for k, v in more.items() if v is not None}
        self.hits = 0

    def fits(self, target, op):
        return self.target in ("*", target) and (self.op == "*" or op in self.op.split(","))

    def show(self):
        return {"id": self.id, "target": self.target, "op": self.op, "kind": self.kind, "left": self.left,
                "after": self.after, "hits": self.hits, **self.more}


class Faults:
    def __init__(self, world):
        self.world = world
        self.list = []

    def take(self, target, op, kinds):
        """The faults that hit now, counted."""
        hit = []
        if not self.list:
            return hit
        with self.world.lock:
            for f in self.list:
                if f.kind not in kinds or not f.fits(target, op):
                    continue
                if f.after > 0:
                    f.after -= 1
                elif f.left is None or f.left > 0:
                    f.left = None if f.left is None else f.left - 1
                    f.hits += 1
                    hit.append(f)
        return hit

    def early(self, f, vault, api, req):
        """The answer in place of the true one; None: the connection is dealt with otherwise (see kind)."""
        more, kind = f.more, f.kind
        if kind == "status":
            body = errors.error_body(more.get("code") or "InternalServerError",
                                     more.get("message") or "An internal error occurred.", more.get("inner") or "")
            return self._dressed(errors.Refused(more.get("status", 500), more.get("code") or "", "",
                                                more.get("inner") or "", self._retry(more), json.dumps(body).encode()),
                                 vault, api, req)
        if kind == "throttle":
            message = "Request was not processed because too many requests were received. Reason: " \
                      "VaultRequestTypeLimitReached"
            return self._dressed(errors.Refused(429, "Throttled", message, headers=self._retry(more)), vault, api, req)
        if kind in ("akv10046", "not-yet-valid", "insufficient-claims", "challenge", "challenge-tenant",
                    "no-challenge"):
            return self._challenge(f, vault, api, req)
        if kind == "redirect":
            return Answer(more.get("status", 307), b"", {"Location": more.get("value") or "https://elsewhere.example/"})
        if kind == "not-json":
            return Answer(more.get("status", 200), b"<!DOCTYPE html><html><body>It works!</body></html>", kind="text/html")
        if kind == "empty":
            return Answer(more.get("status", 200), b"")
        if kind == "deep-json":
            return Answer(more.get("status", 200), b'{"error":' + b"[" * 100000 + b"]" * 100000 + b"}")
        if kind == "oversize-body":
            size = int(more.get("value") or 8 << 20)
            return Answer(more.get("status", 200), b'{"value":"' + b"A" * size + b'"}')
        if kind == "oversize-headers":
            return Answer(200, b"{}", {f"x-filler-{i}": "A" * 1000 for i in range(int(more.get("value") or 400))})
        return None

    def _retry(self, more):
        return {} if more.get("retry_after") is None else {"Retry-After": str(more["retry_after"])}

    def _dressed(self, refused, vault, api, req):
        a = refused.answer()
        return api.dress(vault, req, a, {}) if vault else a

    def _challenge(self, f, vault, api, req):
        if vault is None:
            return Answer(401, b"")
        kind, value = f.kind, f.more.get("value")
        if kind == "akv10046":
            r = api.unauthorized(vault, "AKV10046: Unable to resolve the key used for signature validation.")
        elif kind == "not-yet-valid":
            r = errors.Refused(401, "Unauthorized", "Token not yet valid (Activity ID 1)", headers=api.challenge(vault))
        elif kind == "insufficient-claims":
            claims = value or json.dumps({"access_token": {"nbf": {"essential": True, "value": str(int(time.time()))}}})
            r = api.unauthorized(vault, "AKV10099: claims", error="insufficient_claims", claims=claims)
        elif kind == "challenge":
            r = api.unauthorized(vault, "AKV10000: Request is missing a Bearer or PoP token.",
                                 resource=value or "https://management.localhost")
        elif kind == "challenge-tenant":
            other = [t.id for t in self.world.tenants.values() if t is not vault.tenant]
            r = api.unauthorized(vault, "AKV10000: Request is missing a Bearer or PoP token.", tenant=value or other[0])
        else:
            r = errors.Refused(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
        return self._dressed(r, vault, api, req)

    @staticmethod
    def late(f, a):
        """Changes the content of the true answer."""
        if f.kind not in ("wrong-kid", "wrong-value", "short-value", "no-kid") or a.status != 200:
            return a
        body = a.json()
        if f.kind == "wrong-kid" and "kid" in body:
            body["kid"] = f.more.get("value") or body["kid"][:-32] + os.urandom(16).hex()
        elif f.kind == "no-kid":
            body.pop("kid", None)
        elif "value" in body:
            value = bytearray(unb64u(body["value"]))
            if f.kind == "wrong-value":
                value[0] ^= 1
            else:
                value = value[:int(f.more.get("value") or 5)]
            body["value"] = b64u(bytes(value))
        a.body = json.dumps(body, separators=(",", ":")).encode()
        return a


def deliver(conn, a, faults):
    """Sends the answer in the way the faults want. True: the connection may be used again."""
    kinds = {f.kind: f for f in faults}
    if "reset-headers" in kinds:
        conn.send(a.head())
        time.sleep(0.02)
        conn.reset()
    if "reset-body" in kinds:
        conn.send(a.head() + a.body[:len(a.body) // 2])
        time.sleep(0.02)
        conn.reset()
    if "truncated" in kinds:
        conn.send(a.head(len(a.body) + 100) + a.body)
        return False
    if "wrong-length" in kinds:
        conn.send(a.head(len(a.body) // 2) + a.body)
        return False
    if "chunked" in kinds:
        conn.send(a.head(extra=["Transfer-Encoding: chunked"]))
        for i in range(0, len(a.body), 100):
            part = a.body[i:i + 100]
            conn.send(b"%x\r\n%s\r\n" % (len(part), part))
        conn.send(b"0\r\n\r\n")
        return True
    if "slow" in kinds:
        pause = float(kinds["slow"].more.get("value") or 0.05)
        for byte in a.head() + a.body:
            conn.send(bytes([byte]))
            time.sleep(pause)
        return True
    conn.send(a.head() + a.body)
    return True
