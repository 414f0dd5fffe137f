#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plays the services that give out tokens, word by word as a test wants it, for tests/unit/test_azid*.c.

usage: fakeid.py DIR

Listens on loopback, with and without TLS (DIR/ca.pem), and prints one line of JSON with the ports. Then each line of
standard input is a command, answered by one line:
  {"play": [ANSWER, ...]}  the next requests get these, in this order, whoever asks; 599 when there are none left
  {"log": true}            the requests since the last "play"
ANSWER: {"status": 200, "headers": {...}, "body": "..."}, or "fault": "reset", "cut", "garbage", "big", "silent".
A client assertion in a request is checked against DIR/sp.crt by the cryptography library, independent of our code.
"""
import base64
import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import socket
import ssl
import struct
import sys
import threading
import urllib.parse

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

DIR = sys.argv[1]
NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)

lock = threading.Lock()
script = []
log = []
gone = threading.Event()


def unbase64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def check_assertion(text):
    """What is in it, and whether it is signed as RFC 7518 section 3.5 wants it."""
    head, claims, signature = text.split(".")
    with open(os.path.join(DIR, "sp.crt"), "rb") as f:
        cert = x509.load_pem_x509_certificate(f.read())
    der = cert.public_bytes(serialization.Encoding.DER)
    header = json.loads(unbase64(head))
    problems = []
    try:
        cert.public_key().verify(unbase64(signature), f"{head}.{claims}".encode(),
                                 padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    except InvalidSignature:
        problems.append("signature")
    if header.get("x5t#S256") != base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("="):
        problems.append("x5t#S256")
    if [base64.b64decode(c, validate=True) for c in header.get("x5c", [])][:1] != [der]:
        problems.append("x5c")
    if any("=" in part for part in (head, claims, signature)):
        problems.append("padding")
    return {"problems": problems, "header": header, "claims": json.loads(unbase64(claims))}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *args):
        pass

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        entry = {"method": self.command, "path": self.path, "body": body, "tls": self.server.tls,
                 "headers": {k.lower(): v for k, v in self.headers.items()}}
        if self.command == "POST":
            entry["form"] = dict(urllib.parse.parse_qsl(body, strict_parsing=True))
            assertion = entry["form"].get("client_assertion", "")
            if assertion.startswith("eyJ"):
                entry["assertion"] = check_assertion(assertion)
        with lock:
            log.append(entry)
            answer = script.pop(0) if script else {"status": 599, "body": "nothing left to play"}
        self.play(answer)

    do_GET = do_POST = serve

    def play(self, answer):
        fault = answer.get("fault")
        body = answer.get("body", "").encode()
        self.close_connection = True
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + body)
        elif fault == "garbage":
            self.wfile.write(bytes(range(256)) * 8)
        elif fault == "silent":
            gone.wait()
        else:
            if fault == "big":
                body = b" " * 300000
            self.send_response(answer.get("status", 200))
            for name, value in answer.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def put(file, data):
    with open(os.open(os.path.join(DIR, file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(data)


def make_pair(subject, key, ca=None, names=()):
    """A key and its certificate, by ca or by itself, as PEM."""
    issuer_key, issuer = (key, name(subject)) if ca is None else ca
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(issuer).public_key(key.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
               .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    cert = builder.sign(issuer_key, hashes.SHA256())
    return (key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption()), cert.public_bytes(serialization.Encoding.PEM))


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the game


def listen(context):
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.tls = context is not None
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    ca_key = ec.generate_private_key(ec.SECP256R1())
    put("ca.pem", make_pair("test ca", ca_key)[1])
    put("tls.pem", b"".join(make_pair("server", ec.generate_private_key(ec.SECP256R1()), (ca_key, name("test ca")),
                                      [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])))
    key, cert = make_pair("principal", rsa.generate_private_key(65537, 2048))
    put("sp.crt", cert)
    put("sp.pem", key + cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(DIR, "tls.pem"))
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # never listens: connections are refused
    print(json.dumps({"plain": listen(None), "tls": listen(context), "closed": closed.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        with lock:
            if "play" in command:
                script[:] = command["play"]
                log.clear()
            print(json.dumps(log if "log" in command else []), flush=True)
    gone.set()


main()
