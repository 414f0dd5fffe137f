#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 240
# BACKING: ext4 xfs
# SANITIZERS: asan tsan
#
# A tree comes back as it was: contents, names, modes, owners, times, links, ACLs, xattrs; also after a remount.
. "$(dirname "$0")/../lib/common.sh"

need rsync
use_backing
vol_init
vol_mount
files=50000
[ "$BACKING" = ext4 ] || files=5000
sanitized && files=1500
mkdir "$T/tree"
python3 - "$T/tree" "$files" <<'PY'
import os, random, sys
root, count = sys.argv[1], int(sys.argv[2])
r = random.Random(1)
sizes = [0, 1, 100, 3935, 3936, 3937, 4095, 4096, 8000, 8001, 20000]
folders = [root]
block = r.randbytes(70000)
for i in range(count):
    if i % 100 == 0:
        folders.append(os.path.join(r.choice(folders[-50:]), f"folder {i}" + "x" * r.choice([0, 0, 200])))
        os.makedirs(folders[-1])
    name = r.choice(["f%d", "\u00e4\u00f6 %d", "a\nb%d", "-%d", "long%d" + "y" * 230, ".h%d"]) % i
    p = os.path.join(folders[-1], name)
    kind = i % 25
    if kind == 20:
        os.symlink("target" * r.randrange(1, 600), p)
    elif kind == 21:
        os.mkfifo(p)
    elif kind == 22:
        os.mknod(p, 0o20600, os.makedev(1, 3))
    elif kind == 23 and i > 100:
        os.link(last, p)
    else:
        size = r.choice(sizes) if i % 200 else 3000000
        with open(p, "wb") as f:
            f.write((block * (size // 70000 + 1))[i % 100:][:size])
            if i % 500 == 7:
                f.truncate(50 << 20)
        os.chmod(p, r.choice([0o644, 0o600, 0o755, 0o4755, 0o2711, 0o400]))
        if kind == 5:
            os.setxattr(p, "user.note " + "n" * (i % 200), block[:i % 1500])
            os.setxattr(p, "trusted.t", b"\0\1\2")
        last = p
    if kind != 23:
        if i % 7 == 0:
            os.chown(p, i, i + 1, follow_symlinks=False)
            if kind not in (20, 21, 22, 5):
                os.chmod(p, 0o6755)
        os.utime(p, ns=(i * 10**14 + 123456789, i * 10**13 + 987654321), follow_symlinks=False)
for i, d in enumerate(reversed(folders[1:])):
    os.setxattr(d, "user.dir", d.encode()[-200:])
    os.utime(d, ns=(10**18 + i, 10**18 + 2 * i))
PY
if command -v setfacl >/dev/null; then
	find "$T/tree" -name '*0' -type f -print0 | head -z -n 200 | xargs -0r setfacl -m u:1234:rw,g:77:r
	find "$T/tree" -name '*00' -type d -print0 | xargs -0r setfacl -d -m u:1234:rwx
fi
cp -a "$T/tree" "$MNT/copy"
same_tree "$T/tree" "$MNT/copy"
vol_remount
same_tree "$T/tree" "$MNT/copy"
[ "$(status_field "$MNT" .counters.damage)" = 0 ] || fail "damage was counted"
rsync -aHAX "$MNT/copy/" "$MNT/again/"
same_tree "$T/tree" "$MNT/again"
rm -rf "$MNT/copy" "$MNT/again"
[ -z "$(ls -A "$MNT")" ] || fail "something is left"
vol_umount
left=$(find "$VOL" -mindepth 1 ! -name 'blobcryptfs.*' | head)
[ -z "$left" ] || fail "left below: $left"
