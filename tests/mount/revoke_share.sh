#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# Mounts under one key share one prober: together they ask the vault as often as one, one's denial locks all of them at
# once, and one's death stops nobody. Another key is asked for by itself.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
emu_start
MOUNTS=4
for i in $(seq $MOUNTS); do
	VOL=$T/vol$i MNT=$T/mnt$i
	vol_init
	expect 0 "$BCFS" key set --cloud emulator --probe-interval 2 "$(emu_uri)" "$VOL"
	vol_mount
	echo "$MARK" >"$MNT/file"
	[ "$i" != 1 ] || first=$DAEMON
done

all_are()
{
	local i
	for i in $(seq $MOUNTS); do
		gate_is "$1" "$2" "$T/mnt$i" || return 1
	done
}

# Counted by the emulator until a mount has taken over 6 of the others' answers; with a prober each it would be
# four times as many unwraps as rounds.
mark=$(emu mark)
before=$(status_field access.probes_shared "$T/mnt1")
own=$(status_field access.probes "$T/mnt1")
rounds()
{
	local now
	now=$(($(status_field access.probes_shared "$T/mnt1") + $(status_field access.probes "$T/mnt1")))
	[ "$now" -ge $((before + own + 8)) ]
}
until_true 60 rounds || fail "mount 1 has heard of too few probes"
unwraps=$(emu count --after "$mark" --target v1 --op unwrapkey)
heard=$(($(status_field access.probes_shared "$T/mnt1") + $(status_field access.probes "$T/mnt1") - before - own))
[ "$unwraps" -le $((heard + heard / 2 + 2)) ] || fail "$unwraps unwraps in $heard rounds of $MOUNTS mounts"

emu key disable v1 k1 >/dev/null
until_true 60 all_are LOCKED revoked || fail "not all are locked: $("$BCFS" status "$T/mnt1"; "$BCFS" status "$T/mnt4")"
emu key enable v1 k1 >/dev/null
until_true 60 all_are OPEN none || fail "not all are open: $("$BCFS" status "$T/mnt1"; "$BCFS" status "$T/mnt4")"

# One of them dies.
kill -9 "$first"
wait "$first" || true
umount -l "$T/mnt1"
for i in 2 3 4; do
	now=$(status_field access.last_success.request_id "$T/mnt$i")
	goes_on()
	{
		[ "$(status_field access.last_success.request_id "$T/mnt$i")" != "$now" ]
	}
	until_true 60 goes_on || fail "mount $i has no probes any more"
done

# Another key is asked for by itself: it stays open when the first one's is disabled.
emu key create v1 k2 >/dev/null
expect 0 "$BCFS" key set --cloud emulator --probe-interval 2 "$(emu_uri v1 k2)" "$T/mnt4"
emu key disable v1 k1 >/dev/null
until_true 60 gate_is LOCKED revoked "$T/mnt2" || fail "not locked: $(show_gate "$T/mnt2")"
until_true 60 gate_is LOCKED revoked "$T/mnt3" || fail "not locked: $(show_gate "$T/mnt3")"
last_seconds 3 gate_is OPEN none "$T/mnt4" || fail "locked by another's key: $(show_gate "$T/mnt4")"
[ "$(cat "$T/mnt4/file")" = "$MARK" ] || fail "the file is not what it was"
for i in 2 3 4; do
	expect 0 "$BCFS" umount "$T/mnt$i"
done
