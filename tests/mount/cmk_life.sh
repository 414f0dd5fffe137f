#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# The life of a customer's key, once unmounted by the volume's directory and once mounted by the mount point: turned on,
# a new version, another key, another vault, one version alone, off, on again. Data stay, not one byte of them is
# touched, there is exactly one envelope after each step, and dry runs leave the descriptor as it was.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
emu_start
expect 2 "$BCFS" init --customer-key="$(emu_uri)" "$VOL"
grep -q 'starts with a managed key' <<<"$OUT" || fail "init: $OUT"
vol_init
vol_mount
mkdir "$T/plain"
python3 "$SRC/tests/lib/make_tree.py" "$T/plain" 60 7
cp -a "$T/plain" "$MNT/tree"
vol_umount
before=$(data)
emu key create v1 k2 >/dev/null
new_vault v2
id=$(status_field volume "$VOL")

# step NAME KIND KID: what must hold after each
step()
{
	one_envelope "$2"
	[ "$(data)" = "$before" ] || fail "$1 has touched data"
	[ -z "${3-}" ] || [ "$(key_field id)" = "$3" ] || fail "$1: the key is $(key_field id), not $3"
	if [ "$AT" = "$MNT" ]; then
		cmp -s "$T/plain/$SAMPLE" "$MNT/tree/$SAMPLE" || fail "$1: the mount does not read any more"
	fi
	expect 0 "$BCFS" key verify "$AT"
}

life()
{
	AT=$1
	SAMPLE=$(cd "$T/plain" && find . -type f | sort | head -n 1)
	kid=$(emu -r kid key show v1 k1)
	dry "$BCFS" key set --cloud emulator --dry-run "$(emu_uri)" "$AT"
	expect 2 "$BCFS" key off "$AT"
	expect 0 "$BCFS" key set --cloud emulator "$(emu_uri)" "$AT"
	step "key set" customer "$kid"
	[ "$(key_field customer.uri)" = "$(emu_uri)" ] || fail "key show has $(key_field customer.uri)"
	[ "$(key_field customer.follows_versions)" = true ] || fail "a URI without version does not follow versions"

	dry "$BCFS" key rotate --dry-run "$AT"
	expect 0 "$BCFS" key rotate "$AT"
	step "a rotation without a newer version" customer "$kid"
	emu key rotate v1 k1 >/dev/null
	dry "$BCFS" key rotate --dry-run "$AT"
	expect 0 "$BCFS" key rotate "$AT"
	[ "$(emu -r kid key show v1 k1)" != "$kid" ] || fail "the emulator has made no version"
	step "a rotation" customer "$(emu -r kid key show v1 k1)"

	expect 0 "$BCFS" key rotate --managed "$AT"
	step "a rotation of the managed key" customer "$(emu -r kid key show v1 k1)"

	expect 0 "$BCFS" key set --cloud emulator "$(emu_uri v1 k2)" "$AT"
	step "another key" customer "$(emu -r kid key show v1 k2)"
	expect 0 "$BCFS" key set --cloud emulator "$(emu_uri v2 k1)" "$AT"
	step "another vault" customer "$(emu -r kid key show v2 k1)"

	kid=$(emu -r kid key show v1 k2)
	expect 0 "$BCFS" key set --cloud emulator "$kid" "$AT"
	step "one version alone" customer "$kid"
	emu key rotate v1 k2 >/dev/null
	expect 2 "$BCFS" key rotate "$AT"
	grep -q 'key set' <<<"$OUT" || fail "no word of how to go on: $OUT"
	step "a refused rotation" customer "$kid"
	kid=$(emu -r kid key show v1 k2)
	expect 0 "$BCFS" key set --cloud emulator "$kid" "$AT"
	step "a new version by name" customer "$kid"

	dry "$BCFS" key off --dry-run "$AT"
	expect 0 "$BCFS" key off "$AT"
	step "key off" managed
	expect 0 "$BCFS" key set --cloud emulator "$(emu_uri)" "$AT"
	step "on again" customer "$(emu -r kid key show v1 k1)"
	# Off is no way round a revocation; a mount is locked by then, and its descriptor is not touched either.
	emu key disable v1 k1 >/dev/null
	expect 8 "$BCFS" key off "$AT"
	expect 8 "$BCFS" key off --dry-run "$AT"
	expect 8 "$BCFS" key set --cloud emulator "$(emu_uri v2 k1)" "$AT"
	emu key enable v1 k1 >/dev/null
	if [ "$AT" = "$MNT" ]; then
		until_true 60 "$BCFS" key verify "$MNT" || fail "the vault's yes is not heard" # and the prober follows at once
		until_true 60 cmp -s "$T/plain/$SAMPLE" "$MNT/tree/$SAMPLE" || fail "the mount does not open again"
	fi
	step "a refused off" customer "$(emu -r kid key show v1 k1)"
	expect 0 "$BCFS" key off "$AT"
	step "key off" managed
}

life "$VOL"
vol_mount
same_tree "$T/plain" "$MNT/tree"
life "$MNT"
expect 0 "$BCFS" key set --cloud emulator "$(emu_uri)" "$VOL" # the daemon is found by the directory too
vol_remount
same_tree "$T/plain" "$MNT/tree"
vol_umount
[ "$(data)" = "$before" ] || fail "data were touched"
[ -s "/var/log/blobcryptfs/$id.log" ] || fail "there is no audit log"
