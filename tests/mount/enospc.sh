#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# BACKING: ext4 xfs
# VARIANTS: release asan
#
# The disk below gets full: writers get ENOSPC, everything that was acknowledged can be read, space
# that is freed can be used, and all of it is there after a remount.
. "$(dirname "$0")/../lib/common.sh"

# There may be no room for the header of a file that was made and not written: then the daemon says so
# and leaves the session open.
umount_full()
{
	local rc=0
	"$BCFS" umount "$MNT" >>"$LOG/umount.log" 2>&1 || fail "umount: $(tail -n 3 "$LOG/umount.log")"
	wait "$DAEMON" || rc=$?
	[ "$rc" = 0 ] || { [ "$rc" = 12 ] && grep -q 'Not everything could be brought to disk' "$LOG/daemon.log"; } ||
		fail "the daemon ended with $rc: $(tail -n 3 "$LOG/daemon.log")"
}

need_root
if [ "$BACKING" = xfs ]; then use_backing 320M; else use_backing 64M; fi
vol_init
vol_mount
python3 "$SRC/tests/lib/fill.py" fill "$MNT" "$T/model"
python3 "$SRC/tests/lib/fill.py" check "$MNT" "$T/model"
umount_full
vol_mount
python3 "$SRC/tests/lib/fill.py" check "$MNT" "$T/model"
python3 "$SRC/tests/lib/fill.py" churn "$MNT" "$T/model"
python3 "$SRC/tests/lib/fill.py" check "$MNT" "$T/model"
check_sound
umount_full
vol_mount
python3 "$SRC/tests/lib/fill.py" check "$MNT" "$T/model"
rm -rf "${MNT:?}"/*
head -c 20M /dev/urandom >"$T/data"
cp "$T/data" "$MNT/data"
cmp "$T/data" "$MNT/data"
check_sound
vol_umount
