# SPDX-License-Identifier: Apache-2.0
"""many.py make|check|shrink DIR COUNT: a directory with COUNT entries."""

import os
import sys

TOP, COUNT = sys.argv[2], int(sys.argv[3])


def fail(text):
    sys.exit(f"FAIL: {text}")


def name(i):
    return f"{i:07}" + ("-long" * 45 if i % 100 == 0 else "")


def make():
    os.mkdir(TOP)
    for i in range(COUNT):
        os.close(os.open(f"{TOP}/{name(i)}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def check():
    names = os.listdir(TOP)
    if len(names) != COUNT or set(names) != {name(i) for i in range(COUNT)}:
        fail(f"{len(names)} names listed, {len(set(names))} different ones; {COUNT} were made")
    inodes = set()
    for entry in os.scandir(TOP):
        st = entry.stat(follow_symlinks=False)
        if st.st_size != 0 or not entry.is_file(follow_symlinks=False) or entry.inode() != st.st_ino:
            fail(f"{entry.name}: {st}, d_ino {entry.inode()}")
        inodes.add(st.st_ino)
    if len(inodes) != COUNT:
        fail(f"{len(inodes)} inode numbers for {COUNT} files")


def shrink():
    """Whatever is neither added nor removed during a listing is listed exactly once."""
    odd = {name(i) for i in range(1, COUNT, 2)}
    seen, added = [], 0
    with os.scandir(TOP) as it:
        for n, entry in enumerate(it):
            seen.append(entry.name)
            if entry.name not in odd and not entry.name.startswith("new"):
                os.unlink(entry.path)
            if n % 50 == 0:
                os.close(os.open(f"{TOP}/new{n}", os.O_CREAT | os.O_WRONLY, 0o600))
                added += 1
    counts = {}
    for word in seen:
        counts[word] = counts.get(word, 0) + 1
    lost = [w for w in odd if counts.get(w) != 1]
    if lost:
        fail(f"{len(lost)} entries that stayed were not listed exactly once: {lost[0]} {counts.get(lost[0])} times")
    left = set(os.listdir(TOP))
    if {w for w in left if not w.startswith("new")} != odd or len(left) != len(odd) + added:
        fail(f"{len(left)} entries left, not {len(odd)} + {added}")
    for word in left:
        os.unlink(f"{TOP}/{word}")
    if os.stat(TOP).st_nlink != 2 or os.listdir(TOP):
        fail("not empty at the end")
    os.rmdir(TOP)


{"make": make, "check": check, "shrink": shrink}[sys.argv[1]]()
