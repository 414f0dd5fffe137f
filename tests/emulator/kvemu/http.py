# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on sockets, small and strict, with a hand on every byte: the faults need that."""

import datetime
import json
import socket
import struct
import urllib.parse

MAX_HEAD = 65536
MAX_BODY = 1 << 20
REASONS = {
    200: "OK", 204: "No Content", 302: "Found", 307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 410: "Gone", 429: "Too Many Requests", 500: "Internal Server Error",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}


class Closed(Exception):
    """The client went away, or we hang up."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method = method
        self.target = target
        self.headers = headers  # names in lower case
        self.body = body
        path, _, query = target.partition("?")
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))

    def header(self, name, default=""):
        return self.headers.get(name.lower(), default)

    def host(self):
        return self.header("host").rsplit(":", 1)[0].lower()

    def form(self):
        return dict(urllib.parse.parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self):
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value


class Answer:
    def __init__(self, status=200, body=b"", headers=None, kind="application/json; charset=utf-8"):
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        self.headers = dict(headers or {})
        self.kind = kind
        self.note = {}  # for the log

    def json(self):
        return json.loads(self.body)

    def head(self, length=None, extra=()):
        now = datetime.datetime.utcnow().strftime("%a, %d %b %Y %H:%M:%S GMT")
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Other')}", f"Date: {now}"]
        if self.body:
            lines.append(f"Content-Type: {self.kind}")
        lines += [f"{k}: {v}" for k, v in self.headers.items()]
        lines += extra
        if not any(line.lower().startswith("transfer-encoding:") for line in extra) and self.status != 204:
            lines.append(f"Content-Length: {len(self.body) if length is None else length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class Conn:
    """One connection of a client."""

    def __init__(self, sock, number):
        self.sock = sock
        self.number = number
        self.buf = b""

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except OSError as e:
            raise Closed from e
        if not data:
            raise Closed
        self.buf += data

    def read(self):
        """The next request; Closed at the end, ValueError if it is none."""
        while b"\r\n\r\n" not in self.buf:
            if len(self.buf) > MAX_HEAD:
                raise ValueError("headers too large")
            self._more()
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError("not HTTP/1.x")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError("header without a colon")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._chunks()
        else:
            body = self._take(int(headers.get("content-length", "0")))
        return Request(method, target, headers, body)

    def _take(self, n):
        if not 0 <= n <= MAX_BODY:
            raise ValueError("body too large")
        while len(self.buf) < n:
            self._more()
        data, self.buf = self.buf[:n], self.buf[n:]
        return data

    def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.buf:
                self._more()
            line, _, self.buf = self.buf.partition(b"\r\n")
            n = int(line.split(b";")[0], 16)
            body += self._take(n)
            self._take(2)
            if n == 0:
                return body

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Closed from e

    def reset(self):
        """RST instead of an orderly end."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Not unwrap(): that would send TLS's close_notify first.
            socket.socket(fileno=self.sock.detach()).close()
        except OSError:
            pass
        raise Closed

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass
