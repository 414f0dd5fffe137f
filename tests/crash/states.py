#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Crash states of single files, page by page.

A volume gets many files with synced content. Each is then changed in the same way, without a
sync, while a preloaded library logs what the daemon writes below; then the daemon is killed.
From the log we build what a power cut could have left of each file: a moment, and up to it any
subset of the unsynced pages and any size between. Every file gets another such state, so that
one mount tries hundreds. What was synced has to be there, and nothing may be unreadable.
"""

import argparse
import itertools
import os
import random
import signal
import struct
import subprocess
import sys
import time

PAGE = 4096
WRITE, TRUNCATE, FALLOCATE, SYNC, SYNC_ALL = range(1, 6)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def text(seed, length):
    """Bytes without a zero among them, different for each seed."""
    r = random.Random(seed)
    block = bytes(r.randrange(1, 256) for _ in range(997))
    return (block * (length // 997 + 1))[:length]


# ---- what is done to a file: steps, and what the content is after each ----

def do_write(off, length, seed):
    def step(fd, old):
        os.pwrite(fd, text(seed, length), off)
        return old[:off] + bytes(max(0, off - len(old))) + text(seed, length) + old[off + length:]
    return step


def do_append(length, seed):
    def step(fd, old):
        os.pwrite(fd, text(seed, length), len(old))
        return old + text(seed, length)
    return step


def do_truncate(length):
    def step(fd, old):
        os.ftruncate(fd, length)
        return old[:length] + bytes(max(0, length - len(old)))
    return step


def do_fallocate(mode, off, length):
    def step(fd, old):
        fallocate(fd, mode, off, length)
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            end = min(len(old), off + length)
            return old[:off] + bytes(max(0, end - off)) + old[max(end, off):]
        return old + bytes(max(0, off + length - len(old)))
    return step


def do_fsync(fd, old):
    os.fsync(fd)
    return old


def fallocate(fd, mode, off, length):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate64(fd, mode, off, length):
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


HOLE = PUNCH_HOLE | KEEP_SIZE
# name: (length before, or None where the file is new; steps; share of the states)
WORKLOADS = {
    "overwrite": (65536, [do_write(10000, 20000, 1)], 2),
    "overwrite-start": (9000, [do_write(0, 5000, 1)], 1),
    "overwrite-twice": (20000, [do_write(3000, 9000, 1), do_write(5000, 3000, 2)], 1),
    "append": (6000, [do_append(9000, 1)], 2),
    "append-in-sector": (100, [do_append(50, 1)], 1),
    "append-to-edge": (3936, [do_append(4064, 1), do_append(4064, 2)], 1),
    "append-from-edge": (8000, [do_append(1, 1)], 1),
    "append-large": (5000, [do_append(60000, 1)], 1),
    "append-synced-append": (5000, [do_append(3000, 1), do_fsync, do_append(3000, 2)], 2),
    "create": (None, [do_write(0, 9000, 1)], 2),
    "create-small": (None, [do_write(0, 10, 1)], 1),
    "create-synced-append": (None, [do_write(0, 5000, 1), do_fsync, do_append(5000, 2)], 1),
    "create-pieces": (None, [do_append(2000, 1), do_append(2000, 2), do_append(2000, 3)], 1),
    "truncate-down": (65536, [do_truncate(20000)], 2),
    "truncate-into-first": (30000, [do_truncate(100)], 1),
    "truncate-to-nothing": (30000, [do_truncate(0)], 1),
    "truncate-by-one": (8001, [do_truncate(8000)], 1),
    "truncate-up": (5000, [do_truncate(30000)], 1),
    "truncate-far-up": (5000, [do_truncate(400000)], 1),
    "truncate-rewrite": (20000, [do_truncate(0), do_write(0, 12000, 1)], 2),
    "truncate-down-append": (20000, [do_truncate(6000), do_append(9000, 1)], 2),
    "write-far": (5000, [do_write(200000, 5000, 1)], 1),
    "punch": (200000, [do_fallocate(HOLE, 10000, 150000)], 2),
    "punch-small": (20000, [do_fallocate(HOLE, 100, 300)], 1),
    "punch-write": (100000, [do_fallocate(HOLE, 8000, 80000), do_write(30000, 9000, 1)], 2),
    "zero-range": (60000, [do_fallocate(ZERO_RANGE | KEEP_SIZE, 5000, 40000)], 1),
    "fallocate": (5000, [do_fallocate(0, 0, 100000)], 1),
    "punch-overwrite-truncate": (60000, [do_fallocate(HOLE, 8000, 30000), do_write(9000, 5000, 1),
                                         do_truncate(12000)], 2),
}


# ---- the log, and the states it allows ----

class Event:
    __slots__ = ("op", "off", "len", "mode", "data", "step")

    def __init__(self, op, off, length, mode, data):
        self.op, self.off, self.len, self.mode, self.data = op, off, length, mode, data
        self.step = 0


def read_log(path, start):
    """Events by inode from a place in the log on, each with its place."""
    events = {}
    with open(path, "rb") as f:
        f.seek(start)
        while True:
            at = f.tell()
            head = f.read(48)
            if len(head) < 48:
                return events
            op, ino, off, length, mode, _ = struct.unpack("6Q", head)
            data = f.read(length) if op == WRITE else b""
            e = Event(op, off, length, mode, data)
            e.step = at
            events.setdefault(0 if op == SYNC_ALL else ino, []).append(e)


class Image:
    """A file as pages and a size; enough of a page cache to say what may be on disk."""

    def __init__(self, data):
        self.pages = {i: data[i * PAGE:(i + 1) * PAGE].ljust(PAGE, b"\0")
                      for i in range((len(data) + PAGE - 1) // PAGE)}
        self.size = len(data)

    def copy(self):
        c = Image(b"")
        c.pages, c.size = dict(self.pages), self.size
        return c

    def put(self, off, data):
        pos = 0
        while pos < len(data):
            page, at = divmod(off + pos, PAGE)
            n = min(PAGE - at, len(data) - pos)
            old = self.pages.get(page, bytes(PAGE))
            self.pages[page] = old[:at] + data[pos:pos + n] + old[at + n:]
            pos += n

    def cut(self, size):
        if size < self.size:
            self.pages = {p: d for p, d in self.pages.items() if p * PAGE < size}
            if size % PAGE and size // PAGE in self.pages:
                p = size // PAGE
                self.pages[p] = self.pages[p][:size % PAGE].ljust(PAGE, b"\0")
        self.size = size

    def apply(self, e):
        if e.op == WRITE:
            self.put(e.off, e.data)
            self.size = max(self.size, e.off + e.len)
        elif e.op == TRUNCATE:
            self.cut(e.len)
        elif e.op == FALLOCATE:
            if e.mode & (PUNCH_HOLE | ZERO_RANGE):
                end = min(e.off + e.len, len(self.pages) and (max(self.pages) + 1) * PAGE)
                if end > e.off:
                    self.put(e.off, bytes(end - e.off))
            if not e.mode & KEEP_SIZE:
                self.size = max(self.size, e.off + e.len)

    def bytes(self):
        out = bytearray(self.size)
        for p, d in self.pages.items():
            if p * PAGE < self.size:
                n = min(PAGE, self.size - p * PAGE)
                out[p * PAGE:p * PAGE + n] = d[:n]
        return bytes(out)


def candidates(events):
    """(moment, number of metadata operations that reached the disk, pending pages) of one file."""
    out = []
    for moment in range(len(events) + 1):
        synced = max((i + 1 for i in range(moment) if events[i].op in (SYNC, SYNC_ALL)), default=0)
        pending = events[synced:moment]
        for meta in range(len(pending) + 1):
            out.append((moment, synced, meta))
    return out


def build(before, events, moment, synced, meta, choose, size_rng):
    """The image for one state. choose(page, versions) picks which version of a page is on disk."""
    base = Image(before)
    for e in events[:synced]:
        base.apply(e)
    # Size changes reach the disk in order: those of the first `meta` pending events have.
    now, sized = base.copy(), base.copy()
    versions = {p: [d] for p, d in base.pages.items()}
    pending = events[synced:moment]
    floor = base.size
    for i, e in enumerate(pending):
        touched = set(now.pages)
        old = dict(now.pages)
        now.apply(e)
        if i < meta:
            sized.size = now.size
            if e.op == TRUNCATE:
                floor = min(now.size, floor) if e.len < floor else floor
                # Freed pages can't come back with what they held before.
                for p in list(versions):
                    if p not in now.pages:
                        versions[p] = [bytes(PAGE)]
                    elif now.pages[p] != old.get(p):
                        versions[p] = [now.pages[p]]
                continue
        for p in set(now.pages) | touched:
            d = now.pages.get(p, bytes(PAGE))
            if d != old.get(p, bytes(PAGE)):
                versions.setdefault(p, [bytes(PAGE)])
                # A page behind a cut that is not on disk yet keeps what it has.
                if not (i >= meta and e.op == TRUNCATE):
                    versions[p].append(d)
    image = Image(b"")
    image.pages = {p: choose(p, v) for p, v in versions.items()}
    sizes = [sized.size]
    if sized.size > floor:  # the filesystem below may bring the size up in steps
        first = floor // PAGE + 1
        sizes += [p * PAGE for p in range(first, (sized.size - 1) // PAGE + 1)]
        sizes.append(floor)
    image.size = size_rng.choice(sizes)
    for p in list(image.pages):
        if p * PAGE >= image.size:
            del image.pages[p]
    return image.bytes()


def chooser(kind, arg):
    if kind == "all":
        return lambda p, versions: versions[arg]
    if kind == "bits":
        return lambda p, versions: versions[arg.get(p, 0)]
    r, known = random.Random(arg), {}
    return lambda p, versions: versions[known.setdefault(p, r.randrange(len(versions)))]


def pick_states(before, events, count, rng):
    """Up to `count` different recipes (spot, kind, argument, seed of the size) for a file's state."""
    spots = candidates(events)
    last = [s for s in spots if s[0] == len(events)]
    out, seen = [], set()

    def add(spot, kind, arg):
        recipe = (spot, kind, arg, rng.random())
        key = (spot[0], build_recipe(before, events, recipe))
        if key not in seen:
            seen.add(key)
            out.append(recipe)

    for spot in last + spots:
        for arg in (0, -1):
            add(spot, "all", arg)
    pages = sorted({p for e in events if e.op == WRITE
                    for p in range(e.off // PAGE, (e.off + max(1, e.len) - 1) // PAGE + 1)})
    if len(pages) <= 8:
        subsets = [dict(zip(pages, bits)) for bits in itertools.product((0, -1), repeat=len(pages))]
    else:
        subsets = [{q: (-1 if (q == p) == one else 0) for q in pages} for p in pages for one in (0, 1)]
    rng.shuffle(subsets)
    for bits in subsets:
        add(rng.choice(last), "bits", bits)
    for _ in range(count * 3):
        if len(out) >= count * 2:
            break
        add(rng.choice(spots), "random", rng.random())
    rng.shuffle(out)
    return out[:count]


def build_recipe(before, events, recipe):
    spot, kind, arg, size_seed = recipe
    return build(before, events, *spot, chooser(kind, arg), random.Random(size_seed))


# ---- the volume ----

class Volume:
    def __init__(self, args):
        self.args = args
        self.dir, self.mnt = os.path.join(args.dir, "vol"), os.path.join(args.dir, "mnt")
        self.log = os.path.join(args.dir, "writes")
        self.daemon = None
        os.makedirs(self.dir)
        os.makedirs(self.mnt)

    def init(self):
        subprocess.run([self.args.program, "init", "--managed-key", "store:" + self.args.dir + "/keys",
                        self.dir], check=True, stdout=subprocess.DEVNULL)

    def mount(self, logged=False):
        env = dict(os.environ)
        if logged:
            env.update(LD_PRELOAD=self.args.writelog, WRITELOG=self.log)
        out = open(os.path.join(self.args.dir, "daemon.log"), "a")
        self.daemon = subprocess.Popen([self.args.program, "mount", "-f", self.dir, self.mnt],
                                       env=env, stdout=out, stderr=out)
        end = time.monotonic() + 60
        while not os.path.ismount(self.mnt):
            if self.daemon.poll() is not None or time.monotonic() > end:
                sys.exit("crash: the volume does not mount; see " + out.name)
            time.sleep(0.01)

    def umount(self):
        subprocess.run([self.args.program, "umount", self.mnt], check=True)
        self.daemon.wait()

    def kill(self):
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        subprocess.run(["umount", "-l", self.mnt], check=True)

    def by_inode(self):
        found = {}
        for top, _, files in os.walk(self.dir):
            for f in files:
                p = os.path.join(top, f)
                found[os.lstat(p).st_ino] = p
        return found

    def damage(self):
        import json
        r = subprocess.run([self.args.program, "status", "--json", self.mnt], check=True,
                           capture_output=True, text=True)
        return json.loads(r.stdout)["counters"]["damage"]


class File:
    def __init__(self, work, index, path):
        self.work, self.path, self.index = work, path, index
        self.ino = None
        self.before = b""       # backing content before
        self.versions = []      # plaintext after each step, the first one synced
        self.marks = []         # place in the log at the start of each step
        self.synced_at = 0      # the version a state has to keep at least
        self.reached = 0        # and the last one it may show
        self.spot = None
        self.got = b""


def make_files(v, total):
    shares = sum(w[2] for w in WORKLOADS.values())
    files = []
    for name, (length, _, share) in WORKLOADS.items():
        os.mkdir(os.path.join(v.mnt, name))
        for i in range(max(8, total * share // shares)):
            f = File(name, i, os.path.join(v.mnt, name, f"f{i}"))
            if length is not None:
                with open(f.path, "wb") as out:
                    out.write(text((name, i).__repr__(), length))
                    out.flush()
                    os.fsync(out.fileno())
            f.versions = [text((name, i).__repr__(), length or 0)]
            files.append(f)
    return files


def change(v, f):
    def mark():
        return os.path.getsize(v.log)
    f.marks = [mark()]
    fd = os.open(f.path, os.O_RDWR | os.O_CREAT, 0o644)
    f.ino = os.fstat(fd).st_ino
    for step in WORKLOADS[f.work][1]:
        f.versions.append(step(fd, f.versions[-1]))
        f.marks.append(mark())
    os.close(fd)


def put_state(f, events, spot, data, backing):
    moment, _, _ = spot
    f.spot = spot
    steps = WORKLOADS[f.work][1]
    place = events[moment - 1].step if moment else f.marks[0] - 1
    # Steps that had begun by then may show; an fsync that had returned binds.
    f.reached = sum(1 for m in f.marks[:-1] if m <= place)
    f.synced_at = 0
    for i, step in enumerate(steps):
        done = f.marks[i + 1] <= (events[moment].step if moment < len(events) else 1 << 62)
        if step is do_fsync and done:
            f.synced_at = i + 1
    f.reached = max(f.reached, f.synced_at)
    with open(backing, "r+b") as out:
        out.truncate(0)
        for at in range(0, len(data), PAGE):
            page = data[at:at + PAGE]
            if page.count(0) != len(page):
                out.seek(at)
                out.write(page)
        out.truncate(len(data))


def judge(f, got):
    """What is wrong with a file's content after the crash; empty if nothing."""
    allowed = f.versions[f.synced_at:f.reached + 1]
    low, high = min(map(len, allowed)), max(map(len, allowed))
    if not low <= len(got) <= high:
        return f"size {len(got)}, not between {low} and {high}"
    step = 512
    for at in range(0, len(got), step):
        part = got[at:at + step]
        if any(part == a[at:at + step] for a in allowed):
            continue
        for i, b in enumerate(part):
            p = at + i
            if any(p < len(a) and a[p] == b for a in allowed):
                continue
            if b == 0 and any(p >= len(a) for a in allowed):
                continue  # grown, but not synced
            return f"byte {p} is {b}, in none of the versions"
    return ""


def read_all(path):
    with open(path, "rb", buffering=0) as f:
        parts = []
        while True:
            part = f.read(1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)


def check(files, bad, what, expect=None):
    for f in files:
        if f in bad:
            continue
        try:
            got = read_all(f.path)
            # The size below is a hint until the first writer has mended the file.
            if os.stat(f.path).st_size != len(got) and expect is not None and f.index % 2 == 0:
                bad[f] = f"{what}: stat says {os.stat(f.path).st_size}, read gives {len(got)} bytes"
                continue
            why = judge(f, got) if expect is None else "" if got == expect[f] else "content changed"
        except OSError as e:
            got, why = b"", e.strerror
        if why:
            bad[f] = f"{what}: {why}"
        if expect is None:
            f.got = got


def mend(files, bad, expect):
    """Writes to every second file: the first writer mends it, and nothing else may change."""
    for f in files:
        expect[f] = f.got
        if f in bad or f.index % 2:
            continue
        try:
            fd = os.open(f.path, os.O_RDWR)
            if f.index % 4 == 0:
                os.pwrite(fd, b"tail", len(f.got))
                expect[f] = f.got + b"tail"
            else:
                os.pwrite(fd, b"H", len(f.got) // 2)
                half = len(f.got) // 2
                expect[f] = f.got[:half] + b"H" + f.got[half + 1:]
            os.close(fd)
        except OSError as e:
            bad[f] = f"write after the crash: {e.strerror}"


def directories(v):
    """Directories and long names whose side entries the crash has taken; made before the kill."""
    for i in range(20):
        os.mkdir(os.path.join(v.mnt, f"dir{i}"))
        fd = os.open(os.path.join(v.mnt, f"long{i}" + "x" * 200), os.O_CREAT | os.O_RDWR)
        os.close(fd)


def break_directories(v, before, after):
    broken = 0
    for name in set(after) - set(before):
        p = os.path.join(v.dir, name)
        if os.path.isdir(p) and os.path.islink(p + "/bcfs.id"):
            if broken % 2 == 0:
                os.unlink(p + "/bcfs.id")
            broken += 1
        elif name.startswith("L.") and not os.path.isdir(p) and broken % 2:
            os.unlink(p)
    return broken


def check_directories(v):
    wrong = []
    there = set(os.listdir(v.mnt))
    for i in range(20):
        d = os.path.join(v.mnt, f"dir{i}")
        try:
            if os.listdir(d):
                wrong.append(f"{d}: not empty")
            with open(d + "/new", "w") as f:
                f.write("x")
            long = f"long{i}" + "x" * 200
            p = os.path.join(v.mnt, long)
            if os.path.exists(p) != (long in there):
                wrong.append(f"{long}: listed but not there, or the other way round")
            with open(p, "w") as f:
                f.write("x")
        except OSError as e:
            wrong.append(f"{d}: {e.strerror}")
    return wrong


def one_pass(args, same_session, seed, total):
    rng = random.Random(seed)
    v = Volume(args)
    v.init()
    open(v.log, "w").close()
    v.mount(logged=True)
    files = make_files(v, total)
    if not same_session:
        v.umount()
        v.mount(logged=True)
    paths = v.by_inode()
    for f in files:
        f.before = b""
        if WORKLOADS[f.work][0] is not None:
            with open(paths[os.stat(f.path).st_ino], "rb") as b:
                f.before = b.read()
    start = os.path.getsize(v.log)
    for f in files:
        change(v, f)
    names = os.listdir(v.dir)
    directories(v)
    v.kill()
    break_directories(v, names, os.listdir(v.dir))
    logged = read_log(v.log, start)
    paths = v.by_inode()
    tried, shape = 0, {}
    for f in files:
        shape.setdefault(f.work, []).append(f)
    for work, group in shape.items():
        # A sync of the whole filesystem by another file's turn binds nothing here: leave it out.
        first = [e for e in logged.get(group[0].ino, []) if e.op != SYNC_ALL]
        picks = pick_states(group[0].before, first, len(group), rng)
        for f, recipe in zip(group, itertools.cycle(picks)):
            events = [e for e in logged.get(f.ino, []) if e.op != SYNC_ALL]
            if len(events) != len(first):  # written in other portions: a recipe of its own
                recipe = pick_states(f.before, events, 1, rng)[0]
            data = build_recipe(f.before, events, recipe)
            put_state(f, events, recipe[0], data, paths[f.ino])
            tried += 1
    bad, expect = {}, {}
    v.mount()
    check(files, bad, "after the crash")
    wrong = check_directories(v)
    mend(files, bad, expect)
    check(files, bad, "after a write", expect)
    v.umount()
    v.mount()
    check(files, bad, "after another mount", expect)
    damage = v.damage()
    v.umount()
    if damage:
        wrong.append(f"status counts {damage} damages")
    return tried, bad, wrong


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--program", required=True)
    p.add_argument("--writelog", required=True, help="the compiled writelog.c")
    p.add_argument("--dir", required=True, help="an empty directory to work in")
    p.add_argument("--states", type=int, default=1500, help="for each of the two passes")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    base, total_bad = args.dir, 0
    for same in (False, True):
        args.dir = os.path.join(base, "same" if same else "new")
        os.makedirs(args.dir)
        start = time.monotonic()
        tried, bad, wrong = one_pass(args, same, args.seed, args.states)
        print(f"content synced in {'the same' if same else 'an earlier'} session: {tried} states, "
              f"{len(bad)} bad, {len(wrong)} bad directories, {time.monotonic() - start:.1f} s", flush=True)
        for f, why in list(bad.items())[:40]:
            print(f"  {f.work} state {f.index} (moment, synced, metadata: {f.spot}): {why}")
        for w in wrong[:20]:
            print(f"  {w}")
        total_bad += len(bad) + len(wrong)
    print(f"{total_bad} bad")
    return 1 if total_bad else 0


if __name__ == "__main__":
    sys.exit(main())
