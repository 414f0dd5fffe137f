# SPDX-License-Identifier: Apache-2.0
"""Who gives out tokens: Entra's token endpoint, and the metadata services of VMs, App Service and Azure Arc."""

import base64
import datetime
import os
import re
import time
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from . import jwt
from .errors import OauthError
from .http import Answer
from .jwt import BadToken

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "api://AzureADTokenExchange"
IMDS_VERSION = re.compile(r"20\d\d-\d\d-\d\d\Z")


class Entra:
    def __init__(self, world):
        self.world = world
        self.signer = jwt.Signer("emulator-signing-key-1")
        self.stranger = jwt.Signer("key-nobody-knows", self.signer.key)
        self.cluster = jwt.Signer("cluster-key-1", self.signer.key)  # signs the tokens of service accounts
        self.lifetime = {"app": 3599, "managed": 86399}
        self.issued = {}  # uti: time
        self.checked = {}  # tokens with a good signature
        self.seen_jti = set()

    # ---- tokens ----

    def issue(self, who, audience, lifetime=None, fault=""):
        """Signs an access token; fault makes a bad one."""
        w = self.world
        now = time.time()
        if lifetime is None:
            lifetime = self.lifetime["app" if who.kind == "app" else "managed"]
        tenant = who.tenant.id
        c = {"aud": audience, "iss": f"https://sts.windows.net/{tenant}/", "iat": int(now), "nbf": int(now),
             "exp": int(now) + lifetime, "aio": "", "appid": who.appid, "appidacr": "2" if who.kind != "app" else "1",
             "idp": f"https://sts.windows.net/{tenant}/", "idtyp": "app", "oid": who.oid, "rh": "", "sub": who.oid,
             "tid": tenant, "uti": jwt.b64u(os.urandom(16)), "ver": "1.0"}
        if who.kind != "app":
            c["xms_mirid"] = who.resource()
        if fault == "expired-token":
            c.update(iat=int(now) - 7200, nbf=int(now) - 7200, exp=int(now) - 3600)
        elif fault == "foreign-token":
            other = next(t for t in w.tenants.values() if t is not who.tenant)
            c.update(tid=other.id, iss=f"https://sts.windows.net/{other.id}/")
        elif fault == "wrong-audience":
            c["aud"] = "https://management.localhost"
        elif fault == "early-token":
            c.update(nbf=int(now) + 3600, exp=int(now) + 7200)
        self.issued[c["uti"]] = now
        return (self.stranger if fault == "unknown-signer" else self.signer).sign(c), c

    def peek(self, authorization):
        """Header and claims of "Bearer ...", not checked. BadToken."""
        header, claims, _, _ = jwt.parse(authorization[7:].strip())
        for name in ("exp", "nbf"):
            if not isinstance(claims.get(name), int):
                raise BadToken(name)
        for name in ("oid", "appid"):
            if not isinstance(claims.get(name), str):
                raise BadToken(name)
        return header, claims

    def check_signature(self, authorization, header):
        token = authorization[7:].strip()
        if self.checked.get(token):
            return
        if header.get("kid") != self.signer.kid:
            raise BadToken("kid")
        _, _, signed, signature = jwt.parse(token)
        jwt.verify(self.signer.key.public_key(), header, signed, signature)
        if len(self.checked) > 1000:
            self.checked.clear()
        self.checked[token] = True

    def issued_at(self, claims):
        return self.issued.get(claims.get("uti"), 0.0)

    # ---- the token endpoint ----

    def handle(self, req, note, fault=""):
        try:
            answer = self._handle(req, note, fault)
        except OauthError as e:
            answer = self.refuse(e)
        rid = str(uuid.uuid4())
        note["request_id"] = rid
        answer.headers = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "x-ms-request-id": rid,
                          "x-ms-ests-server": "emulator", **answer.headers}
        client = req.header("client-request-id") or req.header("x-ms-client-request-id")
        if client:
            answer.headers["client-request-id"] = client
        return answer

    def refuse(self, e):
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = datetime.datetime.utcnow().strftime("%Y-%m-%d %H:%M:%SZ")
        a = Answer(e.status, {
            "error": e.error, "error_description": f"AADSTS{e.code}: {e.text} Trace ID: {trace} Correlation ID: "
            f"{correlation} Timestamp: {stamp}", "error_codes": [e.code], "timestamp": stamp, "trace_id": trace,
            "correlation_id": correlation, "error_uri": f"{self.world.authority}/error?code={e.code}"}, e.headers)
        a.note.update(code=e.error, inner=f"AADSTS{e.code}")
        return a

    def _handle(self, req, note, fault):
        w = self.world
        parts = req.path.strip("/").split("/")
        low = [p.lower() for p in parts]
        if low == ["common", "discovery", "instance"]:
            return Answer(200, {
                "tenant_discovery_endpoint":
                f"{w.authority}/{w.first_tenant().id}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1", "metadata": [{
                    "preferred_network": w.login_host, "preferred_cache": w.login_host, "aliases": [w.login_host]}]})
        tenant = w.tenant(parts[0])
        if not tenant and low[0] not in ("common", "organizations"):
            raise OauthError(400, "invalid_request" if tenant is None else "invalid_tenant",
                             f"Tenant '{parts[0][:64]}' not found. Check to make sure you have the correct tenant ID "
                             "and are signing into the correct cloud.", 90002)
        base = f"{w.authority}/{tenant.id if tenant else low[0]}"
        if low[-1] == "openid-configuration":
            return Answer(200, {
                "token_endpoint": f"{base}/oauth2/v2.0/token", "issuer": f"{base}/v2.0",
                "jwks_uri": f"{base}/discovery/v2.0/keys", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code", "token"], "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"], "scopes_supported": ["openid"]})
        if low[1:] == ["discovery", "v2.0", "keys"]:
            return Answer(200, {"keys": [self.signer.jwk()]})
        if low[1:] == ["oauth2", "v2.0", "token"] and req.method == "POST" and tenant:
            return self.token(tenant, req, note, fault)
        return Answer(404, b"")

    def token(self, tenant, req, note, fault):
        w = self.world
        form = req.form()
        if form.get("grant_type") != "client_credentials":
            raise OauthError(400, "unsupported_grant_type", "The app requested an unsupported grant type.", 70003)
        scope = form.get("scope", "").split(" ")[0]
        if not scope.endswith("/.default"):
            raise OauthError(400, "invalid_scope", "The provided value for the input parameter 'scope' is not valid.",
                             1002012)
        with w.lock:
            who = w.by_appid(form.get("client_id", ""))
            if not who or who.removed or who.tenant is not tenant:
                raise OauthError(400, "unauthorized_client", f"Application with identifier "
                                 f"'{form.get('client_id', '')[:64]}' was not found in the directory.", 700016)
            note["identity"], note["oid"] = who.name, who.oid
            if "client_assertion" in form:
                self.check_assertion(who, form, tenant, note)
            else:
                self.check_secret(who, form)
            if who.disabled:
                raise OauthError(400, "unauthorized_client", f"Application '{who.appid}' is disabled.", 7000112)
            audience = scope[:-len("/.default")]
            if audience not in (*w.audiences.values(), EXCHANGE):
                raise OauthError(400, "invalid_resource", f"The resource principal named {audience[:64]} was not "
                                 "found in the tenant.", 500011)
            token, c = self.issue(who, audience, fault=fault)
        left = max(c["exp"] - int(time.time()), 0)
        return Answer(200, {"token_type": "Bearer", "expires_in": left, "ext_expires_in": left,
                            "access_token": token})

    def check_secret(self, who, form):
        given = form.get("client_secret", "")
        if not given:
            raise OauthError(401, "invalid_client", "The request body must contain the following parameter: "
                             "'client_assertion' or 'client_secret'.", 7000218)
        for value, until in who.secrets:
            if value == given:
                if time.time() >= until:
                    raise OauthError(401, "invalid_client", "The provided client secret keys for app "
                                     f"'{who.appid}' are expired.", 7000222)
                return
        raise OauthError(401, "invalid_client", "Invalid client secret provided. Ensure the secret being sent in the "
                         "request is the client secret value, not the client secret ID.", 7000215)

    def check_assertion(self, who, form, tenant, note):
        w = self.world
        if form.get("client_assertion_type") != ASSERTION:
            raise OauthError(400, "invalid_request", "client_assertion_type is missing or wrong", 900144)
        try:
            header, c, signed, signature = jwt.parse(form["client_assertion"])
        except BadToken:
            raise OauthError(401, "invalid_client", "Client assertion is malformed.", 50027) from None
        note["assertion"] = str(header.get("alg"))[:16]
        now = time.time()
        if c.get("iss") == w.cluster_issuer or c.get("aud") == EXCHANGE:
            self.check_federated(who, header, c, signed, signature)
        else:
            self.check_certificate(who, header, c, signed, signature, tenant)
        if not isinstance(c.get("exp"), int) or now >= c["exp"] or now < c.get("nbf", 0) - 300:
            raise OauthError(401, "invalid_client", "Client assertion is not within its valid time range.", 700024)

    def check_certificate(self, who, header, c, signed, signature, tenant):
        w = self.world
        # MSAL's older form is RS256 with x5t, SHA-1.
        new = header.get("alg") == "PS256"
        given = str(header.get("x5t#S256" if new else "x5t", ""))
        for pem in who.certificates:
            cert = x509.load_pem_x509_certificate(pem)
            digest = cert.fingerprint(hashes.SHA256() if new else hashes.SHA1())
            if given.rstrip("=") in (jwt.b64u(digest), base64.b64encode(digest).decode().rstrip("=")):
                break
        else:
            raise OauthError(401, "invalid_client", "The certificate with identifier used to sign the client "
                             "assertion is not registered on application.", 700027)
        try:
            jwt.verify(cert.public_key(), header, signed, signature)
        except BadToken:
            raise OauthError(401, "invalid_client", "Client assertion failed signature validation.", 700027) from None
        base = f"{w.authority}/{tenant.id}"
        if c.get("aud") not in (f"{base}/oauth2/v2.0/token", f"{base}/v2.0"):
            raise OauthError(401, "invalid_client", "Client assertion audience claim does not match Realm issuer.",
                             700023)
        if c.get("iss") != who.appid or c.get("sub") != who.appid:
            raise OauthError(401, "invalid_client", "Client assertion contains an invalid issuer or subject.", 700021)
        if not isinstance(c.get("jti"), str) or c["jti"] in self.seen_jti:
            raise OauthError(401, "invalid_client", "Client assertion's jti is missing or was used before.", 50027)
        self.seen_jti.add(c["jti"])

    def check_federated(self, who, header, c, signed, signature):
        signer = {self.cluster.kid: self.cluster, self.signer.kid: self.signer}.get(header.get("kid"))
        try:
            if not signer:
                raise BadToken("kid")
            jwt.verify(signer.key.public_key(), header, signed, signature)
        except BadToken:
            raise OauthError(401, "invalid_client", "The signature of the client assertion could not be validated.",
                             700030) from None
        if c.get("aud") != EXCHANGE:
            raise OauthError(401, "invalid_client", "No matching federated identity record found for presented "
                             "assertion audience.", 700212)
        for issuer, subject in who.federated:
            if c.get("iss") == issuer and c.get("sub") == subject:
                return
        raise OauthError(401, "invalid_client", "No matching federated identity record found for presented assertion "
                         f"subject '{str(c.get('sub'))[:64]}'.", 700213)

    def service_account_token(self, subject, lifetime=3600):
        now = int(time.time())
        return self.cluster.sign({"aud": EXCHANGE, "iss": self.world.cluster_issuer, "sub": subject, "iat": now,
                                  "nbf": now, "exp": now + lifetime, "jti": str(uuid.uuid4())})


class Metadata:
    """The services that a machine asks for its identity: IMDS, App Service's, Arc's."""

    def __init__(self, world, arc_dir):
        self.world = world
        self.arc_dir = arc_dir
        self.arc_key = None
        self.app_service_secret = os.urandom(16).hex()

    def handle(self, service, req, note, fault=""):
        try:
            with self.world.lock:
                answer = getattr(self, "_" + service)(req, note, fault)
        except OauthError as e:
            answer = Answer(e.status, {"error": e.error, "error_description": e.text}, e.headers)
            answer.note["code"] = e.error
        note["request_id"] = str(uuid.uuid4())
        answer.headers.setdefault("Server", "IMDS/150.870.65.1854" if service == "imds" else "Kestrel")
        answer.headers.setdefault("x-ms-request-id", note["request_id"])
        return answer

    def plain_checks(self, req):
        if req.header("metadata").lower() != "true":
            raise OauthError(400, "bad_request_102", "Required metadata header not specified")
        if req.header("x-forwarded-for"):
            raise OauthError(400, "bad_request", "X-Forwarded-For is not allowed")
        asked = req.query.get("api-version", "")
        if not IMDS_VERSION.match(asked):
            raise OauthError(400, "bad_request", "The api-version is invalid or not specified.")

    def audience(self, req):
        resource = req.query.get("resource", "")
        known = (*self.world.audiences.values(), EXCHANGE)
        if resource.rstrip("/") not in known:
            raise OauthError(400, "invalid_resource", "AADSTS50001: The application named "
                             f"{resource[:64]} was not found in the tenant.")
        return resource.rstrip("/")

    def choose(self, req):
        """The identity that is asked for."""
        w = self.world
        here = [i for i in w.identities.values() if i.kind in ("system", "user") and not i.removed and i.assigned]
        want = {k: req.query[k] for k in ("client_id", "object_id", "mi_res_id", "msi_res_id") if k in req.query}
        for name, value in want.items():
            field = {"client_id": lambda i: i.appid, "object_id": lambda i: i.oid}.get(name, lambda i: i.resource())
            here = [i for i in here if field(i).lower() == value.lower()]
        if not want:
            system = [i for i in here if i.kind == "system"]
            if not system and len(here) > 1:
                raise OauthError(400, "invalid_request", "Multiple user assigned identities exist, please specify the "
                                 "clientId / resourceId of the identity in the token request")
            here = system or here
        if not here:
            raise OauthError(400, "invalid_request", "Identity not found")
        if here[0].disabled:
            raise OauthError(400, "unauthorized_client", f"AADSTS7000112: Application '{here[0].appid}' is disabled.")
        return here[0]

    def token(self, req, note, fault, text=True):
        audience = self.audience(req)
        who = self.choose(req)
        note["identity"], note["oid"] = who.name, who.oid
        token, c = self.world.entra.issue(who, audience, fault=fault)
        left = max(c["exp"] - int(time.time()), 0)
        out = {"access_token": token, "client_id": who.appid, "expires_in": str(left), "expires_on": str(c["exp"]),
               "ext_expires_in": str(left), "not_before": str(c["nbf"]), "resource": audience, "token_type": "Bearer"}
        if not text:
            out.update(expires_in=left, expires_on=c["exp"])
        return Answer(200, out)

    def compute(self):
        w = self.world
        t = w.first_tenant()
        return {"azEnvironment": "AzurePublicCloud", "location": w.region, "name": "vm", "osType": "Linux",
                "resourceGroupName": "rg", "subscriptionId": t.subscription, "vmId": w.vm_id, "vmSize": "Standard_D2s_v5",
                "resourceId": f"/subscriptions/{t.subscription}/resourceGroups/rg/providers/Microsoft.Compute/"
                              "virtualMachines/vm", "tagsList": [], "zone": "1"}

    def _imds(self, req, note, fault):
        path = req.path.rstrip("/").lower()
        self.plain_checks(req)
        if path == "/metadata/identity/oauth2/token":
            return self.token(req, note, fault)
        if path == "/metadata/identity/info":
            system = [i for i in self.world.identities.values() if i.kind == "system" and not i.removed]
            tenant = system[0].tenant if system else self.world.first_tenant()
            return Answer(200, {"tenantId": tenant.id})
        if path == "/metadata/instance":
            return Answer(200, {"compute": self.compute(), "network": {"interface": []}})
        if path == "/metadata/instance/compute":
            return Answer(200, self.compute())
        if path == "/metadata/instance/compute/location":
            return Answer(200, self.world.region.encode(), kind="text/plain; charset=utf-8")
        raise OauthError(404, "Not found", "The requested resource was not found")

    def _appservice(self, req, note, fault):
        if req.path.rstrip("/") != "/msi/token":
            return Answer(404, b"")
        if req.header("x-identity-header") != self.app_service_secret:
            return Answer(401, {"statusCode": 401, "message": "Invalid X-IDENTITY-HEADER"})
        if req.query.get("api-version") != "2019-08-01":
            return Answer(400, {"statusCode": 400, "message": "Unsupported api-version"})
        return self.token(req, note, fault)

    def _arc(self, req, note, fault):
        path = req.path.rstrip("/").lower()
        if path == "/metadata/instance":
            self.plain_checks(req)
            return Answer(200, {"compute": self.compute(), "network": {"interface": []}})
        if path != "/metadata/identity/oauth2/token":
            return Answer(404, b"")
        self.plain_checks(req)
        self.audience(req)
        auth = req.header("authorization")
        if not auth:
            return Answer(401, b"", {"WWW-Authenticate": f"Basic realm={self.new_arc_key()}"})
        if not self.arc_key or auth != f"Basic {self.arc_key}":
            return Answer(401, {"error": "unauthorized", "error_description": "The challenge was not met"})
        self.arc_key = None
        return self.token(req, note, fault, text=False)

    def new_arc_key(self):
        os.makedirs(self.arc_dir, mode=0o755, exist_ok=True)
        path = os.path.join(self.arc_dir, f"{uuid.uuid4()}.key")
        self.arc_key = base64.b64encode(os.urandom(48)).decode()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        with os.fdopen(fd, "w") as f:
            f.write(self.arc_key)
        self.world.arc_files.append(path)
        return path
