# SPDX-License-Identifier: Apache-2.0
"""What tests/emulator/ctl asks for: a line of words in, a JSON value out, over a Unix socket."""

import argparse
import io
import json
import os
import shlex
import socket
import threading
import time
from contextlib import redirect_stderr, redirect_stdout

from . import faults
from .errors import Refused
from .model import fingerprint


class Mistake(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Mistake(f"{self.prog}: {message}")


def when(text):
    """+60, -60 (seconds from now), seconds since 1970, or none."""
    if text in (None, "none"):
        return text
    return int(time.time()) + int(text) if text[0] in "+-" else int(text)


class Control:
    def __init__(self, server, path, stop):
        self.server = server
        self.world = server.world
        self.stop = stop
        self.parser = self.make_parser()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(path)
        os.chmod(path, 0o600)
        self.sock.listen(64)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            conn, _ = self.sock.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        with conn, conn.makefile("rwb") as f:
            for line in f:
                f.write(json.dumps(self.do(json.loads(line))).encode() + b"\n")
                f.flush()

    def do(self, argv):
        """{"ok": ...} or {"error": ...}"""
        out = io.StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(out):
                args = self.parser.parse_args(argv)
            with self.world.lock:
                return {"ok": args.run(args)}
        except SystemExit:
            return {"text": out.getvalue()}
        except (Mistake, ValueError) as e:
            return {"error": str(e)}
        except Refused as e:
            return {"error": f"{e.status} {e.code} {e.inner}: {e.message}"}
        except Exception as e:  # a bug here is to be seen by the test, and does not end the emulator
            return {"error": f"bug: {shlex.join(argv)}: {e!r}"}

    # ---- the words ----

    def make_parser(self):
        p = Parser(prog="ctl")
        subs = p.add_subparsers(dest="word", required=True)

        def add(parent, name, run, *args):
            q = parent.add_parser(name)
            for a in args:
                if isinstance(a, tuple):
                    q.add_argument(a[0], **a[1])
                elif a.endswith("?"):
                    q.add_argument(a[:-1], nargs="?")
                else:
                    q.add_argument(a)
            q.set_defaults(run=run)
            return q

        def group(name):
            return subs.add_parser(name).add_subparsers(dest="action", required=True)

        flag = {"action": "store_true"}
        version = ("--version", {})
        self.vault_words(group("vault"), add, flag)
        self.key_words(group("key"), add, flag, version)
        self.identity_words(group("identity"), add)
        add(subs, "grant", self.grant, "vault", "identity", "what?", ("--key", {"default": ""}))
        add(subs, "revoke", self.revoke, "vault", "identity", ("--key", {}))
        add(subs, "firewall", self.firewall, "vault", ("mode", {"choices": ["on", "off", "private"]}))
        add(subs, "cae", self.cae, "vault")
        number = {"type": float}
        q = group("fault")
        add(q, "add", self.fault_add, "target", "op", ("kind", {"choices": faults.KINDS}),
            ("--count", {"type": int}), ("--after", {"type": int, "default": 0}), ("--value", {}),
            ("--status", {"type": int}), ("--code", {}), ("--inner", {}), ("--message", {}), ("--retry-after", {}))
        add(q, "clear", self.fault_clear, "target?")
        add(q, "list", lambda a: [f.show() for f in self.server.faults.list])
        q = group("port")
        add(q, "close", self.port_close, "service")
        add(q, "open", self.port_open, "service")
        q = group("token")
        add(q, "lifetime", self.token_lifetime, ("seconds", {"type": int}))
        add(q, "service-account", lambda a: self.world.entra.service_account_token(a.subject, a.lifetime), "subject",
            ("--lifetime", {"type": int, "default": 3600}))
        add(q, "issue", self.token_issue, "identity", ("--audience", {"default": "https://vault.localhost"}))
        add(subs, "region", self.region, "name?")
        add(subs, "info", self.info)
        where = [(f"--{k}", {}) for k in ("target", "op", "key", "status", "inner", "verdict", "service")]
        where.append(("--after", {"type": int, "default": 0}))
        add(subs, "log", self.log, *where)
        add(subs, "count", lambda a: len(self.select(a)), *where)
        add(subs, "counts", self.counts, *where)
        add(subs, "mark", lambda a: len(self.server.log.entries))
        add(subs, "sleep", lambda a: time.sleep(a.seconds), ("seconds", number))
        add(subs, "stop", lambda a: self.stop())
        return p

    # ---- vaults ----

    def vault_words(self, g, add, flag):
        add(g, "create", self.vault_create, "name", ("--tenant", {"default": "T1"}), ("--region", {}),
            ("--mode", {"choices": ["rbac", "policy"], "default": "rbac"}), ("--hsm", flag),
            ("--no-purge-protection", flag), ("--no-soft-delete", flag), ("--retention", {"type": int, "default": 90}))
        add(g, "show", lambda a: self.vault_show(self.vault(a.name)), "name")
        add(g, "list", lambda a: [self.vault_show(v) for v in self.world.vaults.values()])
        add(g, "delete", self.vault_delete, "name")
        add(g, "recover", self.vault_recover, "name")
        add(g, "purge", self.vault_purge, "name")
        add(g, "move", self.vault_move, "name", "tenant")
        add(g, "set", self.vault_set, "name", ("settings", {"nargs": "+", "metavar": "NAME=VALUE"}))

    def vault(self, name):
        if name not in self.world.vaults:
            raise Mistake(f"there is no vault {name}")
        return self.world.vaults[name]

    def vault_show(self, v):
        level, days = v.level()
        grants = {self.world.identity_name(oid): {k or "*": sorted(p) for k, p in scopes.items()}
                  for oid, scopes in v.grants.items()}
        return {"name": v.name, "uri": v.base, "tenant": v.tenant.id, "region": v.region, "hsm": v.hsm,
                "rbac": v.rbac, "recovery_level": level, "days": days, "firewall": v.firewall,
                "deleted": bool(v.deleted), "keys": sorted(v.keys), "deleted_keys": sorted(v.deleted_keys),
                "grants": grants}

    def vault_create(self, a):
        if a.name in self.world.vaults:
            raise Mistake(f"there is a vault {a.name} already")
        v = self.world.add_vault(a.name, self.tenant(a.tenant), a.region, a.hsm)
        v.rbac = a.mode == "rbac"
        v.purge_protection = not a.no_purge_protection
        v.soft_delete = not a.no_soft_delete
        v.retention = a.retention
        return self.vault_show(v)

    def vault_delete(self, a):
        v = self.vault(a.name)
        v.deleted = time.time()
        return self.vault_show(v)

    def vault_recover(self, a):
        v = self.vault(a.name)
        v.deleted = None
        return self.vault_show(v)

    def vault_purge(self, a):
        del self.world.vaults[self.vault(a.name).name]

    def vault_move(self, a):
        v = self.vault(a.name)
        v.tenant = self.tenant(a.tenant)
        return self.vault_show(v)

    def vault_set(self, a):
        v = self.vault(a.name)
        kinds = {"region": str, "retention": int, "page": int, "delete_seconds": float, "disabled_get": int,
                 "disabled_wrap": int, "soft_delete": int, "purge_protection": int, "rbac": int}
        for setting in a.settings:
            name, _, value = setting.partition("=")
            if name not in kinds:
                raise Mistake(f"no setting {name}; there are: {' '.join(kinds)}")
            value = kinds[name](value)
            setattr(v, name, bool(value) if isinstance(getattr(v, name), bool) else value)
        return self.vault_show(v)

    def firewall(self, a):
        v = self.vault(a.vault)
        v.firewall = {"on": "address", "off": "", "private": "private"}[a.mode]
        return self.vault_show(v)

    def cae(self, a):
        """Tokens given out so far get a claims challenge."""
        self.vault(a.vault).moved = time.time()

    # ---- keys ----

    def key_words(self, g, add, flag, version):
        vk = ("vault", "key")
        times = (("--nbf", {"type": when}), ("--exp", {"type": when}), ("--ops", {}))
        add(g, "create", self.key_create, *vk, ("--kty", {"default": "RSA"}), ("--size", {"type": int}), ("--crv", {}),
            ("--disabled", flag), ("--tag", {"action": "append", "default": []}), *times)
        add(g, "show", lambda a: self.key_show(a), *vk, version)
        add(g, "list", lambda a: [self.key_facts(self.vault(a.vault), k, k.newest())
                                  for _, k in sorted(self.vault(a.vault).keys.items())], "vault")
        add(g, "versions", lambda a: [self.key_facts(self.vault(a.vault), self.key(a), v) for v in
                                      self.key(a).versions], *vk)
        add(g, "enable", lambda a: self.key_update(a, enabled=True), *vk, version)
        add(g, "disable", lambda a: self.key_update(a, enabled=False), *vk, version)
        add(g, "update", lambda a: self.key_update(a, nbf=a.nbf, exp=a.exp, ops=a.ops), *vk, version, *times)
        add(g, "rotate", self.key_rotate, *vk)
        add(g, "delete", self.key_delete, *vk)
        add(g, "recover", self.key_recover, *vk)
        add(g, "purge", self.key_purge, *vk, ("--force", flag))

    def key(self, a):
        v = self.vault(a.vault)
        if a.key not in v.keys:
            raise Mistake(f"there is no key {a.key} in {a.vault}")
        return v.keys[a.key]

    def key_facts(self, vault, key, v):
        return {"kid": vault.kid(key, v), "uri": vault.kid(key), "version": v.id, "kty": key.kty, "size": key.size,
                "enabled": v.enabled, "nbf": v.nbf, "exp": v.exp, "ops": v.ops, "versions": len(key.versions),
                "fingerprint": fingerprint(v)}

    def key_show(self, a):
        key = self.key(a)
        v = key.find(a.version)
        if not v:
            raise Mistake(f"{a.key} has no version {a.version}")
        return self.key_facts(self.vault(a.vault), key, v)

    def key_create(self, a):
        vault = self.vault(a.vault)
        attributes = {"enabled": not a.disabled}
        for name in ("nbf", "exp"):
            if isinstance(getattr(a, name), int):
                attributes[name] = getattr(a, name)
        key, v = vault.create(self.world.pool, a.key, a.kty, a.size, a.crv, a.ops.split(",") if a.ops else None,
                              attributes, dict(t.split("=", 1) for t in a.tag))
        return self.key_facts(vault, key, v)

    def key_update(self, a, ops=None, **attributes):
        key = self.key(a)
        versions = [key.find(a.version)] if a.version else key.versions
        if None in versions:
            raise Mistake(f"{a.key} has no version {a.version}")
        for v in versions:
            v.update({k: (None if x == "none" else x) for k, x in attributes.items() if x is not None})
            if ops is not None:
                v.ops = [o for o in ops.split(",") if o]
        return self.key_facts(self.vault(a.vault), key, versions[-1])

    def key_rotate(self, a):
        vault, key = self.vault(a.vault), self.key(a)
        return self.key_facts(vault, key, vault.rotate(self.world.pool, key))

    def key_delete(self, a):
        self.key(a)
        self.vault(a.vault).delete(a.key).settled = 0

    def key_recover(self, a):
        self.vault(a.vault).recover(a.key)
        return self.key_facts(self.vault(a.vault), self.key(a), self.key(a).newest())

    def key_purge(self, a):
        vault = self.vault(a.vault)
        if a.force:  # as if the retention was over
            vault.find_deleted(a.key)
            del vault.deleted_keys[a.key]
        else:
            vault.purge(a.key)

    # ---- identities and rights ----

    def identity_words(self, g, add):
        add(g, "create", self.identity_create, "name", ("--kind", {"choices": ["system", "user", "app"],
                                                                   "default": "app"}), ("--tenant", {"default": "T1"}))
        add(g, "list", lambda a: [self.identity_show(i) for i in self.world.identities.values()])
        add(g, "show", lambda a: self.identity_show(self.identity(a.name)), "name")
        for word, field, value in (("remove", "removed", True), ("restore", "removed", False),
                                   ("disable", "disabled", True), ("enable", "disabled", False),
                                   ("unassign", "assigned", False), ("assign", "assigned", True)):
            add(g, word, lambda a, field=field, value=value: self.identity_set(a.name, field, value), "name")
        add(g, "move", lambda a: self.identity_set(a.name, "tenant", self.tenant(a.tenant)), "name", "tenant")
        add(g, "secret", self.identity_secret, "name", "value", ("--expires", {"type": when}))
        add(g, "certificate", self.identity_certificate, "name", "file")
        add(g, "federate", self.identity_federate, "name", "issuer", "subject")

    def tenant(self, name):
        t = self.world.tenant(name)
        if not t:
            raise Mistake(f"there is no tenant {name}")
        return t

    def identity(self, name):
        if name not in self.world.identities:
            raise Mistake(f"there is no identity {name}")
        return self.world.identities[name]

    def identity_show(self, i):
        return {"name": i.name, "kind": i.kind, "tenant": i.tenant.id, "client_id": i.appid, "oid": i.oid,
                "resource": i.resource() if i.kind != "app" else "", "removed": i.removed, "disabled": i.disabled,
                "assigned": i.assigned, "federated": i.federated, "certificates": len(i.certificates),
                "secrets": len(i.secrets)}

    def identity_create(self, a):
        if a.name in self.world.identities:
            raise Mistake(f"there is an identity {a.name} already")
        return self.identity_show(self.world.add_identity(a.name, a.kind, self.tenant(a.tenant)))

    def identity_set(self, name, field, value):
        i = self.identity(name)
        setattr(i, field, value)
        return self.identity_show(i)

    def identity_secret(self, a):
        i = self.identity(a.name)
        i.secrets = [s for s in i.secrets if s[0] != a.value]
        i.secrets.append((a.value, a.expires if isinstance(a.expires, int) else float("inf")))
        return self.identity_show(i)

    def identity_certificate(self, a):
        i = self.identity(a.name)
        with open(a.file, "rb") as f:
            pem = f.read()
        begin = pem.find(b"-----BEGIN CERTIFICATE-----")
        if begin < 0:
            raise Mistake(f"{a.file} has no certificate")
        i.certificates.append(pem[begin:])
        return self.identity_show(i)

    def identity_federate(self, a):
        i = self.identity(a.name)
        i.federated.append((a.issuer, a.subject))
        return self.identity_show(i)

    def grant(self, a):
        vault = self.vault(a.vault)
        self.world.grant(vault, self.identity(a.identity), a.what or "encryption-user", a.key)
        return self.vault_show(vault)

    def revoke(self, a):
        vault, who = self.vault(a.vault), self.identity(a.identity)
        if a.key is None:
            vault.grants.pop(who.oid, None)
        else:
            vault.grants.get(who.oid, {}).pop(a.key, None)
        return self.vault_show(vault)

    def token_lifetime(self, a):
        for kind in self.world.entra.lifetime:
            self.world.entra.lifetime[kind] = a.seconds

    def token_issue(self, a):
        return self.world.entra.issue(self.identity(a.identity), a.audience)[0]

    # ---- faults, ports, log ----

    def fault_add(self, a):
        known = {"*", "entra", "imds", "arc", "appservice", *self.world.vaults}
        if a.target not in known:
            raise Mistake(f"no target {a.target}; there are: {' '.join(sorted(known))}")
        return self.server.add_fault(a.target, a.op, a.kind, a.count, a.after, value=a.value, status=a.status,
                                     code=a.code, inner=a.inner, message=a.message, retry_after=a.retry_after).show()

    def fault_clear(self, a):
        self.server.clear_faults(a.target)

    def service(self, name):
        if name not in self.server.ports:
            raise Mistake(f"no service {name}; there are: {' '.join(self.server.ports)}")
        return name

    def port_close(self, a):
        self.server.shut(self.service(a.service))

    def port_open(self, a):
        if self.service(a.service) not in self.server.listeners:
            self.server.listen(a.service)

    def region(self, a):
        if a.name:
            self.world.region = a.name
        return self.world.region

    def info(self, _a):
        w, s = self.world, self.server
        return {"dir": s.dir, "ports": s.ports, "authority": w.authority, "region": w.region,
                "tenants": {t.name: t.id for t in w.tenants.values()}, "ca": os.path.join(s.dir, "ca.pem"),
                "app_service": {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{s.ports['imds']}/msi/token",
                                "IDENTITY_HEADER": s.metadata.app_service_secret}}

    def select(self, a):
        return self.server.log.select(a.after, target=a.target, op=a.op, key=a.key, status=a.status, inner=a.inner,
                                      verdict=a.verdict, service=a.service)

    def log(self, a):
        return self.select(a)

    def counts(self, a):
        out = {}
        for e in self.select(a):
            by = out.setdefault(e["target"], {}).setdefault(e["op"], {})
            by[str(e["status"])] = by.get(str(e["status"]), 0) + 1
        return out
