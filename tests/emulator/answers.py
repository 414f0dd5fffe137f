#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
"""What Key Vault's documentation and recordings of it say an answer is like, and what the emulator answers."""

import base64
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import WRAP, Cases, equal, error  # noqa: E402

cases = Cases()
case = cases.add
RSA_OPS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
VERSION = re.compile(r"[0-9a-f]{32}\Z")


# ---- success ----

@case
def key_bundle(E):
    status, head, body = E.call("v1", "GET", "/keys/k1")
    equal(status, 200)
    equal(set(body), {"key", "attributes"})
    equal(set(body["key"]), {"kid", "kty", "key_ops", "n", "e"})
    equal((body["key"]["kty"], body["key"]["e"], body["key"]["key_ops"]), ("RSA", "AQAB", RSA_OPS))
    equal(len(body["key"]["n"]), 342, "base64url of 256 bytes without padding")
    kid = body["key"]["kid"]
    assert kid.startswith(f"https://v1.vault.localhost:{E.ports['vault']}/keys/k1/") and VERSION.match(kid[-32:]), kid
    a = body["attributes"]
    equal(set(a), {"enabled", "created", "updated", "recoveryLevel", "recoverableDays"})
    equal((a["enabled"], a["recoveryLevel"], a["recoverableDays"]), (True, "Recoverable", 90))
    equal(E.call("v1", "GET", "/keys/k1/")[2], body, "with a slash at the end")
    equal(E.call("v1", "GET", "/keys/k1/" + kid[-32:])[2], body, "with its version")
    equal(head["x-ms-keyvault-region"], "westeurope")


@case
def wrap_and_unwrap(E):
    for version in ("7.4", "7.5", "7.6", "2025-07-01"):
        status, _, body = E.call("v1", "POST", f"/keys/k1/wrapkey?api-version={version}", body=WRAP)
        equal((status, set(body)), (200, {"kid", "value"}), version)
    at, value = E.wrapped()
    assert VERSION.match(at.split("/")[1]), at
    status, _, body = E.unwrap(at, value)
    equal((status, body["value"]), (200, WRAP["value"]))
    equal(body["kid"].split("/keys/")[1], at)
    equal(E.call("v1", "POST", f"/keys/{at}/WRAPKEY", body=WRAP)[0], 200, "paths have no case")
    other = E.wrapped()[1]
    assert other != value, "OAEP is random"


@case
def managed_hsm(E):
    status, head, body = E.call("h1", "POST", "/keys/oct/create", "admin", {"kty": "oct-HSM", "key_size": 256},
                                hsm=True)
    equal(status, 200, body)
    equal(set(body["key"]), {"kid", "kty", "key_ops"}, "no key material")
    equal(body["key"]["kid"][:len("https://h1.managedhsm.localhost:")], "https://h1.managedhsm.localhost:")
    equal(head["x-ms-keyvault-region"], "westeurope", "on an authenticated answer")
    assert "x-ms-request-id" in head and "x-ms-server-latency" in head, head
    at, value = E.wrapped("h1", "oct", True, "admin", {**WRAP, "alg": "A256KW"})
    equal(len(value), 54, "40 bytes")
    status, _, body = E.unwrap(at, value, "h1", True, "admin", "A256KW")
    equal((status, body["value"], body["alg"]), (200, WRAP["value"], "A256KW"))
    equal(E.call("h1", "POST", "/keys/r/create", "admin", {"kty": "RSA"}, hsm=True)[2]["key"]["kty"], "RSA-HSM")


@case
def recovery_levels(E):
    for words, level, days in (
            (["--no-soft-delete"], "Purgeable", 0),
            (["--no-purge-protection"], "Recoverable+Purgeable", 90),
            (["--no-purge-protection", "--retention", 7], "CustomizedRecoverable+Purgeable", 7),
            ([], "Recoverable", 90),
            (["--retention", 30], "CustomizedRecoverable", 30)):
        E.ctl("vault", "create", "levels", *words)
        E.ctl("grant", "levels", "app1")
        E.new_key("k", vault="levels")
        a = E.call("levels", "GET", "/keys/k")[2]["attributes"]
        equal((a["recoveryLevel"], a["recoverableDays"]), (level, days), words)
        E.ctl("vault", "purge", "levels")


@case
def pages(E):
    E.ctl("vault", "create", "p1")
    E.ctl("grant", "p1", "admin", "officer")
    for i in range(30):
        E.new_key(f"key-{i:02}", vault="p1")
    status, _, body = E.call("p1", "GET", "/keys", "admin")
    equal((status, set(body), len(body["value"])), (200, {"value", "nextLink"}, 25))
    equal(set(body["value"][0]), {"kid", "attributes"})
    equal(body["value"][0]["kid"].split("/keys/")[1], "key-00", "a list's identifiers have no version")
    base = f"https://p1.vault.localhost:{E.ports['vault']}"
    assert body["nextLink"].startswith(base + "/keys?api-version=7.4&$skiptoken="), body["nextLink"]
    body = E.call("p1", "GET", body["nextLink"][len(base):], "admin")[2]
    equal((len(body["value"]), body["nextLink"]), (5, None))
    E.call("p1", "POST", "/keys/key-00/rotate", "admin")
    body = E.call("p1", "GET", "/keys/key-00/versions?maxresults=1", "admin")[2]
    equal(len(body["value"]), 1)
    assert VERSION.match(body["value"][0]["kid"][-32:]), body


# ---- headers ----

@case
def headers_of_a_vault(E):
    ident = "6d2b3b0a-0000-4000-8000-123456789abc"
    for who in ("app1", None):
        _, head, _ = E.call("v1", "GET", "/keys/k1", who, headers={"x-ms-client-request-id": ident})
        equal(head["x-ms-client-request-id"], ident)
        equal(head["x-ms-keyvault-region"], "westeurope")
        assert re.match(r"conn_type=Ipv4;addr=[0-9.]+;act_addr_fam=InterNetwork;$", head["x-ms-keyvault-network-info"])
        assert re.match(r"[0-9a-f-]{36}$", head["x-ms-request-id"]) and "x-ms-keyvault-service-version" in head


@case
def challenge_of_a_vault(E):
    answer = E.call("v1", "GET", "/keys/k1", None)
    error(answer, 401, "Unauthorized", says="AKV10000: Request is missing a Bearer or PoP token.")
    equal(answer[1]["www-authenticate"], f'Bearer authorization="{E.info["authority"]}/{E.info["tenants"]["T1"]}", '
          'resource="https://vault.localhost"')


@case
def challenge_of_an_hsm(E):
    status, head, body = E.call("h1", "GET", "/keys/k1", None, hsm=True, headers={"x-ms-client-request-id": "a"})
    equal((status, body, head["content-type"]), (401, b"OK", "application/json; charset=utf-8"))
    equal(head["www-authenticate"], f'Bearer authorization="{E.info["authority"]}/{E.info["tenants"]["T1"]}", '
          'resource="https://managedhsm.localhost"')
    assert "x-ms-keyvault-region" not in head and "x-ms-client-request-id" not in head, head


# ---- every row of the table of errors ----

@case
def key_disabled(E):
    E.new_key("dis")
    at, value = E.wrapped(key="dis")
    E.ctl("key", "disable", "v1", "dis")
    error(E.unwrap(at, value), 403, "Forbidden", "KeyDisabled", "Operation unwrapKey is not allowed on a disabled key.")
    error(E.call("v1", "POST", "/keys/dis/wrapkey", body=WRAP), 403, "Forbidden", "KeyDisabled")
    status, _, body = E.call("v1", "GET", "/keys/dis")
    equal((status, body["attributes"]["enabled"]), (200, False), "GET shows a disabled key")
    E.ctl("vault", "set", "v1", "disabled_get=403", "disabled_wrap=200")
    error(E.call("v1", "GET", "/keys/dis"), 403, "Forbidden", "KeyDisabled")
    equal(E.call("v1", "POST", "/keys/dis/wrapkey", body=WRAP)[0], 200)
    E.ctl("vault", "set", "v1", "disabled_get=200", "disabled_wrap=403")
    E.ctl("key", "enable", "v1", "dis")
    equal(E.unwrap(at, value)[0], 200)


@case
def one_version_disabled(E):
    E.new_key("two")
    at, value = E.wrapped(key="two")
    E.ctl("key", "rotate", "v1", "two")
    E.ctl("key", "disable", "v1", "two", "--version", at.split("/")[1])
    error(E.unwrap(at, value), 403, "Forbidden", "KeyDisabled")
    old, (at, value) = value, E.wrapped(key="two")
    error(E.unwrap(at, old), 400, "BadParameter")
    equal(E.unwrap(at, value)[0], 200)


@case
def outside_its_time(E):
    E.new_key("time")
    at, value = E.wrapped(key="time")
    for words in (["--exp", "-5"], ["--exp", "none", "--nbf", "+600"]):
        E.ctl("key", "update", "v1", "time", *words)
        error(E.call("v1", "POST", "/keys/time/wrapkey", body=WRAP), 403, "Forbidden", None)
        equal(E.unwrap(at, value)[0], 200, "an expired key still unwraps")
        assert {"exp", "nbf"} & set(E.call("v1", "GET", "/keys/time")[2]["attributes"])


@case
def operation_not_permitted(E):
    E.new_key("ops", "--ops", "wrapKey")
    at, value = E.wrapped(key="ops")
    error(E.unwrap(at, value), 403, "Forbidden", "KeyOperationForbidden", "is not permitted on this key")


@case
def key_not_found(E):
    error(E.call("v1", "GET", "/keys/nothing"), 404, "KeyNotFound", None,
          "A key with (name/id) nothing was not found in this key vault.")
    at, value = E.wrapped()
    error(E.unwrap("k1/" + "0" * 32, value), 404, "KeyNotFound")
    E.new_key("gone")
    at, value = E.wrapped(key="gone")
    E.ctl("key", "delete", "v1", "gone")
    error(E.unwrap(at, value), 404, "KeyNotFound")
    error(E.call("v1", "POST", "/keys/gone/create", "admin", {"kty": "RSA"}), 409, "Conflict",
          "ObjectIsDeletedButRecoverable")
    error(E.call("v1", "DELETE", "/deletedkeys/gone", "admin"), 403, "Forbidden", "ForbiddenByPolicy")
    status, _, body = E.call("v1", "GET", "/deletedkeys/gone", "admin")
    equal((status, set(body) - {"key", "attributes"}), (200, {"recoveryId", "deletedDate", "scheduledPurgeDate"}))
    equal(body["scheduledPurgeDate"] - body["deletedDate"], 90 * 86400)
    equal(E.call("v1", "POST", "/deletedkeys/gone/recover", "admin")[0], 200)
    equal(E.unwrap(at, value)[0], 200, "recovered with all versions")
    E.ctl("key", "delete", "v1", "gone")
    E.ctl("key", "purge", "v1", "gone", "--force")
    error(E.call("v1", "GET", "/deletedkeys/gone", "admin"), 404, "KeyNotFound", None, "Deleted Key not found")


@case
def deletion_takes_time(E):
    E.ctl("vault", "create", "slow", "--no-purge-protection")
    E.ctl("vault", "set", "slow", "delete_seconds=600")
    E.ctl("grant", "slow", "admin", "officer")
    E.new_key("k", vault="slow")
    equal(E.call("slow", "DELETE", "/keys/k", "admin")[0], 200)
    error(E.call("slow", "GET", "/deletedkeys/k", "admin"), 404, "KeyNotFound", None, "Deleted Key not found")
    error(E.call("slow", "POST", "/keys/k/create", "admin", {"kty": "RSA"}), 409, "Conflict", "ObjectIsBeingDeleted")


@case
def purge(E):
    E.ctl("vault", "create", "purge", "--no-purge-protection")
    E.ctl("grant", "purge", "admin", "officer")
    E.new_key("k", vault="purge")
    E.ctl("key", "delete", "purge", "k")
    status, head, body = E.call("purge", "DELETE", "/deletedkeys/k", "admin")
    equal((status, body, "content-length" in head), (204, b"", False))


@case
def access_policy_lacks_permission(E):
    E.ctl("vault", "create", "pol", "--mode", "policy", "--region", "northeurope")
    E.new_key("k", vault="pol")
    _, _, body = error(E.call("pol", "GET", "/keys/k"), 403, "Forbidden", "AccessDenied", "does not have keys get "
                       "permission on key vault 'pol;location=northeurope'")
    who = E.ctl("identity", "show", "app1")
    assert f"appid={who['client_id']};oid={who['oid']};iss=https://sts.windows.net/" in body["error"]["message"]
    E.ctl("grant", "pol", "app1", "get,wrapKey")
    at, value = E.wrapped("pol", "k")
    error(E.unwrap(at, value, "pol"), 403, "Forbidden", "AccessDenied", "does not have keys unwrapkey permission")


@case
def role_is_missing(E):
    error(E.call("v1", "POST", "/keys/new/create", body={"kty": "RSA"}), 403, "Forbidden", "ForbiddenByRbac",
          "Caller is not authorized to perform action on resource.")
    E.ctl("vault", "create", "rbac")
    E.new_key("a", vault="rbac")
    E.new_key("b", vault="rbac")
    E.ctl("grant", "rbac", "app1", "--key", "a")
    equal(E.call("rbac", "GET", "/keys/a")[0], 200, "a role for one key")
    error(E.call("rbac", "GET", "/keys/b"), 403, "Forbidden", "ForbiddenByRbac")
    E.ctl("revoke", "rbac", "app1")
    error(E.call("rbac", "GET", "/keys/a"), 403, "Forbidden", "ForbiddenByRbac")
    error(E.call("h1", "GET", "/keys/a", hsm=True), 403, "Forbidden", None)


@case
def firewall(E):
    E.ctl("firewall", "v1", "on")
    for who in ("app1", None):
        error(E.call("v1", "GET", "/keys/k1", who), 403, "Forbidden", "ForbiddenByFirewall",
              "Client address is not authorized and caller is not a trusted service")
    E.ctl("firewall", "v1", "private")
    error(E.call("v1", "GET", "/keys/k1"), 403, "Forbidden", "ForbiddenByConnection",
          "Public network access is disabled")
    E.ctl("firewall", "v1", "off")


@case
def bad_tokens(E):
    other = E.ctl("token", "issue", "app1", "--audience", "https://management.localhost")
    error(E.call("v1", "GET", "/keys/k1", token=other), 401, "Unauthorized", None, "AKV10022: Invalid audience.")
    E.ctl("identity", "move", "user1", "T2")
    foreign = E.ctl("token", "issue", "user1")
    error(E.call("v1", "GET", "/keys/k1", token=foreign), 401, "Unauthorized", None, "AKV10032: Invalid issuer.")
    E.ctl("identity", "move", "user1", "T1")
    E.ctl("token", "lifetime", 0)
    expired = E.ctl("token", "issue", "app1")
    E.ctl("token", "lifetime", 3599)
    _, head, _ = error(E.call("v1", "GET", "/keys/k1", token=expired), 401, "Unauthorized", None, "[TokenExpired]")
    assert "www-authenticate" in head
    good = E.token("app1")
    error(E.call("v1", "GET", "/keys/k1", token=good[:-4] + "AAAA"), 401, "Unauthorized", None, "AKV10046")
    error(E.call("v1", "GET", "/keys/k1", token="nonsense"), 401, "Unauthorized")


@case
def vault_moves_to_another_tenant(E):
    E.ctl("vault", "create", "move")
    E.new_key("k", vault="move")
    E.ctl("grant", "move", "app1")
    equal(E.call("move", "GET", "/keys/k")[0], 200)
    E.ctl("vault", "move", "move", "T2")
    _, head, _ = error(E.call("move", "GET", "/keys/k"), 401, "Unauthorized", None, "AKV10032")
    assert E.info["tenants"]["T2"] in head["www-authenticate"], head


@case
def signing_key_cannot_be_had(E):
    E.ctl("fault", "add", "v1", "get", "akv10046", "--count", 1)
    error(E.call("v1", "GET", "/keys/k1"), 401, "Unauthorized", None,
          "AKV10046: Unable to resolve the key used for signature validation.")
    equal(E.call("v1", "GET", "/keys/k1")[0], 200)
    E.ctl("fault", "add", "v1", "get", "not-yet-valid", "--count", 1)
    error(E.call("v1", "GET", "/keys/k1"), 401, "Unauthorized", None, "Token not yet valid (Activity ID")


@case
def claims_challenge(E):
    E.ctl("vault", "create", "cae")
    E.new_key("k", vault="cae")
    E.ctl("grant", "cae", "app1")
    old = E.token("app1")
    E.ctl("cae", "cae")
    status, head, _ = E.call("cae", "GET", "/keys/k", token=old)
    equal(status, 401)
    m = re.search(r'error="insufficient_claims", claims="([^"]+)"', head["www-authenticate"])
    claims = json.loads(base64.b64decode(m.group(1)))
    equal(claims["access_token"]["nbf"]["essential"], True)
    fresh = E.ctl("token", "issue", "app1")
    equal(E.call("cae", "GET", "/keys/k", token=fresh)[0], 200)


@case
def throttled(E):
    E.ctl("fault", "add", "v1", "get", "throttle", "--count", 1)
    _, head, _ = error(E.call("v1", "GET", "/keys/k1"), 429, "Throttled", None, "Request was not processed because too "
                       "many requests were received. Reason: VaultRequestTypeLimitReached")
    assert "retry-after" not in head, "the captured answers have none"
    E.ctl("fault", "add", "v1", "get", "throttle", "--count", 1, "--retry-after", 3)
    equal(E.call("v1", "GET", "/keys/k1")[1]["retry-after"], "3")


@case
def bad_requests(E):
    host, port = "v1.vault.localhost", E.ports["vault"]
    auth = {"Authorization": "Bearer " + E.token("app1")}
    status, _, body = E.request(host, port, "GET", "/keys/k1", auth)
    equal((status, json.loads(body)["error"]["code"]), (400, "BadParameter"), "api-version has no default")
    error(E.call("v1", "GET", "/keys/k1?api-version=1.0"), 400, "BadParameter")
    error(E.call("v1", "POST", "/keys/k1/wrapkey", body={"alg": "A256KW", "value": "AAAA"}), 400, "BadParameter")
    error(E.call("v1", "POST", "/keys/k1/wrapkey", body={"alg": "RSA-OAEP-256"}), 400, "BadParameter")
    error(E.call("v1", "POST", "/keys/k1/wrapkey", body={"alg": "RSA-OAEP-256", "value": "A" * 255}), 400,
          "BadParameter")
    at, value = E.wrapped()
    error(E.unwrap(at, "A" * 342), 400, "BadParameter")
    error(E.call("v1", "GET", "/keys/k_1"), 400, "BadParameter")


@case
def vault_deleted(E):
    E.ctl("vault", "create", "lost")
    E.ctl("vault", "delete", "lost")
    error(E.call("lost", "GET", "/keys/k"), 404, "VaultNotFound")


@case
def order_of_checks(E):
    """Firewall, token, permission, then the key."""
    E.new_key("order", "--disabled")
    E.ctl("firewall", "v1", "on")
    error(E.call("v1", "POST", "/keys/order/wrapkey", "vm", WRAP, token="nonsense"), 403, "Forbidden",
          "ForbiddenByFirewall")
    E.ctl("firewall", "v1", "off")
    error(E.call("v1", "POST", "/keys/order/wrapkey", token="nonsense", body=WRAP), 401, "Unauthorized")
    E.ctl("revoke", "v1", "app1")
    error(E.call("v1", "POST", "/keys/order/wrapkey", body=WRAP), 403, "Forbidden", "ForbiddenByRbac")
    error(E.call("v1", "GET", "/keys/nothing"), 403, "Forbidden", "ForbiddenByRbac")
    E.ctl("grant", "v1", "app1")
    error(E.call("v1", "POST", "/keys/order/wrapkey", body=WRAP), 403, "Forbidden", "KeyDisabled")


# ---- who gives out tokens ----

@case
def token_endpoint(E):
    who = E.ctl("identity", "show", "app1")
    ident = who["client_id"]
    status, _, body = E.post_token("T1", client_id=ident, client_secret="app1-secret")
    equal((status, set(body), body["token_type"]), (200, {"token_type", "expires_in", "ext_expires_in",
                                                          "access_token"}, "Bearer"))
    assert isinstance(body["expires_in"], int)
    claims = json.loads(base64.urlsafe_b64decode(body["access_token"].split(".")[1] + "=="))
    equal((claims["aud"], claims["tid"], claims["oid"], claims["appid"]),
          ("https://vault.localhost", E.info["tenants"]["T1"], who["oid"], ident))
    equal(claims["iss"], f"https://sts.windows.net/{claims['tid']}/")

    def refuse(status, name, number, tenant="T1", **form):
        found, _, body = E.post_token(tenant, **form)
        equal((found, body["error"], body["error_codes"]), (status, name, [number]))
        assert body["error_description"].startswith(f"AADSTS{number}: "), body
        equal(set(body) - {"error_uri"}, {"error", "error_description", "error_codes", "timestamp", "trace_id",
                                          "correlation_id"})

    refuse(401, "invalid_client", 7000215, client_id=ident, client_secret="wrong")
    E.ctl("identity", "secret", "app1", "old", "--expires", "-1")
    refuse(401, "invalid_client", 7000222, client_id=ident, client_secret="old")
    refuse(400, "unauthorized_client", 700016, client_id="0" * 36, client_secret="x")
    refuse(400, "unauthorized_client", 700016, tenant="T2", client_id=ident, client_secret="app1-secret")
    refuse(400, "invalid_request", 90002, tenant="99999999-0000-4000-8000-000000000000", client_id=ident)
    refuse(400, "invalid_resource", 500011, client_id=ident, client_secret="app1-secret",
           scope="https://unknown.localhost/.default")
    E.ctl("identity", "disable", "app1")
    refuse(400, "unauthorized_client", 7000112, client_id=ident, client_secret="app1-secret")
    E.ctl("identity", "enable", "app1")
    jwt = {"client_id": ident, "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    for subject, lifetime, number in (("app1", 3600, 0), ("other", 3600, 700213), ("app1", -1, 700024)):
        token = E.ctl("token", "service-account", f"system:serviceaccount:default:{subject}", f"--lifetime={lifetime}")
        if number:
            refuse(401, "invalid_client", number, client_assertion=token, **jwt)
        else:
            equal(E.post_token("T1", client_assertion=token, **jwt)[0], 200)


@case
def imds(E):
    path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.localhost"
    status, _, body = E.metadata("imds", path, Metadata="true")
    equal(status, 200)
    for name in ("expires_in", "expires_on", "not_before"):
        assert isinstance(body[name], str) and body[name].isdigit(), "numbers are strings here"
    equal((body["resource"], body["token_type"]), ("https://vault.localhost", "Bearer"))
    status, _, body = E.metadata("imds", path)
    equal((status, body["error"]), (400, "bad_request_102"))
    status, _, body = E.metadata("imds", path.replace("vault.local", "other.local"), Metadata="true")
    equal((status, body["error"]), (400, "invalid_resource"))
    assert "AADSTS50001" in body["error_description"]
    user1 = E.ctl("identity", "show", "user1")
    status, _, body = E.metadata("imds", f"{path}&client_id={user1['client_id']}", Metadata="true")
    equal((status, body["client_id"]), (200, user1["client_id"]))
    for name in ("client_id", "object_id", "msi_res_id"):
        equal(E.metadata("imds", f"{path}&{name}=nobody", Metadata="true")[0], 400, name)
    E.ctl("identity", "remove", "vm")
    status, _, body = E.metadata("imds", path, Metadata="true")
    equal((status, set(body)), (200, set(body)), "the only identity that is left")
    E.ctl("identity", "remove", "user1")
    status, _, body = E.metadata("imds", path, Metadata="true")
    equal((status, set(body)), (400, {"error", "error_description"}))
    E.ctl("identity", "restore", "vm")
    E.ctl("identity", "restore", "user1")
    for code in (404, 410, 429, 500):
        E.ctl("fault", "add", "imds", "token", "status", "--status", code, "--count", 1)
        equal(E.metadata("imds", path, Metadata="true")[0], code)
    status, _, body = E.metadata("imds", "/metadata/instance/compute?api-version=2021-02-01", Metadata="true")
    equal((status, body["location"], body["azEnvironment"]), (200, "westeurope", "AzurePublicCloud"))
    status, _, body = E.metadata("imds", "/metadata/identity/info?api-version=2018-02-01", Metadata="true")
    equal((status, body), (200, {"tenantId": E.info["tenants"]["T1"]}))


@case
def arc(E):
    path = "/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fvault.localhost"
    status, head, _ = E.metadata("arc", path, Metadata="true")
    m = re.match(r"Basic realm=(/.*\.key)$", head["www-authenticate"])
    assert status == 401 and m, head
    with open(m.group(1), encoding="ascii") as f:
        secret = f.read()
    equal(E.metadata("arc", path, Metadata="true", Authorization="Basic wrong")[0], 401)
    status, _, body = E.metadata("arc", path, Metadata="true", Authorization=f"Basic {secret}")
    equal((status, body["token_type"]), (200, "Bearer"))
    equal(E.metadata("arc", path, Metadata="true", Authorization=f"Basic {secret}")[0], 401, "only once")


@case
def app_service(E):
    path = "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.localhost"
    secret = E.info["app_service"]["IDENTITY_HEADER"]
    status, _, body = E.metadata("imds", path, **{"X-IDENTITY-HEADER": secret})
    equal((status, body["token_type"]), (200, "Bearer"))
    assert body["expires_on"].isdigit()
    equal(E.metadata("imds", path, **{"X-IDENTITY-HEADER": "x"})[0], 401)


@case
def log_has_no_secrets(E):
    with open(os.path.join(E.dir, "log.jsonl"), encoding="utf-8") as f:
        text = f.read()
    assert E.token("app1") not in text and "app1-secret" not in text and WRAP["value"] not in text
    entry = E.ctl("log", "--op", "unwrapkey", "--inner", "KeyDisabled")[0]
    equal((entry["status"], entry["verdict"], entry["identity"], entry["target"]), (403, "denied", "app1", "v1"))
    assert entry["start"] <= entry["mono"] <= time.monotonic()


if __name__ == "__main__":
    sys.exit(cases.run())
