# SPDX-License-Identifier: Apache-2.0
"""make_tree.py DIR COUNT [SEED]: a tree of COUNT regular files and some of everything else."""

import os
import random
import socket
import stat
import subprocess
import sys

SIZES = (0, 1, 15, 100, 3935, 3936, 3937, 4064, 4095, 4096, 4097, 7999, 8000, 8001, 12345, 65536, 200001)
ODD_NAMES = (b" ", b"-rf", b"new\nline", b"\xff\xfe\x80", b"tab\there", b"*?[x]", b"\xc3\xa4\xc3\xb6", b"'\"\\", b"..x", b"~")


def file_name(r, i):
    if i < len(ODD_NAMES):
        return ODD_NAMES[i]
    kind = r.randrange(20)
    base = b"%06d" % i
    if kind == 0:
        return base + bytes(r.choice(b"abcdefghij.-_ ") for _ in range(249))
    if kind == 1:
        return base + b"n" * r.randrange(150, 249)
    return base + b".dat"


def set_times(path, r, follow=True):
    ns = r.randrange(0, 1_900_000_000) * 10**9 + r.randrange(10**9)
    os.utime(path, ns=(ns, ns), follow_symlinks=follow)


def set_xattrs(path, r, i):
    for n in range(r.randrange(1, 4)):
        value = r.randbytes(r.choice((0, 1, 20, 300, 800)))
        os.setxattr(path, f"user.note{n}.{'x' * r.randrange(0, 60)}", value)
    if i % 3 == 0:
        os.setxattr(path, "trusted.mark", b"only root sees this")


def make_file(directory, name, r, i, data):
    path = os.path.join(directory, name)
    size = r.choice(SIZES) if i % 50 else 1_000_000
    with open(path, "wb") as f:
        at = r.randrange(len(data) - size)
        f.write(data[at:at + size])
        if i % 97 == 0:
            f.seek(500_000, os.SEEK_CUR)
            f.write(b"behind a hole")
    if i % 10 == 0:
        os.chown(path, r.randrange(1, 70000), r.randrange(1, 70000))
    os.chmod(path, r.choice((0o644, 0o600, 0o755, 0o444, 0o000, 0o4755, 0o2755, 0o1666)))
    if i % 7 == 0:
        set_xattrs(path, r, i)
    return path


def make_special(directory, r):
    os.mkfifo(os.path.join(directory, b"fifo"), 0o640)
    os.mknod(os.path.join(directory, b"char"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(os.path.join(directory, b"block"), 0o600 | stat.S_IFBLK, os.makedev(7, 200))
    here = os.getcwd()
    os.chdir(directory)
    s = socket.socket(socket.AF_UNIX)
    s.bind("socket")
    s.close()
    os.chdir(here)
    for name in (b"fifo", b"char", b"block", b"socket"):
        set_times(os.path.join(directory, name), r)
    for n, target in enumerate((b"x", b"../..", b"/no/where", b"t" * 100, b"long/" * 200, b"L" * 4095, b"\xff\n ")):
        link = os.path.join(directory, b"link%d" % n)
        os.symlink(target, link)
        os.chown(link, n, 2 * n, follow_symlinks=False)
        set_times(link, r, follow=False)


def main():
    top, count = os.fsencode(sys.argv[1]), int(sys.argv[2])
    r = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    data = r.randbytes(1 << 21)
    directories, files = [top], []
    for i in range(max(3, count // 40)):
        path = os.path.join(r.choice(directories[-30:]), b"dir%d" % i)
        if len(path) > 2000:
            path = os.path.join(top, b"dir%d" % i)
        os.mkdir(path)
        directories.append(path)
    for i in range(count):
        files.append(make_file(r.choice(directories), file_name(r, i), r, i, data))
    for i in range(count // 50):
        os.link(r.choice(files), os.path.join(r.choice(directories), b"hard%d" % i))
    for directory in directories[1:6]:
        make_special(directory, r)
    acls = [os.fsdecode(f) for f in files[5:400:20]]
    subprocess.run(["setfacl", "-m", "u:1234:rwx,g:77:r-x", "--", *acls], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", "--", os.fsdecode(directories[1])], check=True)
    for path in files:
        set_times(path, r)
    for i, directory in enumerate(reversed(directories)):
        if i % 5 == 0:
            os.chmod(directory, r.choice((0o700, 0o755, 0o1777, 0o2775)))
            os.setxattr(directory, "user.kind", b"directory %d" % i)
        set_times(directory, r)


main()
