#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# While a volume with a customer's key is locked, by hand or by the vault, its daemon's memory has no access token.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/lock.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
[ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 3 ] || skip "ptrace is turned off here"
emu_start
cmk_mount
# The header and the first claim, which all of the emulator's tokens share: nothing else looks like it.
token=$(emu token issue vm --audience https://vault.localhost)
echo "token $(printf %.60s "$token" | od -An -v -tx1 | tr -d ' \n')" >"$T/needles"

tokens()
{
	"$TOOLS/memscan" --pid "$DAEMON" "$T/needles" >"$T/found" && rc=0 || rc=$?
	[ "$rc" != 2 ] || fail "memscan: $(cat "$T/found")"
	grep -c '^found token' "$T/found" || true
}

no_token()
{
	[ "$(tokens)" = 0 ]
}

has_token()
{
	[ "$(tokens)" -ge 1 ]
}

# the prober's, from its first round on
until_true 30 has_token || fail "no token is found while open, so this test sees nothing"
vol_lock
no_token || fail "after lock: $(cat "$T/found")"
vol_unlock
until_true 30 has_token || fail "no token is found after unlock"
emu key disable v1 k1 >/dev/null
locks_with revoked "$GONE"
# The probe that comes next is one more of those that ask, with a token of its own.
until_true 30 no_token || fail "after the vault's no: $(cat "$T/found")"
emu key enable v1 k1 >/dev/null
heals
exec 9<&-
vol_umount
