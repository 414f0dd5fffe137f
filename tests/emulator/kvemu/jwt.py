# SPDX-License-Identifier: Apache-2.0
"""JSON Web Tokens, RFC 7515 and 7519: as much as Entra's need."""

import base64
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class BadToken(Exception):
    pass


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text):
    """Strict: nothing outside of the alphabet, no padding needed."""
    if not isinstance(text, str):
        raise ValueError("not a string")
    text = text.rstrip("=")
    if not all(c.isascii() and (c.isalnum() or c in "-_") for c in text):
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def int_b64u(n, size=None):
    return b64u(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))


class Signer:
    """A signing key of an issuer."""

    def __init__(self, kid, key=None):
        self.kid = kid
        self.key = key or rsa.generate_private_key(65537, 2048)

    def sign(self, claims, kid=None):
        head = {"typ": "JWT", "alg": "RS256", "x5t": kid or self.kid, "kid": kid or self.kid}
        text = ".".join(b64u(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
        return text + "." + b64u(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))

    def jwk(self):
        n = self.key.public_key().public_numbers()
        return {"kty": "RSA", "use": "sig", "kid": self.kid, "n": int_b64u(n.n), "e": int_b64u(n.e)}


def parse(token):
    """(header, claims, signed text, signature); says nothing about whether it is genuine."""
    try:
        head, body, sig = token.split(".")
        header, claims = json.loads(unb64u(head)), json.loads(unb64u(body))
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise ValueError
        return header, claims, f"{head}.{body}".encode(), unb64u(sig)
    except (ValueError, UnicodeError, AttributeError) as e:
        raise BadToken("not a token") from e


def verify(public, header, signed, signature):
    sha = hashes.SHA256()
    try:
        if header.get("alg") == "PS256":
            public.verify(signature, signed, padding.PSS(padding.MGF1(sha), sha.digest_size), sha)
        elif header.get("alg") == "RS256":
            public.verify(signature, signed, padding.PKCS1v15(), sha)
        else:
            raise BadToken(f"algorithm {header.get('alg')}")
    except InvalidSignature as e:
        raise BadToken("signature") from e
