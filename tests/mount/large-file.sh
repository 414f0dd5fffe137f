#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# BACKING: ext4 xfs
#
# Files beyond 4 GiB and sparse files of terabytes.
. "$(dirname "$0")/../lib/common.sh"

use_backing 2G
vol_init
vol_mount
python3 - "$MNT/sparse" <<'PY'
import os, random, sys
r = random.Random(5)
limit = 4 << 40
spots = sorted({0, 4095, (4 << 30) - 7, (4 << 30) + 5, 2**32 * 4064 // 4096, limit - 5000} | {r.randrange(limit) for _ in range(200)})
blocks = {p: r.randbytes(r.choice([1, 100, 4064, 20000])) for p in spots}
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
order = list(spots)
r.shuffle(order)
for p in order:
    os.pwrite(fd, blocks[p], p)
model = {}
def check():
    for p in spots:
        want = bytearray(len(blocks[p]))
        for q in order:
            for_len = len(blocks[q])
            lo, hi = max(p, q), min(p + len(want), q + for_len)
            if lo < hi:
                want[lo - p:hi - p] = blocks[q][lo - q:hi - q]
        got = os.pread(fd, len(want), p)
        assert got == bytes(want), f"at {p}"
    for _ in range(200):
        p = r.randrange(limit)
        if all(not (q - 40 <= p < q + len(blocks[q]) + 40) for q in spots):
            assert os.pread(fd, 32, p) == bytes(32), f"no zeros at {p}"
check()
size = max(p + len(b) for p, b in blocks.items())
assert os.fstat(fd).st_size == size
assert os.fstat(fd).st_blocks * 512 < 100 << 20, "not sparse"
os.fsync(fd)
os.close(fd)
fd = os.open(sys.argv[1], os.O_RDWR)
check()
os.ftruncate(fd, 5 << 30)
assert os.fstat(fd).st_size == 5 << 30
assert os.pread(fd, 10, (5 << 30) - 5) == bytes(5)
PY
sum=$(head -c 6000000 "$MNT/sparse" | sha256sum)
vol_remount
[ "$(head -c 6000000 "$MNT/sparse" | sha256sum)" = "$sum" ] || fail "other content after a remount"
[ "$(stat -c %s "$MNT/sparse")" = $((5 << 30)) ] || fail "other size after a remount"
truncate -s 0 "$MNT/sparse"
vol_umount
