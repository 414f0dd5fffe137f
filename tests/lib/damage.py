# SPDX-License-Identifier: Apache-2.0
"""damage.py BCFS VOLUME OTHER-VOLUME MOUNTPOINT WORK TURNS STEP

Fills the volume, then changes copies of its backing directory in many ways and looks at each through a
mount. For each file there is what it held; reading it may give that or EIO. For most kinds of damage
the name of the file that has to give EIO is known, too.
"""

import errno
import glob
import json
import os
import random
import shutil
import subprocess
import sys

BCFS, VOLUME, OTHER, MNT, WORK = sys.argv[1:6]
TURNS, STEP = int(sys.argv[6]), int(sys.argv[7])
SECTOR = 4096
SIZES = {"empty": 0, "tiny": 1, "one": 3936, "two": 3937, "three": 9000, "many": 60000, "tail": 3936 + 4064 * 3}
r = random.Random(21)
failures = cases = 0


def fail(text):
    global failures
    failures += 1
    print(f"FAIL: {text}", flush=True)


def bcfs(*args):
    return subprocess.run([BCFS, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)


class Mount:
    def __init__(self, directory, *options):
        self.directory, self.options = directory, options

    def __enter__(self):
        result = bcfs("mount", *self.options, self.directory, MNT)
        if result.returncode:
            raise RuntimeError(f"mount: {result.returncode} {result.stderr}")
        return self

    def status(self):
        return json.loads(bcfs("status", "--json", MNT).stdout)

    def __exit__(self, *_):
        result = bcfs("umount", MNT)
        if result.returncode:
            fail(f"umount: {result.stderr}")


def content(name):
    return random.Random(name).randbytes(SIZES[name]) if SIZES[name] else b""


def fill():
    """Makes the files and finds out which backing file is whose: {name: path below}."""
    below = {}
    with Mount(VOLUME):
        for name in SIZES:
            with open(f"{MNT}/{name}", "wb") as f:
                f.write(content(name))
            os.setxattr(f"{MNT}/{name}", "user.note", b"note of " + name.encode())
            below[name] = os.stat(f"{MNT}/{name}").st_ino
        os.mkdir(f"{MNT}/dir")
        with open(f"{MNT}/dir/inner", "wb") as f:
            f.write(b"inner")
        os.mkdir(f"{MNT}/dir2")
        with open(f"{MNT}/dir2/inner", "wb") as f:
            f.write(b"inner2")
        os.symlink("the target", f"{MNT}/link")
        os.symlink("t" * 3500, f"{MNT}/longlink")
        with open(f"{MNT}/" + "n" * 255, "wb") as f:
            f.write(b"long")
        for name in ("dir", "dir2", "link", "longlink", "n" * 255):
            below[name] = os.lstat(f"{MNT}/{name}").st_ino
    with Mount(OTHER):
        for name in SIZES:
            with open(f"{MNT}/{name}", "wb") as f:
                f.write(content(name)[::-1])
    inodes = {e.stat(follow_symlinks=False).st_ino: e.name for e in os.scandir(VOLUME)}
    paths = {name: inodes.get(ino) for name, ino in below.items()}
    if None in paths.values():
        sys.exit(f"FAIL: inode numbers are not those below, so the test does not know what to damage: {paths}")
    return paths


def observe():
    """{name: bytes, or the name of an errno} for everything that should be there."""
    seen = {}

    def look(name, call):
        try:
            seen[name] = call()
        except OSError as e:
            seen[name] = errno.errorcode[e.errno]

    for name in SIZES:
        look(name, lambda: open(f"{MNT}/{name}", "rb").read())
        look(name + " (xattr)", lambda: os.getxattr(f"{MNT}/{name}", "user.note"))
    look("dir/inner", lambda: open(f"{MNT}/dir/inner", "rb").read())
    look("dir2/inner", lambda: open(f"{MNT}/dir2/inner", "rb").read())
    look("link", lambda: os.fsencode(os.readlink(f"{MNT}/link")))
    look("longlink", lambda: os.fsencode(os.readlink(f"{MNT}/longlink")))
    look("n" * 255, lambda: open(f"{MNT}/" + "n" * 255, "rb").read())
    for name in ("", "dir", "dir2"):
        look(f"(list{name})", lambda: "\n".join(sorted(os.listdir(f"{MNT}/{name}"))).encode())
    # Again in small pieces from the end, which takes other ways through the code.
    for name in SIZES:
        def pieces(name=name):
            fd = os.open(f"{MNT}/{name}", os.O_RDONLY)
            try:
                size = os.fstat(fd).st_size
                out = [os.pread(fd, 1000, at) for at in range(0, size, 1000)][::1]
                return b"".join(out)
            finally:
                os.close(fd)
        look(name + " (pieces)", pieces)
    return seen


def audit_lines(volume):
    try:
        with open(f"/var/log/blobcryptfs/{volume}.log") as f:
            return [json.loads(line) for line in f]
    except FileNotFoundError:
        return []


ERRORS = ("EIO", "ENOENT", "ENODATA")


def case(title, change, must_fail=(), may_vanish=()):
    """change(directory) does the damage. must_fail: what has to give EIO; may_vanish: what may be gone instead,
    and then listing the directory gives EIO at its end."""
    global cases
    cases += 1
    if cases % STEP:
        return
    directory = f"{WORK}/v"
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", VOLUME, directory], check=True)
    change(directory)
    before = len(audit_lines(VOLUME_ID))
    try:
        with Mount(directory) as mount:
            if mount.status()["session"]["unclean"]:
                fail(f"{title}: the session counts as unclean, the test would prove nothing")
            seen = observe()
            damage = mount.status()["counters"]["damage"]
    except RuntimeError as e:
        fail(f"{title}: {e}")
        return
    hit = []
    for name, want in GOOD.items():
        got = seen[name]
        if got == want:
            continue
        base = name.split(" (")[0]
        if isinstance(got, str):
            hit.append(name)
            if got != "EIO" and base not in may_vanish:
                fail(f"{title}: {name} gives {got}")
            if base not in must_fail and base not in may_vanish and not base.startswith("(list"):
                fail(f"{title}: {name} gives {got} though it was not touched")
        elif name.startswith("(list") and may_vanish:
            missing = set(want.decode().split("\n")) - set(got.decode().split("\n"))
            extra = set(got.decode().split("\n")) - set(want.decode().split("\n"))
            if not missing <= {os.path.basename(n) for n in may_vanish} or extra:
                fail(f"{title}: the list lacks {missing}, has {extra}")
        else:
            fail(f"{title}: WRONG DATA: {name} gives {len(got)} bytes, not the {len(want)} it had")
    for name in must_fail:
        if not any(h.split(" (")[0] == name for h in hit):
            fail(f"{title}: {name} was damaged and nothing shows it")
    if may_vanish and not any(name.startswith("(list") for name in hit):
        fail(f"{title}: no listing gives EIO")
    if must_fail or may_vanish:
        if not damage:
            fail(f"{title}: status counts no damage")
        if not any(line["event"] == "damage" for line in audit_lines(VOLUME_ID)[before:]):
            fail(f"{title}: the audit log has no line about it")


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ (1 << r.randrange(8))]))


def cut(path, size):
    os.truncate(path, size)


def relink(path, change):
    """Makes a symlink anew with another target; its times do not matter."""
    target = os.readlink(path)
    os.unlink(path)
    os.symlink(change(target), path)


def change_char(text):
    at = r.randrange(len(text) // 2) # the last characters may have unused bits
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1:]


def copy_sector(source, number, target, to):
    with open(source, "rb") as f:
        f.seek(number * SECTOR)
        data = f.read(SECTOR)
    with open(target, "r+b") as f:
        f.seek(to * SECTOR)
        f.write(data)


def swap(a, b):
    os.rename(a, a + ".x")
    os.rename(b, a)
    os.rename(a + ".x", b)


def content_cases():
    regions = {"nonce": (0, 12), "tag": (12, 28), "meta": (28, 32), "magic": (32, 36), "version": (36, 38),
               "suite": (38, 40), "incompatible flags": (40, 42), "read-only flags": (42, 43), "compatible flags": (43, 44),
               "header zero": (44, 48), "file id": (48, 64), "trunc length": (64, 72), "kept": (72, 96),
               "bindings": (96, 128), "mac room": (128, 160), "payload": (160, 4096)}
    for region, (first, behind) in regions.items():
        for name in ("empty", "tiny", "many"):
            at = r.randrange(first, behind)
            case(f"bit flip in sector 0, {region}, of {name} at {at}", lambda d: flip(f"{d}/{P[name]}", at), [name])
    for number in (1, 7, 14):
        for region, (first, behind) in {"nonce": (0, 12), "tag": (12, 28), "meta": (28, 32), "payload": (32, 4096)}.items():
            at = number * SECTOR + r.randrange(first, behind)
            case(f"bit flip in sector {number}, {region}, of many", lambda d: flip(f"{d}/{P['many']}", at), ["many"])
    for name in ("one", "two", "three", "many", "tail"):
        size = os.stat(f"{VOLUME}/{P[name]}").st_size
        for to in {0, 1, 31, 160, 4095, 4096, 4097, size // 2, size - 4096, size - 4097, size - 1, r.randrange(1, size)}:
            if 0 <= to < size:
                case(f"{name} of {size} cut to {to}", lambda d: cut(f"{d}/{P[name]}", to), [name])
        for more in (1, 100, 4096, 8192, 1 << 20):
            case(f"{name} extended by {more}", lambda d: cut(f"{d}/{P[name]}", size + more), [name])
    for name, number in (("tiny", 0), ("many", 0), ("many", 3), ("many", 14), ("two", 1)):
        case(f"sector {number} of {name} zeroed",
             lambda d: copy_sector("/dev/zero", 0, f"{d}/{P[name]}", number), [name])
    for a, b in ((1, 2), (3, 13), (0, 1)):
        case(f"sector {a} of many copied over sector {b}",
             lambda d: copy_sector(f"{VOLUME}/{P['many']}", a, f"{d}/{P['many']}", b), ["many"])
    case("sector 1 of three in many", lambda d: copy_sector(f"{VOLUME}/{P['three']}", 1, f"{d}/{P['many']}", 1), ["many"])
    case("sector 0 of three in many", lambda d: copy_sector(f"{VOLUME}/{P['three']}", 0, f"{d}/{P['many']}", 0), ["many"])
    others = sorted((e.path for e in os.scandir(OTHER) if e.is_file() and "." not in e.name), key=os.path.getsize)
    case("a file of another volume", lambda d: shutil.copyfile(others[-1], f"{d}/{P['many']}"), ["many"])
    case("a sector of another volume", lambda d: copy_sector(others[-1], 1, f"{d}/{P['many']}", 1), ["many"])
    case("foreign bytes appended", lambda d: open(f"{d}/{P['many']}", "ab").write(b"xx"), ["many"])
    case("plain text in the place of a file", lambda d: open(f"{d}/{P['many']}", "wb").write(b"hello " * 5000), ["many"])


def name_cases():
    for _ in range(3):
        case("a name changed", lambda d: os.rename(f"{d}/{P['three']}", f"{d}/{change_char(P['three'])}"), may_vanish=["three"])
    case("a name cut", lambda d: os.rename(f"{d}/{P['three']}", f"{d}/{P['three'][:-4]}"), may_vanish=["three"])
    case("a name extended", lambda d: os.rename(f"{d}/{P['three']}", f"{d}/{P['three']}AAAA"), may_vanish=["three"])
    case("a file of another directory",
         lambda d: os.rename(f"{d}/{P['three']}", f"{d}/{P['dir']}/{P['three']}"), may_vanish=["three"])
    case("an entry with a foreign name", lambda d: open(f"{d}/AAAA", "w").close(), may_vanish=["(none)"])
    long_link = glob.glob(f"{VOLUME}/N.*")[0].rsplit("/", 1)[1]
    case("a long name's link changed", lambda d: relink(f"{d}/{long_link}", change_char), may_vanish=["n" * 255])
    case("a long name's link removed", lambda d: os.unlink(f"{d}/{long_link}"), may_vanish=["n" * 255])


def other_cases():
    case("bcfs.id changed", lambda d: relink(f"{d}/{P['dir']}/bcfs.id", change_char), ["dir/inner"])
    case("bcfs.id removed", lambda d: os.unlink(f"{d}/{P['dir']}/bcfs.id"), ["dir/inner"])
    case("bcfs.id of another directory", lambda d: relink(
        f"{d}/{P['dir']}/bcfs.id", lambda _: os.readlink(f"{d}/{P['dir2']}/bcfs.id")), may_vanish=["dir/inner", "dir2/inner"])
    case("bcfs.id a directory", lambda d: (os.unlink(f"{d}/{P['dir']}/bcfs.id"), os.mkdir(f"{d}/{P['dir']}/bcfs.id")), ["dir/inner"])
    case("a link's target changed", lambda d: relink(f"{d}/{P['link']}", change_char), ["link"])
    case("a link's target cut", lambda d: relink(f"{d}/{P['link']}", lambda t: t[:-4]), ["link"])
    case("a link's target foreign", lambda d: relink(f"{d}/{P['link']}", lambda t: "/etc/passwd"), ["link"])
    case("a long link's target changed", lambda d: relink(f"{d}/{P['longlink']}", change_char), ["longlink"])
    for path in sorted(glob.glob(f"{VOLUME}/S.*")):
        piece = path.rsplit("/", 1)[1]
        case(f"{piece} removed", lambda d: os.unlink(f"{d}/{piece}"), ["longlink"])
        case(f"{piece} changed", lambda d: relink(f"{d}/{piece}", change_char), ["longlink"])

    def xattr(d, name, change):
        path = f"{d}/{P[name]}"
        for attr in os.listxattr(path):
            if attr.startswith("user.bcfs."):
                os.setxattr(path, attr, change(os.getxattr(path, attr)))

    def flip_value(value):
        at = r.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1:]

    for name in ("tiny", "many"):
        case(f"xattr of {name} changed", lambda d: xattr(d, name, flip_value), [name])
        case(f"xattr of {name} cut", lambda d: xattr(d, name, lambda v: v[:-1]), [name])
        case(f"xattr of {name} emptied", lambda d: xattr(d, name, lambda v: b""), [name])
    case("xattr of another file", lambda d: xattr(d, "tiny", lambda _: os.getxattr(
        f"{VOLUME}/{P['many']}", [a for a in os.listxattr(f"{VOLUME}/{P['many']}") if a.startswith("user.bcfs.")][0])), ["tiny"])


os.makedirs(WORK)
P = fill()
VOLUME_ID = json.load(open(f"{VOLUME}/blobcryptfs.json"))["volume"]
with Mount(VOLUME):
    GOOD = observe()
if any(isinstance(v, str) for v in GOOD.values()) or any(GOOD[n] != content(n) for n in SIZES):
    sys.exit(f"FAIL: before any damage: { {n: v for n, v in GOOD.items() if isinstance(v, str)} }")
# Nothing changed: nothing found.
for _ in range(STEP):
    case("no damage", lambda d: None)
for _ in range(TURNS):
    content_cases()
    name_cases()
    other_cases()
print(f"{cases // STEP} kinds of damage, {failures} failures")
sys.exit(1 if failures else 0)
