# SPDX-License-Identifier: Apache-2.0
"""longnames.py write|check|remove DIR"""

import errno
import os
import random
import sys

PART, TOP = sys.argv[1], os.fsencode(sys.argv[2])
r = random.Random(3)


def names():
    for n in range(1, 256):
        yield bytes([97 + n % 26]) * n
        name = bytes(r.choice([b for b in range(1, 256) if b != 47]) for _ in range(n))
        yield name if name not in (b".", b"..") and len(set(name)) > 1 else b"_" * n
    for b in range(1, 256):
        if bytes([b]) not in (b"/", b"."):
            yield b"one byte:" + bytes([b])
    yield from (b"...", b". ", b"L.aaaa", b"N.aaaa", b"S.aaaa", b"bcfs.id", b"blobcryptfs.json", b"blobcryptfs.lock",
                b".hidden", b"lost+found")


def targets():
    for n in (*range(1, 40), *range(480, 580), *range(700, 800, 3), *range(1000, 1050), *range(2000, 2060),
              *range(3000, 3100), *range(4060, 4096)):
        yield bytes(r.randrange(1, 256) for _ in range(n))


def must_fail(code, what, call, *args):
    try:
        call(*args)
    except OSError as e:
        if e.errno != code:
            sys.exit(f"FAIL: {what}: {errno.errorcode[e.errno]}, not {errno.errorcode[code]}")
        return
    sys.exit(f"FAIL: {what} succeeded")


def main():
    all_names = sorted(set(names()))
    all_targets = list(targets())
    if PART == "write":
        os.mkdir(TOP + b"/d")
        os.mkdir(TOP + b"/links")
    for i, name in enumerate(all_names):
        path = TOP + b"/d/" + name
        kind = i % 3
        if PART == "write":
            if kind == 0:
                os.mkdir(path)
            elif kind == 1:
                os.symlink(name, path)
            else:
                with open(path, "xb") as f:
                    f.write(name)
        elif PART == "check":
            got = name if kind == 0 and os.path.isdir(path) else os.readlink(path) if kind == 1 else open(path, "rb").read()
            if got != name:
                sys.exit(f"FAIL: {name!r} has become {got!r}")
        elif kind == 0:
            os.rmdir(path)
        else:
            # Through another name: renaming has to clean up behind a long name.
            os.rename(path, TOP + b"/d/" + b"R" * (1 + i % 255))
            os.unlink(TOP + b"/d/" + b"R" * (1 + i % 255))
    for i, target in enumerate(all_targets):
        path = TOP + b"/links/%d" % i
        if PART == "write":
            os.symlink(target, path)
        elif PART == "check":
            if os.readlink(path) != target:
                sys.exit(f"FAIL: target of {len(target)} bytes came back wrong")
            if os.lstat(path).st_size != len(target):
                sys.exit(f"FAIL: st_size {os.lstat(path).st_size} of a link to {len(target)} bytes")
        elif i % 2:
            os.unlink(path)
        else:
            os.symlink(b"short", path + b".new")
            os.rename(path + b".new", path)
            os.unlink(path)
    if PART != "remove":
        if sorted(os.listdir(TOP + b"/d")) != all_names:
            sys.exit(f"FAIL: the directory lists {len(os.listdir(TOP + b'/d'))} other names than the {len(all_names)} made")
        must_fail(errno.ENAMETOOLONG, "a name of 256 bytes", os.mkdir, TOP + b"/" + b"n" * 256)
        must_fail(errno.ENAMETOOLONG, "a lookup of 256 bytes", os.stat, TOP + b"/" + b"n" * 256)
        must_fail(errno.ENAMETOOLONG, "a target of 4096 bytes", os.symlink, b"t" * 4096, TOP + b"/l")
    else:
        os.rmdir(TOP + b"/d")
        os.rmdir(TOP + b"/links")


main()
