# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the tests of locked volumes.

# vol_lock, vol_unlock: return when it is so
vol_lock()
{
	"$BCFS" lock "$MNT" >>"$LOG/lock.log" 2>&1 || fail "lock: exit code $?: $(tail -n 3 "$LOG/lock.log")"
	[ "$(status_field gate)" = LOCKED ] || fail "the gate is $(status_field gate) after lock"
}

vol_unlock()
{
	"$BCFS" unlock "$MNT" >>"$LOG/lock.log" 2>&1 || fail "unlock: exit code $?: $(tail -n 3 "$LOG/lock.log")"
	[ "$(status_field gate)" = OPEN ] || fail "the gate is $(status_field gate) after unlock"
}

# refused COMMAND...: it fails because there is no key
refused()
{
	local out rc=0
	out=$(LC_ALL=C "$@" 2>&1 >/dev/null) || rc=$?
	[ "$rc" != 0 ] || fail "this works while locked: $*"
	[[ $out == *"Required key not available"* ]] || fail "while locked: $*: $out"
}

# fuse_uring_on: turns FUSE over io_uring on in the kernel until the test ends; false if it can't be had
fuse_uring_on()
{
	local switch=/sys/module/fuse/parameters/enable_uring was
	[ -e "$switch" ] && [ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)" = 0 ] || return 1
	was=$(cat "$switch")
	[ "$was" = Y ] && return
	{ echo Y >"$switch"; } 2>/dev/null || return 1
	on_exit "echo $was >$switch"
}
