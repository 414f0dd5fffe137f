# SPDX-License-Identifier: Apache-2.0
"""durable.py write|check DIR JOURNAL [SEED]

write: changes files and syncs them until the filesystem dies; JOURNAL, which is elsewhere, gets a line
for each file before it is touched and one with its digest after it was synced.
check: reads everything; a file that was not touched since its last digest must have it.
"""

import hashlib
import os
import random
import sys
import threading

TOP, JOURNAL = sys.argv[2], sys.argv[3]
lock = threading.Lock()


def note(journal, *words):
    with lock:
        journal.write(" ".join(map(str, words)) + "\n")
        journal.flush()


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def change(path, r):
    """Returns the digest of what the file holds after it was synced."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    size = os.fstat(fd).st_size
    for _ in range(r.randrange(1, 6)):
        kind = r.randrange(5)
        if kind == 0 and size:
            os.ftruncate(fd, r.randrange(size))
        elif kind == 1:
            os.pwrite(fd, r.randbytes(r.randrange(1, 30000)), size)
        elif kind == 2:
            os.pwrite(fd, r.randbytes(r.randrange(1, 9000)), r.randrange(size + 1))
        elif kind == 3:
            os.pwrite(fd, b"far", size + r.randrange(200000))
        else:
            os.ftruncate(fd, size + r.randrange(20000))
        size = os.fstat(fd).st_size
    os.fsync(fd)
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def work(journal, number, seed):
    r = random.Random(seed * 100 + number)
    while True:
        name = f"w{number}.{r.randrange(12)}"
        path = os.path.join(TOP, name)
        if r.randrange(8) == 0 and os.path.exists(path):
            # Replaced as editors do it; the digest holds for the name from then on.
            note(journal, "touch", name)
            note(journal, "touch", name + ".new")
            value = change(path + ".new", r)
            os.rename(path + ".new", path)
            parent = os.open(TOP, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)
            note(journal, "gone", name + ".new")
            note(journal, "synced", name, value)
        else:
            note(journal, "touch", name)
            note(journal, "synced", name, change(path, r))


def write():
    def run(number):
        try:
            work(journal, number, int(sys.argv[4]))
        except OSError as e:
            print(e)
    with open(JOURNAL, "a") as journal:
        threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def check():
    state = {}
    with open(JOURNAL) as journal:
        for line in journal:
            word, name, *value = line.split()
            state[name] = value[0] if word == "synced" else None
    known = checked = 0
    for name in os.listdir(TOP):
        known += 1
        value = digest(os.path.join(TOP, name))  # an EIO ends this
        if state.get(name):
            checked += 1
            if value != state[name]:
                sys.exit(f"FAIL: {name} is not what was synced")
    missing = [n for n, value in state.items() if value and not os.path.exists(os.path.join(TOP, n))]
    if missing:
        sys.exit(f"FAIL: synced and gone: {missing}")
    print(f"{known} files, {checked} of them as synced")
    if not checked:
        sys.exit("FAIL: nothing was synced")
    # From here on their digests are those of this moment.
    with open(JOURNAL, "a") as journal:
        for name in os.listdir(TOP):
            note(journal, "synced", name, digest(os.path.join(TOP, name)))


{"write": write, "check": check}[sys.argv[1]]()
