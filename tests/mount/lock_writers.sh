#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# LONG: 900
# VARIANTS: release asan tsan
#
# Writers at full speed (append, overwrite, shared mappings, new files, fsync) over many locks and unlocks: what was
# acknowledged is there, dirty pages of mappings included, and nothing that was refused. After a remount too.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/lock.sh"

need_root
rounds=8 writers=8
[ -z "$LONG" ] || rounds=200 writers=32
transports=no_io_uring
fuse_uring_on && transports="no_io_uring io_uring"
vol_init
for transport in $transports; do
	vol_mount "$transport"
	mkdir "$MNT/$transport"
	mkfifo "$T/to" "$T/from"
	"$TOOLS/ackwrite" "$MNT/$transport" "$writers" <"$T/to" >"$T/from" &
	writer=$!
	exec {to}>"$T/to" {from}<"$T/from"
	read -r -t 60 line <&"$from" || fail "the writers do not get through"
	[ "$line" = ready ] || fail "$line"
	for round in $(seq "$rounds"); do
		vol_lock
		vol_unlock
		sleep 0.1 # let them write
		kill -0 "$writer" || fail "round $round: $(cat <&"$from")"
	done
	exec {to}>&-
	cat <&"$from" >"$T/result"
	wait "$writer" || fail "$(cat "$T/result")"
	exec {from}>&-
	rm "$T/to" "$T/from"
	cat "$T/result"
	[[ $(cat "$T/result") != *" 0 refused" ]] || fail "nothing was refused"
	! grep not_drained "$LOG/daemon.log" || fail "not drained"
	check_sound
	(cd "$MNT/$transport" && sha256sum ./*) >"$T/sums"
	vol_remount "$transport"
	(cd "$MNT/$transport" && sha256sum --quiet -c "$T/sums") || fail "other bytes after a remount"
	[ "$(status_field session.unclean)" = "[]" ] || fail "the session was left open"
	check_sound
	vol_umount
done
