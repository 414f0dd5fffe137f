#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes on a mount that is locked and opened again and again, and checks that what was acknowledged is there.

    flapping.py write MOUNT JOURNAL NUMBER STOP    until the file STOP is there
    flapping.py check MOUNT JOURNAL NUMBER

Each step is written into the journal after the system call has succeeded. A step that a lock refuses
(ENOKEY, EKEYREVOKED) is tried again; every other error is a failure. What a refused write has left is
found out afterwards: all of it or nothing, or a part from its beginning.
"""

import errno
import json
import mmap
import os
import sys
import time

LOCKED = (errno.ENOKEY, errno.EKEYREVOKED)


def data(number, step, length):
    word = f"{number}:{step}:".encode()
    return (word * (length // len(word) + 1))[:length]


def insist(call):
    """call(), again until no lock refuses it."""
    while True:
        try:
            return call()
        except OSError as e:
            if e.errno not in LOCKED:
                raise
            time.sleep(0.02)


class Appender:
    """One file, open all the time, that grows; refused appends are continued where the file ends."""

    def __init__(self, path, number, journal):
        self.fd = insist(lambda: os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
        self.number, self.journal, self.size = number, journal, 0

    def step(self, n):
        block = data(self.number, n, 1 + n * 977 % 20000)
        insist(lambda: self.put(block))
        self.size += len(block)
        if n % 8 == 0:
            insist(lambda: os.fsync(self.fd))
        self.journal.write(json.dumps({"append": n, "size": self.size}) + "\n")

    def put(self, block):
        done = 0
        while done < len(block):
            done += os.pwrite(self.fd, block[done:], self.size + done)


def small_file(mount, number, n, journal):
    """Created, written, renamed into its place, in steps that may each be refused."""
    temporary, name = f"{mount}/t{number}", f"{mount}/f{number}.{n % 50}"
    block = data(number, n, 1 + n * 331 % 9000)

    def write():
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            done = 0
            while done < len(block):
                done += os.pwrite(fd, block[done:], done)
        finally:
            os.close(fd)

    def rename():
        try:
            os.rename(temporary, name)
        except FileNotFoundError:
            # A rename that was done and then refused its answer.
            if os.path.getsize(name) != len(block):
                raise

    insist(write)
    insist(rename)
    journal.write(json.dumps({"file": n}) + "\n")


def write(mount, journal_path, number, stop):
    with open(journal_path, "w", buffering=1, encoding="ascii") as journal:
        log = Appender(f"{mount}/log{number}", number, journal)
        n = 0
        while not os.path.exists(stop):
            n += 1
            log.step(n)
            small_file(mount, number, n, journal)
        journal.write(json.dumps({"end": n}) + "\n")


def check(mount, journal_path, number):
    size, files, blocks = 0, {}, []
    with open(journal_path, encoding="ascii") as journal:
        for line in journal:
            entry = json.loads(line)
            if "append" in entry:
                size = entry["size"]
                blocks.append(entry["append"])
            elif "file" in entry:
                files[entry["file"] % 50] = entry["file"]
    with open(f"{mount}/log{number}", "rb") as f:
        with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as have:
            if len(have) != size:
                sys.exit(f"log{number} has {len(have)} bytes, not {size}")
            at = 0
            for n in blocks:
                block = data(number, n, 1 + n * 977 % 20000)
                if have[at:at + len(block)] != block:
                    sys.exit(f"log{number}: block {n} at {at} is not what was written")
                at += len(block)
    for slot, n in files.items():
        with open(f"{mount}/f{number}.{slot}", "rb") as f:
            if f.read() != data(number, n, 1 + n * 331 % 9000):
                sys.exit(f"f{number}.{slot} is not what step {n} wrote")
    if not blocks:
        sys.exit("nothing was written at all")
    print(f"{len(blocks)} steps, {size} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        check(sys.argv[2], sys.argv[3], int(sys.argv[4]))
