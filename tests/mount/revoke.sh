#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# VARIANTS: release asan tsan
#
# Every way of saying no: the key disabled, deleted, forbidden to wrap; the role, the network, the identity taken away.
# Each locks the mount with EKEYREVOKED and the vault's reason; taken back, open files go on by themselves.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
emu_start
cmk_mount
gate_is OPEN none || fail "it is not open: $(show_gate)"
[ "$(status_field access.probe_seconds) $(status_field access.lease_seconds)" = "1 600" ] || fail "$(show_gate)"

# round ANSWER NO-COMMAND -- YES-COMMAND
round()
{
	local answer=$1 no=()
	shift
	while [ "$1" != -- ]; do
		no+=("$1")
		shift
	done
	shift
	emu "${no[@]}" >/dev/null
	locks_with revoked "$GONE"
	[ "$(status_field access.last_denial.answer)" = "$answer" ] ||
		fail "${no[*]}: the answer is $(status_field access.last_denial.answer), not $answer"
	expect 8 "$BCFS" unlock "$MNT"
	emu "$@" >/dev/null
	heals
}

round KeyDisabled key disable v1 k1 -- key enable v1 k1
id=$(status_field access.last_denial.request_id)
grep -q "request_id=$id" "$LOG/daemon.log" || fail "the messages don't have the request id $id"
emu log | grep -q "\"$id\"" || fail "the emulator does not know the request id $id"
expect 0 "$BCFS" revocation-report --json "$MNT"
python3 -c '
import json, sys
r = json.load(sys.stdin)
lock = r["lock"]
assert lock["reason"] == "revoked" and lock["verified"] and lock["undrained"] == 0, r
assert r["first_denial"]["answer"] == r["confirmation"]["answer"] == "KeyDisabled", r
assert r["first_denial"]["request_id"] != r["confirmation"]["request_id"], r
assert 0 < r["confirmed_ms"] <= lock["started_ms"] <= lock["done_ms"] < r["opened_ms"], r' <<<"$OUT" ||
	fail "report: $OUT"
round KeyNotFound key delete v1 k1 -- key recover v1 k1
round ForbiddenByRbac revoke v1 vm -- grant v1 vm
round ForbiddenByFirewall firewall v1 on -- firewall v1 off
[ "$(status_field access.last_denial.network)" = true ] || fail "the firewall's denial is not marked so"
round KeyOperationForbidden key update v1 k1 --ops encrypt -- key update v1 k1 --ops wrapKey,unwrapKey
audited locked unlocked

# Refused while revoked: a restart, a second mount, the key's change and its end.
emu key disable v1 k1 >/dev/null
locks_with revoked "$GONE"
expect 8 "$BCFS" key off "$MNT"
expect 8 "$BCFS" key rotate "$MNT"
expect 8 "$BCFS" key verify "$MNT"
exec 9<&-
vol_umount
expect 8 "$BCFS" mount "$VOL" "$MNT"
grep -q KeyDisabled <<<"$OUT" || fail "the mount's sentence: $OUT"
expect 8 "$BCFS" key off "$VOL"
emu key enable v1 k1 >/dev/null
vol_mount
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
check_sound
vol_umount
