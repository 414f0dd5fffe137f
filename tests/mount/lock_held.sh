#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
# VARIANTS: release asan tsan
#
# Whatever is open, mapped or cached when a volume is locked is refused then, for root and for a user, and works again,
# through the same descriptors, mappings and working directories, when it is unlocked; twice, and on both transports.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/lock.sh"

need_root
transports=no_io_uring
fuse_uring_on && transports="no_io_uring io_uring"
vol_init
chmod 755 "$T"
# say LINE [ANSWER]: to both processes; both have to answer
say()
{
	local n answer
	for n in 0 1; do
		[ "$1" = none ] || echo "$1" >&"${to[n]}"
	done
	for n in 0 1; do
		read -r -t 60 answer <&"${from[n]}" || fail "no answer to $1"
		[[ $answer == ${2:-ok}* ]] || fail "$answer"
	done
}
for options in $transports no_io_uring,direct_io; do
	vol_mount "$options"
	mkdir "$MNT/root-$options" "$MNT/user-$options"
	chown 12345 "$MNT/user-$options"
	mkfifo "$T/to.0" "$T/to.1" "$T/from.0" "$T/from.1"
	"$TOOLS/held" "$MNT/root-$options" ENOKEY <"$T/to.0" >"$T/from.0" &
	as_user "$TOOLS/held" "$MNT/user-$options" ENOKEY <"$T/to.1" >"$T/from.1" &
	exec {a}>"$T/to.0" {b}>"$T/to.1" {c}<"$T/from.0" {d}<"$T/from.1"
	to=("$a" "$b") from=("$c" "$d")
	say none ready
	for round in 1 2; do
		vol_lock
		say locked
		stat "$MNT" >/dev/null || fail "stat of the mount point, round $round"
		df "$MNT" >/dev/null || fail "statfs of the mount point"
		vol_unlock
		say open
	done
	exec {a}>&- {b}>&- {c}>&- {d}>&-
	rm "$T"/to.? "$T"/from.?
	check_sound
	vol_umount
done
