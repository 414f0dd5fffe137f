#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# What lock_memory.sh looks for, and the access token, after the vault's no: nothing of it is in the daemon's memory. The
# volume key stays the same when a volume gets a customer's key, so it is taken from the descriptor before that.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/lock.sh"
. "$(dirname "$0")/../lib/revoke.sh"

token_gone()
{
	mem_scan
	! grep -q '^found token ' "$T/found"
}

# The prober goes on asking, and has a token while it does; nothing else gets a second chance.
nothing_left()
{
	mem_scan
	! grep '^found' "$T/found" | grep -vq '^found token ' || fail "in memory $1: $(grep '^found' "$T/found" | head -n 20)"
	until_true 30 token_gone || fail "a token is in memory $1"
}

has_token()
{
	! token_gone
}

mem_start
emu_start
token=$(emu token issue vm --audience https://vault.localhost)
suite=
for transport in $transports; do
	VOL=$T/vol$suite
	# shellcheck disable=SC2086
	vol_init $suite
	cp "$VOL/blobcryptfs.json" "$T/descriptor"
	store=$KEYS/$(status_field volume "$VOL")
	cp "$store/v1.key" "$T/managed"
	cmk_set "$VOL" 600
	vol_mount "$transport"
	mem_use
	echo "$MARK" >"$MNT/file"
	exec 9<"$MNT/file"
	{
		mem_needles "$T/managed" "$T/descriptor"
		for key in "$store"/v*.key; do echo "managed-key-now $(cat "$key")"; done
		# The header and the first claim, which all of the emulator's tokens share.
		echo "token $(mem_hex "${token:0:60}")"
	} >"$T/needles"
	until_true 30 has_token || fail "no token is found while open"
	mem_has content name name-mac name-enc content-0
	mem_open
	emu key disable v1 k1 >/dev/null
	locks_with revoked "$GONE"
	nothing_left "after the vault's no ($suite $transport)"
	cached=$(mem_cached)
	[ "$cached" = 0 ] || fail "the kernel caches $cached pages"
	mem_refused "$GONE"
	nothing_left "after refused requests ($suite $transport)"
	emu key enable v1 k1 >/dev/null
	heals
	[ "$(grep -c . "$MNT/$name-40")" = 300 ] || fail "content is wrong after the vault's yes"
	exec 5<&- 6<&- 9<&-
	check_sound
	vol_umount
	suite=--infrastructure-encryption
done
