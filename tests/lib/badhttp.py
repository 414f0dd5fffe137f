#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A web server with bad manners, for tests/unit/test_http.c.

usage: badhttp.py DIR

Makes two certificate authorities and some server certificates in DIR, listens on loopback, prints one line of JSON
with the ports, and serves until its standard input ends. What it does is chosen by the path; see ACTIONS.
"""
import datetime
import ipaddress
import json
import os
import socket
import ssl
import struct
import sys
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DIR = sys.argv[1]
NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def make_ca(file):
    key = ec.generate_private_key(ec.SECP256R1())
    cert = (x509.CertificateBuilder().subject_name(name(file)).issuer_name(name(file)).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256()))
    with open(os.path.join(DIR, file), "wb") as f:
        f.write(cert.public_bytes(serialization.Encoding.PEM))
    return key, cert


def make_context(ca, names, until=NOW + DAY, use_rsa=False, tls12=False):
    key = rsa.generate_private_key(65537, 2048) if use_rsa else ec.generate_private_key(ec.SECP256R1())
    cert = (x509.CertificateBuilder().subject_name(name("server")).issuer_name(ca[1].subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY).not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(ca[0], hashes.SHA256()))
    file = os.path.join(DIR, "server.pem")
    with open(file, "wb") as f:
        f.write(pem_key(key) + cert.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    os.unlink(file)
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


connections = 0
stolen = 0
lock = threading.Lock()


def plain(status, body, extra=b""):
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def act(sock, request, number):
    """Sends an answer; False: close the connection."""
    head, _, body = request.partition(b"\r\n\r\n")
    method, path, _ = head.split(b"\r\n")[0].split(b" ")
    path = path.split(b"?")[0].decode()
    global stolen
    if path == "/echo":
        sock.sendall(plain(200, request, b"X-Kind: echo\r\nX-Kind:  second \r\n"))
    elif path == "/connection":
        sock.sendall(plain(200, b"%d" % number))
    elif path == "/stolen":
        stolen += 1
        sock.sendall(plain(200, b"%d" % stolen))
    elif path == "/redirect":
        sock.sendall(plain(302, b"moved", b"Location: /stolen\r\n"))
    elif path == "/status":
        sock.sendall(plain(int(body), b"{}"))
    elif path == "/big":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 262145\r\n\r\n" + b"x" * 262145)
    elif path == "/fits":
        sock.sendall(plain(200, b"x" * 262144))
    elif path == "/endless":
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sock.sendall(b"1000\r\n" + b"y" * 4096 + b"\r\n")
    elif path == "/headers":
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"X-More: " + b"z" * 1000 + b"\r\n")
    elif path == "/longline":
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            sock.sendall(b"z" * 1000)
    elif path == "/interim":
        sock.sendall(b"HTTP/1.1 103 Early\r\nX-Kind: early\r\n\r\n" + plain(200, b"late"))
    elif path == "/interims":
        while True:
            sock.sendall(b"HTTP/1.1 103 Early\r\nX-Kind: early\r\n\r\n")
    elif path == "/trailer":
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Kind: trailer\r\n\r\n")
    elif path == "/truncated":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":")
        return False
    elif path == "/cutchunk":
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf")
        return False
    elif path == "/gzip":
        sock.sendall(plain(200, b"not gzip", b"Content-Encoding: gzip\r\n"))
    elif path == "/control":
        sock.sendall(plain(200, b"a\0b", b"X-Kind: a\x01b\x7f\r\n"))
    elif path == "/garbage":
        sock.sendall(bytes(range(256)) * 4)
        return False
    elif path == "/nothing":
        return False
    elif path == "/reset":
        reset(sock)
        return False
    elif path == "/slow":
        sock.recv(1)  # until the client gives up
        return False
    elif path == "/drip":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        sock.recv(1)
        return False
    else:
        sock.sendall(plain(404, b""))
    return True


def read_request(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return None
        data += more
        if data[0] == 22:  # TLS, to the port without it
            return None
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        more = sock.recv(65536)
        if not more:
            return None
        body += more
    return head + b"\r\n\r\n" + body


def converse(sock, context):
    global connections
    try:
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        with lock:
            connections += 1
            number = connections
        while True:
            request = read_request(sock)
            if request is None or not act(sock, request, number):
                break
    except (OSError, ValueError):
        pass
    sock.close()


def serve(context):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)

    def loop():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=converse, args=(sock, context), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    return listener.getsockname()[1]


def silent():
    """Connects, and never says a word: no handshake."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener


def main():
    good, other = make_ca("ca.pem"), make_ca("other.pem")
    here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    waiting = silent()
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # never listens: connections are refused
    ports = {
        "good": serve(make_context(good, here)),
        "rsa": serve(make_context(good, here, use_rsa=True)),
        "tls12": serve(make_context(good, here, use_rsa=True, tls12=True)),
        "stranger": serve(make_context(other, here)),
        "expired": serve(make_context(good, here, until=NOW - DAY)),
        "misnamed": serve(make_context(good, [x509.DNSName("elsewhere.example")])),
        "plain": serve(None),
        "silent": waiting.getsockname()[1],
        "closed": closed.getsockname()[1],
    }
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


main()
