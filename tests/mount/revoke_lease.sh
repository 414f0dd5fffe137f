#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# When the vault can't be reached until the lease has run out, the mount locks with ENOKEY, and opens by itself when the
# vault is back; a no that follows is a no. Without a lease (strict) the first failure that is confirmed locks.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
emu_start
cmk_mount 4

# The lease runs out.
emu port close vault >/dev/null
until_true 60 gate_is GRACE none || fail "no grace: $(show_gate)"
locks_with unavailable "$NO"
expect 0 "$BCFS" revocation-report --json "$MNT"
grep -q '"reason": "unavailable"' <<<"$OUT" || fail "report: $OUT"
emu port open vault >/dev/null
heals
# Locked for want of an answer, and then the answer is no.
emu port close vault >/dev/null
locks_with unavailable "$NO"
emu key disable v1 k1 >/dev/null
emu port open vault >/dev/null
locks_with revoked "$GONE"
emu port close vault >/dev/null
last_seconds 2 gate_is LOCKED revoked || fail "a silent vault makes up for its no: $(show_gate)"
emu port open vault >/dev/null
emu key enable v1 k1 >/dev/null
heals

# Strict.
cmk_set "$MNT" 0
locks=$(status_field access.locks)
emu fault add v1 unwrapkey throttle --count 5 >/dev/null
locks_with unavailable "$NO"
[ "$(status_field access.locks)" = $((locks + 1)) ] || fail "locks: $(status_field access.locks)"
heals
exec 9<&-
check_sound
vol_umount
