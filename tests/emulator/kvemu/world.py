# SPDX-License-Identifier: Apache-2.0
"""Everything of one emulator: tenants, identities, vaults, settings."""

import threading
import uuid

from .entra import Entra
from .model import KeyPool, Vault, permissions_of


class Tenant:
    def __init__(self, name, number):
        self.name = name
        self.id = f"{number * 0x11111111:08x}-aaaa-4aaa-8aaa-{number:012x}"
        self.subscription = f"{number * 0x11111111:08x}-bbbb-4bbb-8bbb-{number:012x}"


class Identity:
    """kind: system (of this machine), user (user-assigned), app (a service principal)."""

    def __init__(self, name, kind, tenant):
        self.name = name
        self.kind = kind
        self.tenant = tenant
        self.appid = str(uuid.uuid4())
        self.oid = str(uuid.uuid4())
        self.assigned = True
        self.removed = False
        self.disabled = False
        self.secrets = []  # (value, valid until)
        self.certificates = []  # PEM
        self.federated = []  # (issuer, subject)

    def resource(self):
        group = f"/subscriptions/{self.tenant.subscription}/resourcegroups/rg/providers"
        if self.kind == "system":
            return f"{group}/Microsoft.Compute/virtualMachines/vm"
        return f"{group}/Microsoft.ManagedIdentity/userAssignedIdentities/{self.name}"


class World:
    login_host = "login.localhost"
    suffix = {False: ".vault.localhost", True: ".managedhsm.localhost"}
    audiences = {False: "https://vault.localhost", True: "https://managedhsm.localhost"}
    cluster_issuer = "https://oidc.localhost/cluster"

    def __init__(self, fast_keys):
        self.lock = threading.RLock()
        self.pool = KeyPool(fast_keys)
        self.port = self.login_port = 0
        self.region = "westeurope"
        self.vm_id = str(uuid.uuid4())
        self.tenants = {}
        self.identities = {}
        self.vaults = {}
        self.arc_files = []
        self.entra = Entra(self)
        for name in ("T1", "T2"):
            self.tenants[name] = Tenant(name, len(self.tenants) + 1)

    @property
    def authority(self):
        return f"https://{self.login_host}:{self.login_port}"

    def audience(self, hsm):
        return self.audiences[hsm]

    def first_tenant(self):
        return next(iter(self.tenants.values()))

    def tenant(self, text):
        for t in self.tenants.values():
            if text in (t.name, t.id):
                return t
        return None

    def by_appid(self, appid):
        return next((i for i in self.identities.values() if i.appid == appid.lower()), None)

    def identity_name(self, oid):
        return next((i.name for i in self.identities.values() if i.oid == oid), "")

    def vault_of_host(self, host):
        return next((v for v in self.vaults.values() if v.host == host), None)

    def add_identity(self, name, kind, tenant):
        who = Identity(name, kind, tenant)
        if kind == "app":
            who.secrets.append((f"{name}-secret", float("inf")))
        who.federated.append((self.cluster_issuer, f"system:serviceaccount:default:{name}"))
        self.identities[name] = who
        return who

    def add_vault(self, name, tenant, region=None, hsm=False):
        v = Vault(name, tenant, region or self.region, hsm, self.suffix[hsm], self.port)
        self.vaults[name] = v
        return v

    def grant(self, vault, who, what, key=""):
        vault.grants.setdefault(who.oid, {}).setdefault(key, set()).update(permissions_of(what))

    def furnish(self):
        """What a test finds: identities in T1, vault v1 with key k1."""
        t1 = self.tenants["T1"]
        for name, kind in (("vm", "system"), ("user1", "user"), ("app1", "app"), ("admin", "app")):
            self.add_identity(name, kind, t1)
        v1 = self.add_vault("v1", t1)
        for name in ("vm", "user1", "app1"):
            self.grant(v1, self.identities[name], "encryption-user")
        self.grant(v1, self.identities["admin"], "officer")
        v1.create(self.pool, "k1", "RSA", 2048)
