#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# A lock while the backing store hangs: the volume lies on another mount, whose daemon is stopped. The lock comes through
# all the same, keys are wiped, nobody is told anything when the store answers again, before or after the unlock; and
# what was acknowledged is there. Then a daemon that is killed in the middle of a lock.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/lock.sh"

need_root
transports=no_io_uring
fuse_uring_on && transports="no_io_uring io_uring"

# What the volume lies on
vol_init
vol_mount direct_io,no_io_uring
store=$DAEMON below=$MNT
VOL=$T/plain MNT=$T/upper KEYS=$T/upper-keys
on_exit "kill -CONT $store 2>/dev/null"
vol_init
cp -a "$VOL" "$below/vol" # init refuses to make one there
VOL=$below/vol

# hangs PID: it waits for the filesystem
hangs()
{
	grep -qE "fuse|folio" "/proc/$1/stack"
}
for transport in $transports; do
	vol_mount "$transport"
	head -c 3000000 /dev/urandom >"$T/data"
	cp "$T/data" "$MNT/file"
	cp "$T/data" "$MNT/other"
	: >"$MNT/grows"
	vol_remount "$transport" # nothing is cached
	exec 5<"$MNT/file" 6>>"$MNT/grows" 7<"$MNT/other"
	cat <&7 >/dev/null
	[ "$("$SRC/tests/lib/cached.py" 7)" -gt 100 ] || fail "nothing is cached"
	kill -STOP "$store"
	head -c 500000 <&5 >"$T/late.read" 2>"$T/late.err" &
	reader=$!
	cat "$T/data" >&6 2>"$T/late.write" &
	writer=$!
	ls "$MNT/nothing" >/dev/null 2>&1 &
	lister=$!
	until_true 30 hangs "$reader" || fail "the reader does not hang"
	until_true 30 hangs "$writer" || fail "the writer does not hang"
	began=$SECONDS
	vol_lock
	[ $((SECONDS - began)) -lt 30 ] || fail "the lock took $((SECONDS - began)) s"
	report=$("$BCFS" revocation-report "$MNT")
	grep -q 'hang' <<<"$report" || fail "the report does not say that requests hang: $report"
	# the pages of other files are gone too; without asking the daemon, all of whose threads may hang
	cached=$("$SRC/tests/lib/cached.py" 7)
	[ "$cached" = 0 ] || fail "$cached pages are cached while the store hangs"
	kill -CONT "$store"
	wait "$reader" && fail "a read that hung over the lock got through"
	grep -q 'Required key not available' "$T/late.err" || fail "the reader: $(cat "$T/late.err")"
	[ ! -s "$T/late.read" ] || [ "$(stat -c %s "$T/late.read")" -lt 500000 ] || fail "the reader has all of it"
	wait "$writer" && fail "a write that hung over the lock got through"
	wait "$lister" && fail "a lookup that hung over the lock got through"
	refused head -c 10 <&5
	refused head -c 10 <&7
	vol_unlock
	cmp -n 500000 "$MNT/file" "$T/data" || fail "file is wrong after unlock"
	# what of the write was done is whole sectors of it
	size=$(stat -c %s "$MNT/grows")
	cmp -n "$size" "$MNT/grows" "$T/data" || fail "grows is wrong after unlock ($size bytes)"
	cat "$T/data" >&6
	[ "$(stat -c %s "$MNT/grows")" = $((size + 3000000)) ] || fail "the file does not grow after unlock"
	exec 5<&- 6>&- 7<&-
	check_sound
	rm "$MNT/grows"
	vol_remount "$transport"
	cmp "$MNT/other" "$T/data" || fail "other is wrong after a remount"
	check_sound
	vol_umount
done

# Killed in the middle of a lock
vol_mount no_io_uring
cp "$T/data" "$MNT/killed"
printf acknowledged >>"$MNT/other"
vol_remount no_io_uring
exec 5<"$MNT/killed" 6>>"$MNT/other"
printf ' too' >&6
kill -STOP "$store"
head -c 500000 <&5 >/dev/null 2>&1 &
reader=$!
until_true 30 hangs "$reader" || fail "the reader does not hang"
"$BCFS" lock "$MNT" >>"$LOG/lock.log" 2>&1 &
locker=$!
locking()
{
	[ "$(status_field gate)" = LOCKING ]
}
until_true 30 locking || fail "it is $(status_field gate)"
kill -9 "$DAEMON"
kill -CONT "$store"
wait "$DAEMON" || true
wait "$reader" || true
! wait "$locker" || fail "lock: exit code 0 though the daemon was killed"
exec 5<&- 6>&-
umount -l "$MNT"
vol_mount no_io_uring
[ "$(status_field gate)" = OPEN ] || fail "after kill -9: $(status_field gate)"
cmp "$MNT/killed" "$T/data" || fail "a file is wrong after kill -9"
[ "$(tail -c 16 "$MNT/other")" = "acknowledged too" ] || fail "an acknowledged write is lost"
check_sound
vol_umount
