#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What keys of a volume look like in memory: keys.py DIR KEK-FILE FILES DESCRIPTOR prints needles for memscan.

DIR is the backing directory, KEK-FILE the managed key. With the volume key from the DESCRIPTOR everything else is
derived as crypto/FORMAT.md says: the fixed keys, those of names and blobs, and of segment 0 of the FILES newest files
in DIR; for AES keys the expanded schedule (its later rounds) and the GHASH key as well, in both byte orders.
"""
import base64
import glob
import json
import os
import sys

from cryptography.hazmat.primitives import hashes, hmac, keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def kbkdf(key, label, context, length=32):
    """SP 800-108, counter mode, HMAC-SHA-256."""
    out, i = b"", 1
    while len(out) < length:
        h = hmac.HMAC(key, hashes.SHA256())
        h.update(i.to_bytes(4, "big") + label.encode() + b"\0" + context + (8 * length).to_bytes(4, "big"))
        out += h.finalize()
        i += 1
    return out[:length]


def sbox():
    p = q = 1
    box = [0] * 256
    while True:
        p ^= (p << 1 & 0xff) ^ (0x1b if p & 0x80 else 0)
        q ^= q << 1 & 0xff
        q ^= q << 2 & 0xff
        q ^= q << 4 & 0xff
        q ^= 0x09 if q & 0x80 else 0
        x = q
        for n in range(1, 5):
            x ^= (q << n | q >> 8 - n) & 0xff
        box[p] = x ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = sbox()


def schedule(key):
    """The 15 round keys of AES-256, as bytes."""
    w = [key[4 * i:4 * i + 4] for i in range(8)]
    rcon = 1
    for i in range(8, 60):
        t = w[i - 1]
        if i % 8 == 0:
            t = bytes(SBOX[b] for b in t[1:] + t[:1])
            t = bytes([t[0] ^ rcon]) + t[1:]
            rcon <<= 1
        elif i % 8 == 4:
            t = bytes(SBOX[b] for b in t)
        w.append(bytes(a ^ b for a, b in zip(w[i - 8], t)))
    return b"".join(w)


def words_swapped(data, size):
    return b"".join(data[i:i + size][::-1] for i in range(0, len(data), size))


def show(name, data):
    print(name, data.hex())


def aes(name, key):
    show(name, key)
    rounds = schedule(key)[32:64]
    show(f"{name}-schedule", rounds)
    show(f"{name}-schedule-swapped", words_swapped(rounds, 4))


def gcm(name, key):
    aes(name, key)
    e = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    h = e.update(bytes(16))
    show(f"{name}-ghash", h)
    show(f"{name}-ghash-swapped", h[::-1])
    show(f"{name}-ghash-halves", words_swapped(h, 8))


def files(directory, most):
    """The file ids of the newest ones."""
    paths = glob.glob(os.path.join(directory, "**", "*"), recursive=True)
    paths = [p for p in paths if os.path.isfile(p) and not os.path.islink(p)]
    for path in sorted(paths, key=os.path.getmtime, reverse=True):
        if most:
            with open(path, "rb") as f:
                head = f.read(4096)
            if head[32:36] == b"BCF1":
                most -= 1
                yield head[48:64]


def unwrap(kek, text):
    return keywrap.aes_key_unwrap_with_padding(kek, unb64(text))


def main():
    directory = sys.argv[1]
    with open(sys.argv[2], encoding="ascii") as f:
        kek = bytes.fromhex(f.read().strip())
    with open(sys.argv[4], encoding="utf-8") as f:
        descriptor = json.load(f)
    envelope, volume = descriptor["envelope"], bytes.fromhex(descriptor["volume"])
    key = unwrap(kek, envelope["volume_key"])
    inner = unwrap(kek, envelope["inner_key"]) if "inner_key" in envelope else None
    show("managed-key", kek)
    show("volume-key", key)
    for label in ("name mac", "blob mac", "dirid mac", "descriptor", "state", "audit"):
        show(label.replace(" ", "-"), kbkdf(key, "bcfs1 " + label, volume))
    for label in ("name enc", "blob enc"):
        aes(label.replace(" ", "-"), kbkdf(key, "bcfs1 " + label, volume))
    if inner:
        show("inner-key", inner)
        for label in ("inner name", "inner blob"):
            aes(label.replace(" ", "-"), kbkdf(inner, "bcfs1 " + label, volume))
    for n, file_id in enumerate(files(directory, int(sys.argv[3]))):
        context = volume + file_id + bytes(4)
        gcm(f"content-{n}", kbkdf(key, "bcfs1 content", context))
        if inner:
            both = kbkdf(inner, "bcfs1 inner content", context, 64)
            aes(f"xts-data-{n}", both[:32])
            aes(f"xts-tweak-{n}", both[32:])


main()
