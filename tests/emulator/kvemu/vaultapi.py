# SPDX-License-Identifier: Apache-2.0
"""The data plane of Key Vault and Managed HSM: keys."""

import base64
import json
import os
import re
import time
import uuid

from cryptography.hazmat.primitives.asymmetric import rsa

from . import errors
from .errors import Refused, bad, gone
from .http import Answer
from .jwt import BadToken, b64u, unb64u
from .model import crypt

API_VERSIONS = ("7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01",
                "7.6-preview.2", "2026-05-01-preview", "2026-07-01-preview")
NAME = re.compile(r"[0-9a-zA-Z-]{1,127}\Z")
FORWARD = {"wrapkey": "wrapKey", "encrypt": "encrypt"}
BACKWARD = {"unwrapkey": "unwrapKey", "decrypt": "decrypt"}
ACTIONS = {"get": "keys/read", "list": "keys/read", "wrapKey": "keys/wrap/action", "unwrapKey": "keys/unwrap/action"}


def route(req):
    """(operation, key name, version) of a request; operation None if there is none of that form."""
    parts = req.path.strip("/").split("/")
    low = [p.lower() for p in parts]
    m, n = req.method, len(parts)
    if low[0] == "keys":
        if n == 1:
            return ("list" if m == "GET" else None), "", ""
        name = parts[1]
        if n == 2 and m == "POST" and low[1] == "restore":
            return "restore", "", ""
        if n == 2:
            return {"GET": "get", "PUT": "import", "DELETE": "delete", "PATCH": "update"}.get(m), name, ""
        if n == 3 and m == "POST" and low[2] in ("create", "rotate", "backup", *FORWARD, *BACKWARD):
            return low[2], name, ""
        if n == 3 and m == "GET" and low[2] == "versions":
            return "versions", name, ""
        if n == 3 and low[2] == "rotationpolicy":
            return {"GET": "getrotationpolicy", "PUT": "setrotationpolicy"}.get(m), name, ""
        if n == 3:
            return {"GET": "get", "PATCH": "update"}.get(m), name, parts[2]
        if n == 4 and m == "POST" and low[3] in (*FORWARD, *BACKWARD):
            return low[3], name, parts[2]
    if low[0] == "deletedkeys":
        if n == 1:
            return ("listdeleted" if m == "GET" else None), "", ""
        if n == 2:
            return {"GET": "getdeleted", "DELETE": "purge"}.get(m), parts[1], ""
        if n == 3 and m == "POST" and low[2] == "recover":
            return "recover", parts[1], ""
    if low == ["rng"] and m == "POST":
        return "rng", "", ""
    return None, "", ""


NEEDS = {
    "list": "list", "versions": "list", "listdeleted": "list", "getdeleted": "get", "wrapkey": "wrapKey",
    "unwrapkey": "unwrapKey", "getrotationpolicy": "getRotationPolicy", "setrotationpolicy": "setRotationPolicy",
}


class VaultApi:
    def __init__(self, world):
        self.world = world
        self.backups = {}

    # ---- from the wire to the operation ----

    def handle(self, vault, req, note):
        """The answer to a request; vault is there, the lock of the world is held but for key operations."""
        try:
            answer = self._handle(vault, req, note)
        except Refused as e:
            answer = e.answer()
        except (ValueError, UnicodeError) as e:
            answer = bad(f"Request body is not valid: {e}").answer()
        return self.dress(vault, req, answer, note)

    def dress(self, vault, req, a, note):
        rid = str(uuid.uuid4())
        note["request_id"] = rid
        head = {"Cache-Control": "no-cache", "x-ms-request-id": rid,
                "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
                "X-Content-Type-Options": "nosniff"}
        if vault.hsm:
            head["x-ms-server-latency"] = "1"
            head["x-ms-build-version"] = "1.0.20260801-1-emulator"
            if a.status != 401:
                head["x-ms-keyvault-region"] = vault.region
                head["x-ms-keyvault-network-info"] = "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;"
        else:
            client = req.header("x-ms-client-request-id")
            if client:
                head["x-ms-client-request-id"] = client
            head["x-ms-keyvault-region"] = vault.region
            head["x-ms-keyvault-service-version"] = "1.9.3000.1"
            head["x-ms-keyvault-network-info"] = "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;"
            head["Pragma"] = "no-cache"
            head["Expires"] = "-1"
        a.headers = {**head, **a.headers}
        return a

    def _handle(self, vault, req, note):
        w = self.world
        op, name, version = route(req)
        with w.lock:
            if vault.deleted:
                raise Refused(404, "VaultNotFound", f"The vault {vault.name} was not found.")
            caller = self.caller_text(req)
            if vault.firewall:
                private = vault.firewall == "private"
                raise Refused(403, "Forbidden", (errors.CONNECTION if private else errors.FIREWALL).format(
                    caller=caller, vault=vault.name, region=vault.region),
                    "ForbiddenByConnection" if private else "ForbiddenByFirewall")
            who = self.authenticate(vault, req)
            note["oid"], note["identity"] = who["oid"], w.identity_name(who["oid"])
            asked = req.query.get("api-version")
            if asked is None:
                raise bad("api-version must be specified", "BadParameter")
            if asked not in API_VERSIONS:
                raise bad(f"The specified version ({asked}) is not recognized. Consider using the latest supported "
                          "version (2025-07-01).")
            if op is None:
                raise Refused(404 if req.method == "GET" else 405, "NotFound" if req.method == "GET" else
                              "MethodNotAllowed", "The requested resource does not support this request.")
            if name and not NAME.match(name):
                raise bad(f"The request URI contains an invalid name: {name}")
            self.authorize(vault, who, op, name)
            if op in FORWARD or op in BACKWARD:
                work = self.prepare(vault, op, name, version, req)
            else:
                return getattr(self, "op_" + op)(vault, req, name, version)
        return self.finish(vault, *work)  # arithmetic without the lock

    def caller_text(self, req):
        try:
            _, c = self.world.entra.peek(req.header("authorization"))
            return f"appid={c.get('appid')};oid={c.get('oid')};iss={c.get('iss')}"
        except BadToken:
            return "name=NoToken"

    def challenge(self, vault, error="", claims="", resource="", tenant=""):
        w = self.world
        text = f'Bearer authorization="{w.authority}/{tenant or vault.tenant.id}", ' \
               f'resource="{resource or w.audience(vault.hsm)}"'
        if claims:
            text = f'Bearer realm="", authorization_uri="{w.authority}/{tenant or vault.tenant.id}/oauth2/authorize", ' \
                   f'error="{error}", claims="{base64.b64encode(claims.encode()).decode()}", ' \
                   f'resource="{resource or w.audience(vault.hsm)}"'
        return {"WWW-Authenticate": text}

    def unauthorized(self, vault, message, **more):
        head = self.challenge(vault, **more)
        if vault.hsm:
            return Refused(401, "Unauthorized", message, headers=head, body=b"OK")
        return Refused(401, "Unauthorized", message, headers=head)

    def authenticate(self, vault, req):
        w = self.world
        auth = req.header("authorization")
        if not auth.lower().startswith("bearer ") or not auth[7:].strip():
            raise self.unauthorized(vault, "AKV10000: Request is missing a Bearer or PoP token.")
        try:
            header, c = w.entra.peek(auth)
        except BadToken:
            raise self.unauthorized(vault, "AKV10003: Error validating token: IDX12709") from None
        try:
            w.entra.check_signature(auth, header)
        except BadToken:
            raise self.unauthorized(
                vault, "AKV10046: Unable to resolve the key used for signature validation.") from None
        want = w.audience(vault.hsm)
        if c.get("aud") not in (want, want + "/"):
            raise self.unauthorized(vault, f"AKV10022: Invalid audience. Expected {want}, found: {c.get('aud')}.")
        iss = f"https://sts.windows.net/{vault.tenant.id}/"
        if c.get("iss") != iss:
            raise self.unauthorized(vault, f"AKV10032: Invalid issuer. Expected one of {iss}, found {c.get('iss')}.")
        now = time.time()
        if now >= c["exp"]:
            raise self.unauthorized(vault, "[TokenExpired] Error validating token: 'S2S12086'.")
        if now < c["nbf"] - 300:
            raise self.unauthorized(vault, f"Token not yet valid (Activity ID {uuid.uuid4()})")
        if w.entra.issued_at(c) < vault.moved:
            claims = json.dumps({"access_token": {"nbf": {"essential": True, "value": str(int(vault.moved))}}})
            raise self.unauthorized(vault, "AKV10099: Token does not meet the claims required by policy.",
                                    error="insufficient_claims", claims=claims)
        return c

    def authorize(self, vault, who, op, name):
        permission = NEEDS.get(op, "get" if op == "rng" else op)
        if vault.allows(who["oid"], permission, name):
            return
        facts = {"appid": who["appid"], "oid": who["oid"], "iss": who["iss"], "vault": vault.name,
                 "region": vault.region, "permission": permission.lower()}
        if vault.hsm:
            raise Refused(403, "Forbidden", errors.HSM_RBAC.format(activity=uuid.uuid4()))
        if not vault.rbac:
            raise Refused(403, "Forbidden", errors.POLICY.format(**facts), "AccessDenied")
        path = f"/subscriptions/{vault.tenant.subscription}/resourcegroups/rg/providers/microsoft.keyvault/vaults/" \
               f"{vault.name}" + (f"/keys/{name}" if name else "")
        action = "Microsoft.KeyVault/vaults/" + ACTIONS.get(permission, f"keys/{permission.lower()}/action")
        raise Refused(403, "Forbidden", errors.RBAC.format(action=action, resource=path, **facts), "ForbiddenByRbac")

    # ---- wrap, unwrap, encrypt, decrypt ----

    def prepare(self, vault, op, name, version, req):
        ask = req.json()
        alg, value = ask.get("alg"), ask.get("value")
        if not isinstance(alg, str) or not isinstance(value, str):
            raise bad("Property alg or value is missing or has invalid value")
        try:
            value = unb64u(value)
        except ValueError:
            raise bad("Property value has invalid value") from None
        key, v = self.find(vault, name, version)
        if op in BACKWARD and not version:
            raise bad("The key version must be specified for this operation.")
        shown = FORWARD.get(op) or BACKWARD[op]
        if not v.enabled and (op in BACKWARD or vault.disabled_wrap == 403):
            raise Refused(403, "Forbidden", f"Operation {shown} is not allowed on a disabled key.", "KeyDisabled")
        if op in FORWARD and not v.in_window():
            early = v.nbf is not None and time.time() < v.nbf
            raise Refused(403, "Forbidden", f"Operation {shown} is not allowed on "
                          f"{'a key that is not yet valid' if early else 'an expired key'}.")
        if shown not in v.ops:
            raise Refused(403, "Forbidden", f"Operation {shown.lower()} is not permitted on this key.",
                          "KeyOperationForbidden")
        return key, v, alg, value, op in FORWARD

    def finish(self, vault, key, v, alg, value, forward):
        out = {"kid": vault.kid(key, v), "value": b64u(crypt(v, alg, value, forward))}
        if vault.hsm:
            out["alg"] = alg
        return Answer(200, out)

    # ---- the others ----

    def find(self, vault, name, version=""):
        key = vault.keys.get(name)
        if not key:
            raise gone(name)
        v = key.find(version)
        if not v:
            raise gone(f"{name}/{version}")
        return key, v

    def op_get(self, vault, _req, name, version):
        key, v = self.find(vault, name, version)
        if not v.enabled and vault.disabled_get == 403:
            raise Refused(403, "Forbidden", "Operation get is not allowed on a disabled key.", "KeyDisabled")
        return Answer(200, vault.bundle(key, v))

    def page(self, vault, req, items, path):
        size = min(int(req.query.get("maxresults", vault.page)), vault.page)
        if size < 1:
            raise bad("Property maxresults has invalid value")
        try:
            at = int(unb64u(req.query.get("$skiptoken", "MA")))
        except ValueError:
            raise bad("Invalid skip token") from None
        link = None
        if at + size < len(items):
            token = b64u(str(at + size).encode())
            link = f"{vault.base}/{path}?api-version={req.query['api-version']}&$skiptoken={token}&maxresults={size}"
        return Answer(200, {"value": items[at:at + size], "nextLink": link})

    def op_list(self, vault, req, _name, _version):
        return self.page(vault, req, [vault.item(k, k.newest(), False) for _, k in sorted(vault.keys.items())], "keys")

    def op_versions(self, vault, req, name, _version):
        key = vault.keys.get(name)
        items = [vault.item(key, v, True) for v in key.versions] if key else []
        return self.page(vault, req, items, f"keys/{name}/versions")

    def op_listdeleted(self, vault, req, _name, _version):
        vault.settle()
        items = [{**vault.item(k, k.newest(), False), **vault.deleted_part(k)}
                 for _, k in sorted(vault.deleted_keys.items()) if time.time() >= k.settled]
        return self.page(vault, req, items, "deletedkeys")

    def op_getdeleted(self, vault, _req, name, _version):
        key = vault.find_deleted(name)
        return Answer(200, {**vault.bundle(key, key.newest()), **vault.deleted_part(key)})

    def op_create(self, vault, req, name, _version):
        ask = req.json()
        if not isinstance(ask.get("kty"), str):
            raise bad("Property kty is missing or has invalid value")
        key, v = vault.create(self.world.pool, name, ask["kty"], ask.get("key_size"), ask.get("crv"),
                              ask.get("key_ops"), ask.get("attributes"), ask.get("tags"))
        return Answer(200, vault.bundle(key, v))

    def op_import(self, vault, req, name, _version):
        ask = req.json()
        jwk = ask.get("key") or {}
        if jwk.get("kty") not in ("RSA", "RSA-HSM"):
            raise bad("Only RSA keys can be imported here")
        num = {p: int.from_bytes(unb64u(jwk.get(p)), "big") for p in ("p", "q", "d", "dp", "dq", "qi", "e", "n")}
        secret = rsa.RSAPrivateNumbers(num["p"], num["q"], num["d"], num["dp"], num["dq"], num["qi"],
                                       rsa.RSAPublicNumbers(num["e"], num["n"])).private_key()
        kty = "RSA-HSM" if ask.get("Hsm") or ask.get("hsm") else jwk["kty"]
        key, v = vault.create(self.world.pool, name, kty, None, None, jwk.get("key_ops"), ask.get("attributes"),
                              ask.get("tags"), secret)
        return Answer(200, vault.bundle(key, v))

    def op_update(self, vault, req, name, version):
        key, v = self.find(vault, name, version)
        ask = req.json()
        v.update(ask.get("attributes") or {})
        if isinstance(ask.get("key_ops"), list):
            v.ops = ask["key_ops"]
        if isinstance(ask.get("tags"), dict):
            key.tags = ask["tags"]
        return Answer(200, vault.bundle(key, v))

    def op_rotate(self, vault, _req, name, _version):
        key, _ = self.find(vault, name)
        return Answer(200, vault.bundle(key, vault.rotate(self.world.pool, key)))

    def op_delete(self, vault, _req, name, _version):
        key = vault.delete(name)
        out = vault.bundle(key, key.newest())
        return Answer(200, {**out, **vault.deleted_part(key)} if vault.soft_delete else out)

    def op_recover(self, vault, _req, name, _version):
        key = vault.recover(name)
        return Answer(200, vault.bundle(key, key.newest()))

    def op_purge(self, vault, _req, name, _version):
        vault.purge(name)
        return Answer(204)

    def op_backup(self, vault, _req, name, _version):
        key, _ = self.find(vault, name)
        handle = os.urandom(64)
        self.backups[handle] = key, list(key.versions)
        return Answer(200, {"value": b64u(handle)})

    def op_restore(self, vault, req, _name, _version):
        try:
            key, versions = self.backups[unb64u(req.json().get("value"))]
        except KeyError:
            raise bad("Backup blob contains invalid data.") from None
        if key.name in vault.keys or key.name in vault.deleted_keys:
            raise Refused(409, "Conflict", f"Key {key.name} exists already")
        copy = type(key)(key.name, key.kty, key.size, key.crv, dict(key.tags))
        copy.versions = list(versions)
        vault.keys[key.name] = copy
        return Answer(200, vault.bundle(copy, copy.newest()))

    def op_getrotationpolicy(self, vault, _req, name, _version):
        key, v = self.find(vault, name)
        policy = key.policy or {"lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"},
                                                     "action": {"type": "Notify"}}],
                                "attributes": {"expiryTime": None}}
        policy = {"id": vault.kid(key) + "/rotationpolicy", **policy}
        policy["attributes"] = {**policy["attributes"], "created": v.created, "updated": v.updated}
        return Answer(200, policy)

    def op_setrotationpolicy(self, vault, req, name, version):
        key, _ = self.find(vault, name)
        ask = req.json()
        if not isinstance(ask.get("lifetimeActions"), list):
            raise bad("Property lifetimeActions has invalid value")
        key.policy = {"lifetimeActions": ask["lifetimeActions"], "attributes": {
            "expiryTime": (ask.get("attributes") or {}).get("expiryTime")}}
        return self.op_getrotationpolicy(vault, req, name, version)

    def op_rng(self, vault, req, _name, _version):
        count = req.json().get("count")
        if not vault.hsm or not isinstance(count, int) or not 1 <= count <= 128:
            raise bad("Property count has invalid value")
        return Answer(200, {"value": b64u(os.urandom(count))})
