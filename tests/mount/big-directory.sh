#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
#
# A directory of very many files: made, listed, looked up, renamed, removed.
. "$(dirname "$0")/../lib/common.sh"

count=50000
[ -z "$LONG" ] || count=300000
vol_init
vol_mount
python3 - "$MNT" "$count" <<'PY'
import os, sys
root, count = sys.argv[1], int(sys.argv[2])
d = os.path.join(root, "d")
os.mkdir(d)
fd = os.open(d, os.O_RDONLY)
name = lambda i: f"file number {i}" + ("z" * 180 if i % 50 == 0 else "")
for i in range(count):
    os.close(os.open(name(i), os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=fd))
want = {name(i) for i in range(count)}
got = os.listdir(d)
assert len(got) == count and set(got) == want, (len(got), count)
for i in range(0, count, 97):
    os.stat(name(i), dir_fd=fd)
for i in range(0, count, 50):
    os.rename(name(i), f"renamed {i}", src_dir_fd=fd, dst_dir_fd=fd)
assert sum(n.startswith("renamed") for n in os.listdir(d)) == (count + 49) // 50
PY
vol_remount
[ "$(find "$MNT/d" -type f | wc -l)" = "$count" ] || fail "not all there after a remount"
rm -rf "$MNT/d"
vol_umount
