# SPDX-License-Identifier: Apache-2.0
"""What there is in the cloud: vaults and their keys. Everything is in memory and below one lock."""

import os
import threading
import time

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from .errors import Refused, bad, gone
from .jwt import b64u, int_b64u

DAY = 86400
ALL_OPS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
EC_OPS = ["sign", "verify"]
RSA_SIZES = (2048, 3072, 4096)
PERMISSIONS = ("get list create import update delete recover purge backup restore rotate wrapKey unwrapKey encrypt "
               "decrypt sign verify getRotationPolicy setRotationPolicy").split()
ROLES = {
    # Key Vault Crypto Service Encryption User, and its twin of Managed HSM
    "encryption-user": ("get", "wrapKey", "unwrapKey"),
    "crypto-user": tuple("get list update backup encrypt decrypt wrapKey unwrapKey sign verify".split()),
    "reader": ("get", "list"),
    "officer": tuple(PERMISSIONS),
}


def permissions_of(text):
    """A role's name, or permissions with commas between."""
    if text in ROLES:
        return set(ROLES[text])
    known = {p.lower(): p for p in PERMISSIONS}
    try:
        return {known[p.lower()] for p in text.split(",")}
    except KeyError as e:
        raise ValueError(f"no role and no permission: {e.args[0]}; roles: {' '.join(ROLES)}; "
                         f"permissions: {' '.join(PERMISSIONS)}") from e


class KeyPool:
    """RSA keys take long to make: with fast the first few of each size are used again, in turns."""

    few = {2048: 4, 3072: 2, 4096: 2}

    def __init__(self, fast):
        self.fast = fast
        self.made = {}
        self.lock = threading.Lock()

    def rsa(self, bits):
        if not self.fast:
            return rsa.generate_private_key(65537, bits)
        with self.lock:
            made = self.made.setdefault(bits, [])
            if len(made) < self.few[bits]:
                made.append(rsa.generate_private_key(65537, bits))
            else:
                made.append(made.pop(0))
            return made[-1]


class Version:
    def __init__(self, secret, attributes, ops):
        self.id = os.urandom(16).hex()
        self.secret = secret
        self.ops = ops
        self.enabled = True
        self.nbf = self.exp = None
        self.created = self.updated = int(time.time())
        self.update(attributes)

    def update(self, attributes):
        if not isinstance(attributes, dict):
            raise bad("Property attributes has invalid value")
        for name in ("nbf", "exp"):
            value = attributes.get(name, getattr(self, name))
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise bad(f"Property {name} has invalid value")
            setattr(self, name, value)
        if attributes.get("enabled") is not None:
            self.enabled = bool(attributes["enabled"])
        self.updated = int(time.time())

    def in_window(self):
        now = time.time()
        return (self.nbf is None or now >= self.nbf) and (self.exp is None or now < self.exp)


class Key:
    def __init__(self, name, kty, size, crv, tags):
        self.name = name
        self.kty = kty
        self.size = size
        self.crv = crv
        self.tags = tags
        self.versions = []  # the newest last
        self.policy = None
        self.deleted = None  # time of deletion
        self.settled = 0  # when the deletion is visible

    def newest(self):
        return self.versions[-1]

    def find(self, version):
        if not version:
            return self.newest()
        for v in self.versions:
            if v.id == version.lower():
                return v
        return None


class Vault:
    def __init__(self, name, tenant, region, hsm, suffix, port):
        self.name = name
        self.tenant = tenant
        self.region = region
        self.hsm = hsm
        self.host = name + suffix
        self.base = f"https://{self.host}:{port}"
        self.rbac = True
        self.soft_delete = True
        self.purge_protection = True
        self.retention = 90
        self.firewall = ""  # "", "address" or "private"
        self.deleted = None
        self.grants = {}  # oid: {key name or "": permissions}
        self.keys = {}
        self.deleted_keys = {}
        self.moved = 0.0  # tokens from before are asked for anew: claims challenge
        self.page = 25
        self.delete_seconds = 0.0
        # What no primary source settles can be chosen.
        self.disabled_get = 200
        self.disabled_wrap = 403

    def level(self):
        if not self.soft_delete:
            return "Purgeable", 0
        text = "Recoverable" if self.retention == 90 else "CustomizedRecoverable"
        return text if self.purge_protection else text + "+Purgeable", self.retention

    def allows(self, oid, permission, key=""):
        scopes = self.grants.get(oid, {})
        return any(permission in scopes.get(scope, ()) for scope in {"", key})

    # ---- what an answer shows ----

    def kid(self, key, version=None):
        return f"{self.base}/keys/{key.name}" + (f"/{version.id}" if version else "")

    def attributes(self, v):
        level, days = self.level()
        out = {"enabled": v.enabled}
        if v.nbf is not None:
            out["nbf"] = v.nbf
        if v.exp is not None:
            out["exp"] = v.exp
        out.update(created=v.created, updated=v.updated, recoveryLevel=level, recoverableDays=days)
        if self.hsm:
            out["exportable"] = False
        return out

    def bundle(self, key, v):
        jwk = {"kid": self.kid(key, v), "kty": key.kty, "key_ops": v.ops}
        if isinstance(v.secret, rsa.RSAPrivateKey):
            n = v.secret.public_key().public_numbers()
            jwk.update(n=int_b64u(n.n), e=int_b64u(n.e))
        elif isinstance(v.secret, ec.EllipticCurvePrivateKey):
            n, size = v.secret.public_key().public_numbers(), (v.secret.key_size + 7) // 8
            jwk.update(crv=key.crv, x=int_b64u(n.x, size), y=int_b64u(n.y, size))
        out = {"key": jwk, "attributes": self.attributes(v)}
        if key.tags:
            out["tags"] = key.tags
        return out

    def deleted_part(self, key):
        return {"recoveryId": f"{self.base}/deletedkeys/{key.name}", "deletedDate": int(key.deleted),
                "scheduledPurgeDate": int(key.deleted) + self.retention * DAY}

    def item(self, key, v, versioned):
        out = {"kid": self.kid(key, v if versioned else None), "attributes": self.attributes(v)}
        if key.tags:
            out["tags"] = key.tags
        return out

    # ---- what changes keys ----

    def settle(self):
        """What is due happens: the end of the retention."""
        for name, key in list(self.deleted_keys.items()):
            if time.time() >= key.deleted + self.retention * DAY:
                del self.deleted_keys[name]

    def make_secret(self, pool, kty, size, crv):
        if kty in ("RSA", "RSA-HSM"):
            if size not in RSA_SIZES:
                raise bad(f"Specified RSA key size {size} is not supported.")
            return pool.rsa(size)
        if kty in ("EC", "EC-HSM"):
            curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "P-256K": ec.SECP256K1}
            if crv not in curves:
                raise bad(f"The specified curve {crv} is not supported.")
            return ec.generate_private_key(curves[crv]())
        if kty == "oct-HSM" and self.hsm:
            if size not in (128, 192, 256):
                raise bad(f"Specified oct key size {size} is not supported.")
            return os.urandom(size // 8)
        raise bad("Property kty has invalid value" if self.hsm else f"Key type {kty} is not supported by this vault")

    def create(self, pool, name, kty, size=None, crv=None, ops=None, attributes=None, tags=None, secret=None):
        self.settle()
        if name in self.deleted_keys:
            being = time.time() < self.deleted_keys[name].settled
            raise Refused(409, "Conflict", f"Key {name} is currently " + (
                "being deleted." if being else "in a deleted but recoverable state, and its name cannot be reused; "
                "in this state, the key can only be recovered or purged."),
                "ObjectIsBeingDeleted" if being else "ObjectIsDeletedButRecoverable")
        if self.hsm and kty in ("RSA", "EC"):
            kty += "-HSM"
        is_rsa = kty.startswith("RSA")
        if size is None:
            size = 2048 if is_rsa else 256
        crv = (crv or "P-256") if kty.startswith("EC") else None
        if ops is None:
            ops = EC_OPS if crv else ["wrapKey", "unwrapKey"] if kty == "oct-HSM" else ALL_OPS
        elif not isinstance(ops, list) or not all(o in ALL_OPS + ["import", "export"] for o in ops):
            raise bad("Property key_ops has invalid value")
        v = Version(secret or self.make_secret(pool, kty, size, crv), attributes or {}, list(ops))
        if is_rsa:
            size = v.secret.key_size
        key = self.keys.setdefault(name, Key(name, kty, size, crv, {}))
        key.kty, key.size, key.crv, key.tags = kty, size, crv, dict(tags or {})
        key.versions.append(v)
        return key, v

    def rotate(self, pool, key):
        old = key.newest()
        v = Version(self.make_secret(pool, key.kty, key.size, key.crv), {}, list(old.ops))
        key.versions.append(v)
        return v

    def delete(self, name):
        key = self.keys.pop(name, None)
        if not key:
            raise gone(name)
        key.deleted = time.time()
        key.settled = key.deleted + self.delete_seconds
        if self.soft_delete:
            self.deleted_keys[name] = key
        return key

    def find_deleted(self, name):
        self.settle()
        key = self.deleted_keys.get(name)
        if not key or time.time() < key.settled:
            raise Refused(404, "KeyNotFound", f"Deleted Key not found: {name}")
        return key

    def recover(self, name):
        key = self.find_deleted(name)
        del self.deleted_keys[name]
        key.deleted = None
        self.keys[name] = key
        return key

    def purge(self, name):
        self.find_deleted(name)
        if self.purge_protection:
            raise Refused(403, "Forbidden", f"Operation \"purge\" is not allowed because purge protection is enabled "
                          f"for this vault. Key Vault service will automatically purge it after the retention period "
                          f"has passed.\r\nVault: {self.name};location={self.region}", "ForbiddenByPolicy")
        del self.deleted_keys[name]


# ---- the operations of a key ----

def _oaep(name):
    h = hashes.SHA256() if name == "RSA-OAEP-256" else hashes.SHA1()
    return padding.OAEP(padding.MGF1(type(h)()), h, None)


def _padding(alg):
    return padding.PKCS1v15() if alg == "RSA1_5" else _oaep(alg)


def crypt(version, alg, value, forward):
    """wrap and encrypt (forward), unwrap and decrypt."""
    if isinstance(version.secret, rsa.RSAPrivateKey) and alg in ("RSA-OAEP-256", "RSA-OAEP", "RSA1_5"):
        try:
            if forward:
                return version.secret.public_key().encrypt(value, _padding(alg))
            return version.secret.decrypt(value, _padding(alg))
        except ValueError as e:
            raise bad("The parameter is incorrect.\r\n") from e
    if isinstance(version.secret, bytes) and alg == f"A{len(version.secret) * 8}KW":
        try:
            if forward:
                return keywrap.aes_key_wrap(version.secret, value)
            return keywrap.aes_key_unwrap(version.secret, value)
        except (ValueError, keywrap.InvalidUnwrap) as e:
            raise bad("The parameter is incorrect.\r\n") from e
    raise bad(f"Property alg has invalid value: algorithm {alg} is not supported by this key", "BadParameter")


def fingerprint(version):
    """Tells versions of a key apart in listings of ctl, without a secret."""
    if not isinstance(version.secret, rsa.RSAPrivateKey):
        return ""
    n = version.secret.public_key().public_numbers().n
    h = hashes.Hash(hashes.SHA256())
    h.update(n.to_bytes((n.bit_length() + 7) // 8, "big"))
    return b64u(h.finalize()[:9])
