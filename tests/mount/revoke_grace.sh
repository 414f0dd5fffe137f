#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# LONG: 400
#
# A vault that can't be reached, is throttled, broken or unsure says nothing about the key: the mount goes on within its
# lease, reading and writing. Status and lock are at once all the time, also while the vault hangs.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
emu_start
cmk_mount 600

reads()
{
	[ "$(cat "$MNT/file")" = "$MARK" ] && [ "$(dd if=/dev/fd/9 iflag=fullblock status=none)" = "$MARK" ] && gate_is GRACE
}

# storm FAULT...: in grace, and data are read and written all the time
storm()
{
	local lines=0
	emu fault add v1 'get,unwrapkey' "$@" >/dev/null
	until_true 60 gate_is GRACE none || fail "$*: no grace: $(show_gate)"
	for lines in 1 2 3 4 5; do
		reads || fail "$*: not readable in grace: $(show_gate)"
		echo "$lines" >>"$MNT/log"
	done
	[ "$(status_field access.lease_left_seconds)" -le 600 ] || fail "lease left: $(status_field access.lease_left_seconds)"
	emu fault clear >/dev/null
	until_true 60 gate_is OPEN none || fail "$*: grace does not end: $(show_gate)"
}

storm throttle
storm status --status 503
storm akv10046
storm reset
storms=4
if [ -n "$LONG" ]; then
	storm throttle --retry-after 1
	storm status --status 500
	storm not-yet-valid
	storm garbage
	storm oversize-body
	storm truncated
	storm hang
	storms=11
fi
[ "$(status_field access.locks)" = 0 ] || fail "it has locked: $(show_gate)"
[ "$(wc -l <"$MNT/log")" = $((5 * storms)) ] || fail "lines are missing"
audited grace grace_over

# A vault that does not answer at all: status and lock don't wait for it, and key operations don't stand in the way.
emu fault add v1 '*' hang >/dev/null
"$BCFS" key verify "$MNT" >"$LOG/verify.log" 2>&1 &
verify=$!
for _ in $(seq 20); do
	timeout 20 "$BCFS" status "$MNT" >/dev/null || fail "the status waits for the vault"
done
timeout 20 "$BCFS" lock "$MNT" || fail "lock waits for the vault"
gate_is LOCKED manual || fail "$(show_gate)"
refused "$NO" cat "$MNT/file"
emu fault clear >/dev/null
wait "$verify" || true
expect 0 "$BCFS" unlock "$MNT"
heals
exec 9<&-
check_sound
vol_umount
