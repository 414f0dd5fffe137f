#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
#
# The same over io_uring, where the kernel has it: a tree round trip, fio with verification, an
# unmount under load, and a daemon that is killed.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/fio.sh"

need_root
fuse_uring_on || skip "FUSE over io_uring can't be had: it needs Linux 6.14, its switch on, and kernel.io_uring_disabled 0"
vol_init
vol_mount io_uring
[ "$(status_field transport.in_use)" = io_uring ] ||
	fail "the transport is $(status_field transport.in_use): $(status_field transport.reason)"
mkdir "$T/source"
python3 "$SRC/tests/lib/make_tree.py" "$T/source" 1000 4
cp -a "$T/source" "$MNT/tree"
same_tree "$T/source" "$MNT/tree"
fio_write
vol_remount io_uring
[ "$(status_field transport.in_use)" = io_uring ] || fail "not io_uring after a remount"
fio_verify
same_tree "$T/source" "$MNT/tree"
check_sound
dd if=/dev/urandom of="$MNT/load" bs=64k count=2000 status=none &
load=$!
loaded()
{
	[ "$(stat -c %s "$MNT/load")" -gt 1000000 ]
}
until_true 30 loaded || fail "nothing is written"
kill -9 "$DAEMON"
wait "$load" || true
wait "$DAEMON" || true
umount -l "$MNT"
vol_mount no_io_uring
[ "$(status_field transport.in_use)" = /dev/fuse ] || fail "io_uring in spite of no_io_uring"
same_tree "$T/source" "$MNT/tree"
cat "$MNT/load" >/dev/null
check_sound
vol_umount

# Two signals end it at once, in the middle of writes, and that is no error.
vol_mount io_uring
(
	exec 9>>"$MNT/appended"
	: >"$T/writing"
	while echo x >&9; do :; done
) 2>/dev/null &
writer=$!
until_true 30 test -e "$T/writing" || fail "the writer does not start"
kill -INT "$DAEMON"
kill -TERM "$DAEMON" 2>/dev/null || true
rc=0
wait "$DAEMON" || rc=$?
[ "$rc" = 0 ] || fail "after two signals the daemon ended with $rc"
wait "$writer" || true
umount -l "$MNT" 2>/dev/null || true
