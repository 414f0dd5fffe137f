#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# VARIANTS: release asan tsan
#
# A volume in use: mounted once only, umount says EBUSY, lazy unmount, SIGTERM, a second SIGTERM; the
# daemon always ends with everything on disk and exit code 0.
. "$(dirname "$0")/../lib/common.sh"

need_root
vol_init
vol_mount
mkdir "$T/mnt2"
echo text >"$MNT/file"

# Mounted already: refused, with who has it.
expect 11 "$BCFS" mount "$VOL" "$T/mnt2"
[[ $OUT == *"$MNT"* && $OUT == *"process $DAEMON"* ]] || fail "a second mount: $OUT"
mountpoint -q "$T/mnt2" && fail "mounted twice"
expect 10 "$BCFS" mount "$VOL" "$MNT"
ln -s "$VOL" "$T/alias"
expect 11 "$BCFS" mount "$T/alias/." "$T/mnt2"
expect 11 "$BCFS" mount -o ro "$VOL" "$T/mnt2"
echo again >>"$MNT/file" || fail "the first mount has suffered"

# Busy.
exec 9>>"$MNT/file"
expect 18 "$BCFS" umount "$MNT"
[[ $OUT == *"$MNT is in use"* ]] || fail "umount while in use: $OUT"
LC_ALL=C umount "$MNT" 2>"$T/err" && fail "umount(8) succeeded while in use"
grep -q busy "$T/err" || fail "umount(8): $(cat "$T/err")"
echo still >&9 || fail "the open file has suffered"

# Lazily: out of sight at once, at work until the last user is gone.
expect 0 "$BCFS" umount --lazy "$MNT"
mountpoint -q "$MNT" && fail "still to be seen after a lazy unmount"
echo lazy >&9 || fail "the open file does not work after a lazy unmount"
kill -0 "$DAEMON" || fail "the daemon has ended though a file is open"
exec 9>&-
rc=0
wait "$DAEMON" || rc=$?
[ "$rc" = 0 ] || fail "after a lazy unmount the daemon ended with $rc"
vol_mount
[ "$(cat "$MNT/file")" = $'text\nagain\nstill\nlazy' ] || fail "the file is: $(cat "$MNT/file")"
[ "$(status_field session.unclean)" = "[]" ] || fail "a clean session counts as unclean"

# SIGTERM: a clean end, also while somebody writes.
dd if=/dev/zero of="$MNT/zeros" bs=64k count=64 status=none
kill -TERM "$DAEMON"
rc=0
wait "$DAEMON" || rc=$?
[ "$rc" = 0 ] || fail "after SIGTERM the daemon ended with $rc"
mountpoint -q "$MNT" && fail "still mounted after SIGTERM"
vol_mount
[ "$(stat -c %s "$MNT/zeros")" = 4194304 ] || fail "the file is not whole"
[ "$(status_field session.unclean)" = "[]" ] || fail "SIGTERM left an unclean session"
(
	cd "$MNT"
	exec 9>>file
	: >"$T/writing"
	while echo x >&9; do :; done
) 2>/dev/null &
writer=$!
# not before it has the file open: it would write beside the mount, for ever
until_true 30 test -e "$T/writing" || fail "the writer does not start"
kill -INT "$DAEMON"
kill -TERM "$DAEMON" 2>/dev/null || true # the second one means now
rc=0
wait "$DAEMON" || rc=$?
[ "$rc" = 0 ] || fail "after two signals the daemon ended with $rc"
wait "$writer" || true
umount -l "$MNT" 2>/dev/null || true

# In the background: mount returns when it answers, and umount when the daemon is gone.
expect 0 "$BCFS" mount "$VOL" "$MNT"
[ -n "$(cat "$MNT/file")" ] || fail "does not answer"
daemon=$(status_field pid)
[ "$(readlink "/proc/$daemon/cwd")" = / ] || fail "the daemon keeps $(readlink "/proc/$daemon/cwd") in use"
expect 0 "$BCFS" umount "$MNT"
kill -0 "$daemon" 2>/dev/null && [ "$(ps -o stat= -p "$daemon")" != Z ] && fail "the daemon still runs after umount"
expect 17 "$BCFS" umount "$MNT"
[[ $OUT == *"$MNT"* ]] || fail "umount of nothing: $OUT"

# A daemon that was killed leaves a mount that says so, and it can be taken away.
vol_mount
kill -9 "$DAEMON"
wait "$DAEMON" || true
expect 10 "$BCFS" mount "$VOL" "$MNT"
[[ $OUT == *"$MNT"*died* ]] || fail "a mount over a dead one: $OUT"
expect 0 "$BCFS" umount "$MNT"
vol_mount
check_sound
vol_umount
