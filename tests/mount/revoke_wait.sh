#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# Starting while the customer's key can't be had: refused with the reason; with wait_key mounted locked, and open by
# itself later. Meanwhile the root, statfs, umount, status, unlock and key verify work, and nothing else. An identity
# that is taken away ends access as well. A daemon killed while locked leaves nothing behind.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
emu_start
cmk_mount
exec 9<&-
vol_umount
session=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["session"])' "$VOL/blobcryptfs.state")

# Unreachable: a certificate that is not the vault's.
emu fault add v1 handshake tls-foreign >/dev/null
expect 6 "$BCFS" mount "$VOL" "$MNT"
grep -q "v1.vault.localhost" <<<"$OUT" || fail "the mount's sentence: $OUT"
mountpoint -q "$MNT" && fail "refused, and mounted"
vol_mount wait_key
gate_is LOCKED waiting || fail "$(show_gate)"
[ "$(status_field session.number)" = None ] || fail "a session was begun without a key: $(status_field session.number)"
[ "$(status_field authenticated)" = false ] || fail "authenticated without a key"
refused "$NO" ls "$MNT"
refused "$NO" cat "$MNT/file"
refused "$NO" touch "$MNT/new"
stat "$MNT" >/dev/null || fail "stat of the root fails"
df "$MNT" >/dev/null || fail "statfs fails"
expect 6 "$BCFS" key off "$MNT"
emu fault clear >/dev/null
until_true 60 gate_is OPEN none || fail "it does not open: $(show_gate)"
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
[ "$(status_field session.number)" = $((session + 1)) ] || fail "session $(status_field session.number) after $session"
echo more >"$MNT/more"
vol_umount

# Denied; unmounted again without ever having been open, which begins no session.
emu key disable v1 k1 >/dev/null
expect 8 "$BCFS" mount "$VOL" "$MNT"
grep -q KeyDisabled <<<"$OUT" || fail "the mount's sentence: $OUT"
audited mount_refused
vol_mount wait_key
until_true 60 gate_is LOCKED revoked || fail "$(show_gate)"
refused "$GONE" cat "$MNT/file"
vol_umount
vol_mount wait_key
until_true 60 gate_is LOCKED revoked || fail "$(show_gate)"
expect 8 "$BCFS" unlock "$MNT"
expect 8 "$BCFS" key verify "$MNT"
emu key enable v1 k1 >/dev/null
expect 0 "$BCFS" unlock "$MNT"
[ "$(cat "$MNT/file" "$MNT/more")" = "$MARK"$'\nmore' ] || fail "the files are not what they were"
[ "$(status_field session.number)" = $((session + 2)) ] || fail "session $(status_field session.number) after $session"
[ "$(status_field session.unclean)" = '[]' ] || fail "unclean: $(status_field session.unclean)"

# Locked by hand it stays locked, whatever the vault says.
exec 9<"$MNT/file"
expect 0 "$BCFS" lock "$MNT"
emu key disable v1 k1 >/dev/null
last_seconds 2 gate_is LOCKED manual || fail "$(show_gate)"
expect 8 "$BCFS" unlock "$MNT"
locks_with revoked "$GONE"
emu key enable v1 k1 >/dev/null
heals

# The identity goes: tokens end, and no new one is given out.
emu token lifetime 5 >/dev/null
expect 0 "$BCFS" lock "$MNT"
expect 0 "$BCFS" unlock "$MNT"
emu identity remove user1 >/dev/null # or it is the one that is left to this machine
emu identity remove vm >/dev/null
locks_with revoked "$GONE"
emu identity restore vm >/dev/null
heals
exec 9<&-

# Killed while locked.
emu key disable v1 k1 >/dev/null
until_true 60 gate_is LOCKED revoked || fail "$(show_gate)"
vol_kill9
expect 8 "$BCFS" mount "$VOL" "$MNT"
emu key enable v1 k1 >/dev/null
vol_mount
[ "$(cat "$MNT/file" "$MNT/more")" = "$MARK"$'\nmore' ] || fail "the files are not what they were"
check_sound
vol_umount
