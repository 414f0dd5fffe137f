# SPDX-License-Identifier: Apache-2.0
"""fill.py fill|check|churn DIR MODEL: fills a filesystem; MODEL, elsewhere, remembers what was acknowledged."""

import errno
import hashlib
import json
import os
import random
import sys
import time

TOP, MODEL = sys.argv[2], sys.argv[3]
r = random.Random(11)


def block(name, size):
    return hashlib.shake_128(name.encode()).digest(size)


def fill_one(name, step, limit=1 << 40):
    """Appends to a file until the disk is full; returns the size that was acknowledged, and whether it is full."""
    try:
        fd = os.open(f"{TOP}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        return None, True
    data, size, full = block(name, step), 0, False
    try:
        while size < limit:
            n = os.write(fd, data[size % step:])
            size += n
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        full = True
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
    os.close(fd)
    return size, full


def wanted(name, step, size):
    data = block(name, step)
    return (data * (size // step + 1))[:size]


def fill():
    model = {}
    size, _ = fill_one("big", 1 << 17)
    model["big"] = [1 << 17, size]
    for i in range(3):
        name, step = f"odd{i}", 777 + i
        size, _ = fill_one(name, step)
        if size is not None:
            model[name] = [step, size]
    # Then small files, until not even one more can be made.
    for i in range(2000):
        size, full = fill_one(f"small{i}", 100, 3000)
        if size is not None:
            model[f"small{i}"] = [100, size]
        if full:
            break
    else:
        sys.exit("FAIL: the disk does not get full")
    # Overwriting what is there works, or says ENOSPC; either way the old or the new bytes are there.
    if model["big"][1] < 1 << 20:
        sys.exit(f"FAIL: only {model['big'][1]} bytes were written in the big file")
    fd = os.open(f"{TOP}/big", os.O_RDWR)
    data = wanted("big", 1 << 17, 200000)
    os.pwrite(fd, data[:150000], 0)
    os.close(fd)
    json.dump(model, open(MODEL, "w"))


def check():
    for name, (step, size) in json.load(open(MODEL)).items():
        with open(f"{TOP}/{name}", "rb") as f:
            got = f.read()
        if len(got) < size:
            sys.exit(f"FAIL: {name} has {len(got)} bytes, {size} were acknowledged")
        if got[:size] != wanted(name, step, size):
            bad = next(i for i, (a, b) in enumerate(zip(got, wanted(name, step, size))) if a != b)
            sys.exit(f"FAIL: {name} of {size} bytes is wrong at {bad}")
        if len(got) > size and any(got[size:]) and got[size:] != wanted(name, step, len(got))[size:]:
            sys.exit(f"FAIL: behind the acknowledged {size} bytes of {name} is what nobody wrote")


def wait_for_room():
    """What was removed is free below as soon as the kernel has told the daemon to forget it: soon, but not at once."""
    end = time.monotonic() + 20
    while True:
        try:
            os.close(os.open(f"{TOP}/probe", os.O_WRONLY | os.O_CREAT, 0o600))
            with open(f"{TOP}/probe", "wb") as f:
                f.write(b"p" * 9000)
            break
        except OSError as e:
            if e.errno != errno.ENOSPC or time.monotonic() > end:
                raise
        time.sleep(0.01)
    os.unlink(f"{TOP}/probe")


def churn():
    """Deletes some and fills again, several times."""
    model = json.load(open(MODEL))
    for turn in range(4):
        freed = 0
        for name in r.sample(sorted(model), len(model)):
            if freed > 2 << 20 and len(model) < 20:
                break
            freed += model.pop(name)[1]
            os.unlink(f"{TOP}/{name}")
        wait_for_room()
        for i in range(50):
            name = f"turn{turn}.{i}"
            step = r.choice((50, 4000, 4064, 70000))
            size, full = fill_one(name, step, min(1 << 20, 1000 * step))
            if size is not None:
                model[name] = [step, size]
            if full:
                break
    json.dump(model, open(MODEL, "w"))


{"fill": fill, "check": check, "churn": churn}[sys.argv[1]]()
