# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of its own for each run, and the TLS contexts of the server."""

import datetime
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


class Authority:
    def __init__(self, title="Key Vault emulator CA"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(title)
        now = datetime.datetime.utcnow()
        self.cert = (x509.CertificateBuilder()
                     .subject_name(self.name).issuer_name(self.name)
                     .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                     .not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
                     .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                     .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                                    critical=True)
                     .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
                     .sign(self.key, hashes.SHA256()))

    def pem(self):
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def issue(self, names, start=-1, end=20):
        """A server's key and certificate, valid from start to end (days from now)."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        cert = (x509.CertificateBuilder()
                .subject_name(_name(names[0])).issuer_name(self.name)
                .public_key(key.public_key()).serial_number(x509.random_serial_number())
                .not_valid_before(now + start * DAY).not_valid_after(now + end * DAY)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
                .sign(self.key, hashes.SHA256()))
        return _pem_key(key) + cert.public_bytes(serialization.Encoding.PEM)


def context(directory, name, pem):
    path = os.path.join(directory, f"{name}.pem")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as f:
        f.write(pem)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.minimum_version = ssl.TLSVersion.TLSv1_2
    ctx.load_cert_chain(path)
    return ctx


def contexts(directory, hosts):
    """Writes ca.pem and returns the contexts: good ones and, for the faults, bad ones."""
    ca = Authority()
    with open(os.path.join(directory, "ca.pem"), "wb") as f:
        f.write(ca.pem())
    return {
        "good": context(directory, "server", ca.issue(hosts)),
        "tls-name": context(directory, "server-name", ca.issue(["elsewhere.example"])),
        "tls-expired": context(directory, "server-expired", ca.issue(hosts, -20, -1)),
        "tls-foreign": context(directory, "server-foreign", Authority("Some other CA").issue(hosts)),
    }
