# SPDX-License-Identifier: Apache-2.0
"""bigfiles.py write|check DIR: sparse files far beyond 4 GiB."""

import ctypes
import os
import sys

GIB = 1 << 30
TIB = 1 << 40
KEEP_SIZE, PUNCH_HOLE = 1, 2
libc = ctypes.CDLL(None, use_errno=True)
PLACES = (0, GIB - 3, 4 * GIB - 2000, 4 * GIB + 5, 5 * GIB, 2 * TIB - 9000)


def pattern(at):
    return (b"at %015d " % at) * 100


def sparse_bytes(off, length):
    """What the sparse file holds there."""
    out = bytearray(length)
    for at in PLACES:
        for i, b in enumerate(pattern(at)):
            if 0 <= at + i - off < length:
                out[at + i - off] = b
    return bytes(out)


def punch(fd, off, length):
    if libc.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_long(off), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def expect(what, got, want):
    if got != want:
        sys.exit(f"FAIL: {what}: {got!r:.200}, not {want!r:.200}")


def write(top):
    fd = os.open(f"{top}/sparse", os.O_RDWR | os.O_CREAT, 0o600)
    for at in reversed(PLACES):
        expect("write", os.pwrite(fd, pattern(at), at), len(pattern(at)))
    os.ftruncate(fd, 2 * TIB)
    os.close(fd)
    fd = os.open(f"{top}/punched", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, b"z" * (8 << 20), 4 * GIB - (4 << 20))
    punch(fd, 4 * GIB - 1000, 1 << 20)
    os.ftruncate(fd, 4 * GIB + (3 << 20))
    os.close(fd)
    fd = os.open(f"{top}/cut", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, b"end", 6 * GIB)
    os.ftruncate(fd, 4 * GIB + 1)
    os.ftruncate(fd, 5 * GIB)
    os.close(fd)
    check(top)


def check(top):
    fd = os.open(f"{top}/sparse", os.O_RDONLY)
    expect("size", os.fstat(fd).st_size, 2 * TIB)
    if os.fstat(fd).st_blocks > 2048:
        sys.exit(f"FAIL: a sparse file takes {os.fstat(fd).st_blocks} blocks")
    for at in PLACES:
        expect(f"at {at}", os.pread(fd, len(pattern(at)), at), pattern(at))
        if at + 7000 < 2 * TIB:
            expect(f"around {at}", os.pread(fd, 5000, at + 1000), sparse_bytes(at + 1000, 5000))
    expect("zeros", os.pread(fd, 1 << 20, TIB), b"\0" * (1 << 20))
    # Data where data is, and a hole somewhere in each big gap.
    for at in PLACES:
        expect(f"SEEK_DATA {at}", os.lseek(fd, at, os.SEEK_DATA), at)
        hole = os.lseek(fd, at, os.SEEK_HOLE)
        if not at + len(pattern(at)) <= hole <= at + len(pattern(at)) + (1 << 20):
            sys.exit(f"FAIL: SEEK_HOLE from {at} gives {hole}")
    back = os.lseek(fd, GIB // 2, os.SEEK_DATA)
    if not GIB - (1 << 20) <= back <= GIB - 3:
        sys.exit(f"FAIL: SEEK_DATA from 512 MiB gives {back}")
    os.close(fd)
    fd = os.open(f"{top}/punched", os.O_RDONLY)
    expect("punched size", os.fstat(fd).st_size, 4 * GIB + (3 << 20))
    expect("punched", os.pread(fd, (1 << 20) + 2000, 4 * GIB - 2000), b"z" * 1000 + b"\0" * (1 << 20) + b"z" * 1000)
    expect("cut of punched", os.pread(fd, 10, 4 * GIB + (3 << 20) - 5), b"z" * 5)
    os.close(fd)
    fd = os.open(f"{top}/cut", os.O_RDONLY)
    expect("cut size", os.fstat(fd).st_size, 5 * GIB)
    expect("cut", os.pread(fd, 1 << 16, 4 * GIB - 100), b"\0" * (1 << 16))
    os.close(fd)


{"write": write, "check": check}[sys.argv[1]](sys.argv[2])
