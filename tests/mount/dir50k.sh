#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# LONG: 900
# BACKING: ext4 xfs
# VARIANTS: release tsan
#
# One directory with very many entries: make, list, stat, delete while it is being listed.
. "$(dirname "$0")/../lib/common.sh"

need_root
count=20000
[ -z "$LONG" ] || count=200000
if sanitized; then count=$((count / 10)); fi
use_backing 6G
vol_init
vol_mount
python3 "$SRC/tests/lib/many.py" make "$MNT/d" "$count"
vol_remount
python3 "$SRC/tests/lib/many.py" check "$MNT/d" "$count"
python3 "$SRC/tests/lib/many.py" shrink "$MNT/d" "$count"
vol_umount
