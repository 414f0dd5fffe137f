# SPDX-License-Identifier: Apache-2.0
"""The listeners, a thread for each connection, and the log of requests."""

import itertools
import json
import os
import socket
import ssl
import threading
import time

from . import certs, faults
from .entra import Metadata
from .errors import Refused, error_body
from .faults import Fault, Faults
from .http import Answer, Closed, Conn
from .vaultapi import VaultApi, route

SERVICES = ("vault", "login", "imds", "arc")
IDLE_SECONDS = 120
HANG_SECONDS = 600


class Log:
    """Requests, one JSON object each, in memory and in log.jsonl. No token, no secret, no wrapped value."""

    def __init__(self, path):
        self.entries = []
        self.file = open(path, "a", buffering=1, encoding="utf-8")
        self.lock = threading.Lock()

    def add(self, entry):
        with self.lock:
            entry["n"] = len(self.entries) + 1
            self.entries.append(entry)
            self.file.write(json.dumps(entry) + "\n")

    def select(self, after=0, **want):
        with self.lock:
            found = self.entries[after:]
        return [e for e in found if all(str(e.get(k)) == str(v) for k, v in want.items() if v is not None)]


def verdict(status):
    if status is None:
        return "broken"
    if status < 300:
        return "ok"
    return {400: "mistake", 401: "unauthorized", 403: "denied", 404: "denied", 409: "mistake", 410: "transient",
            429: "transient", 408: "transient"}.get(status, "transient" if status >= 500 else "other")


class Server:
    def __init__(self, world, directory, arc_dir):
        self.world = world
        self.dir = directory
        self.log = Log(os.path.join(directory, "log.jsonl"))
        self.api = VaultApi(world)
        self.metadata = Metadata(world, arc_dir)
        self.faults = Faults(world)
        self.tls = certs.contexts(directory, ["*.vault.localhost", "*.managedhsm.localhost", world.login_host,
                                              "localhost"])
        for ctx in self.tls.values():
            ctx.sni_callback = self.on_name
        self.listeners = {}
        self.ports = {}
        self.numbers = itertools.count(1)
        self.open = {}  # connections by number
        self.context = {}  # of the handshake that a thread is in

    # ---- listeners ----

    def listen(self, service):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", self.ports.get(service, 0)))
        s.listen(256)
        self.ports[service] = s.getsockname()[1]
        self.listeners[service] = s
        threading.Thread(target=self.accept, args=(service, s), daemon=True).start()

    def shut(self, service):
        """Nobody listens any more: connections are refused, open ones are reset."""
        s = self.listeners.pop(service, None)
        if s:
            s.shutdown(socket.SHUT_RDWR)
            s.close()
        for conn, of in list(self.open.values()):
            if of == service:
                try:
                    conn.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept(self, service, s):
        while True:
            try:
                sock, _ = s.accept()
            except OSError:
                if s.fileno() < 0:
                    return
                time.sleep(0.01)
                continue
            threading.Thread(target=self.serve, args=(service, sock), daemon=True).start()

    # ---- a connection ----

    def on_name(self, sock, name, _ctx):
        """Chooses the certificate by the name the client wants to talk to."""
        name = (name or "").lower()
        vault = self.world.vault_of_host(name)
        target = vault.name if vault else "entra" if name == self.world.login_host else None
        if target is None:
            self.note({"target": name, "service": "tls", "op": "handshake", "status": None, "verdict": "unknown name"})
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        hit = self.faults.take(target, "handshake", faults.TLS)
        if hit:
            kind = hit[0].kind
            self.note({"target": target, "service": "tls", "op": "handshake", "status": None, "verdict": "broken",
                       "fault": kind})
            if kind == "tls-reset":
                return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
            if kind == "tls-hang":
                end = time.monotonic() + float(hit[0].more.get("value") or HANG_SECONDS)
                while time.monotonic() < end and hit[0].left != -1:
                    time.sleep(0.1)
                return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
            sock.context = self.tls[kind]
        return None

    def note(self, entry):
        entry.setdefault("mono", time.monotonic())
        entry.setdefault("wall", time.time())
        self.log.add(entry)

    def serve(self, service, sock):
        number = next(self.numbers)
        conn = Conn(sock, number)
        self.open[number] = conn, service
        try:
            sock.settimeout(IDLE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if service in ("vault", "login"):
                conn.sock = self.tls["good"].wrap_socket(sock, server_side=True)
            while self.exchange(service, conn):
                pass
        except (Closed, OSError, ssl.SSLError):
            pass
        finally:
            self.open.pop(number, None)
            conn.close()

    def exchange(self, service, conn):
        try:
            req = conn.read()
        except ValueError as e:
            conn.send(Answer(400, error_body("BadRequest", str(e))).head() + b"")
            return False
        start = time.monotonic()
        entry = {"start": start, "conn": conn.number, "client_request_id": req.header("x-ms-client-request-id"),
                 "method": req.method, "path": req.path, "bearer": bool(req.header("authorization"))}
        vault, target, op = self.where(service, req, entry)
        entry.update(target=target, op=op)
        keep = req.header("connection").lower() != "close"
        try:
            for f in self.faults.take(target, op, faults.EARLY):
                entry["fault"] = f.kind
                a = self.faults.early(f, vault, self.api, req)
                if a is None:
                    self.record(entry, None)
                    return self.misbehave(conn, f)
                late = self.faults.take(target, op, ("latency",))
                return self.answer(conn, a, late, entry) and keep
            a = self.true_answer(service, vault, target, req, entry, op)
            late = self.faults.take(target, op, faults.LATE)
            for f in late:
                entry["fault"] = f.kind
                a = Faults.late(f, a)
            return self.answer(conn, a, late, entry) and keep
        except Closed:
            if "n" not in entry:
                self.record(entry, None)
            raise

    def where(self, service, req, entry):
        """(vault, target, operation) of a request."""
        entry["service"] = service
        if service == "vault":
            vault = self.world.vault_of_host(req.host())
            op, key, version = route(req)
            if vault and not req.header("authorization"):
                op = "contact"
            entry.update(service="hsm" if vault and vault.hsm else "vault", key=key, version=version)
            return vault, vault.name if vault else req.host(), op or "other"
        if service == "login":
            entry["service"] = "entra"
            last = req.path.rstrip("/").rsplit("/", 1)[-1].lower()
            return None, "entra", last if last in ("token", "instance", "openid-configuration", "keys") else "other"
        if service == "imds" and req.path.lower().startswith("/msi/"):
            entry["service"] = "appservice"
            return None, "appservice", "token"
        path = req.path.rstrip("/").lower()
        op = "token" if path.endswith("/token") else "info" if path.endswith("/info") else "instance"
        return None, service, op

    def true_answer(self, service, vault, target, req, entry, op):
        bad_token = self.faults.take(target, op, faults.TOKEN)
        kind = bad_token[0].kind if bad_token else ""
        if kind:
            entry["fault"] = kind
        if service == "vault":
            if not vault:
                return Refused(404, "VaultNotFound", "There is no such vault.").answer()
            return self.api.handle(vault, req, entry)
        if service == "login":
            return self.world.entra.handle(req, entry, kind)
        return self.metadata.handle(target, req, entry, kind)

    def record(self, entry, a):
        status = a.status if a else None
        code, inner = "", ""
        if a:
            code, inner = a.note.get("code", ""), a.note.get("inner", "")
        entry.update(status=status, code=code, inner=inner, verdict=verdict(status))
        self.note(entry)

    def answer(self, conn, a, late, entry):
        # The log is written first: who has the answer finds it there.  Not with latency: then the denial is yet to come.
        for f in [f for f in late if f.kind == "latency"]:
            time.sleep(float(f.more.get("value") or 1))
        self.record(entry, a)
        return faults.deliver(conn, a, late)

    def misbehave(self, conn, f):
        """What is no answer at all."""
        if f.kind == "garbage":
            conn.send(os.urandom(int(f.more.get("value") or 2000)))
        elif f.kind == "reset":
            conn.reset()
        elif f.kind == "hang":
            end = time.monotonic() + float(f.more.get("value") or HANG_SECONDS)
            conn.sock.settimeout(0.5)
            while time.monotonic() < end and f.left != -1:
                try:
                    if not conn.sock.recv(1):
                        break
                except (TimeoutError, ssl.SSLWantReadError):
                    continue
        return False

    def add_fault(self, *args, **more):
        f = Fault(*args, **more)
        with self.world.lock:
            self.faults.list.append(f)
        return f

    def clear_faults(self, target=None):
        with self.world.lock:
            for f in self.faults.list:
                if target in (None, f.target, str(f.id)):
                    f.left = -1  # those who hang go on
            self.faults.list = [f for f in self.faults.list if f.left != -1]
