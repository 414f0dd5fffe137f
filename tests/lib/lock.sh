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

