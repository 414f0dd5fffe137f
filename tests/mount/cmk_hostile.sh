#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 150
# LONG: 1800
#
# A hostile or broken vault: with every fault of the emulator, while a key is set, verified and used for a mount, nothing
# crashes or hangs, the descriptor stays whole, the volume opens when the vault is itself again, and no token is asked
# for or sent to anybody else. Long: the faults last, with rotations and "key off" as well; short: those that are tried
# again hit once.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
emu_start

# A host that is nobody's: whoever connects to it was lured.
python3 - "$T/trap.port" "$T/trap.log" <<'PY' &
import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(64)
with open(sys.argv[1] + ".new", "w") as f:
    f.write(str(s.getsockname()[1]))
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    c, _ = s.accept()
    with open(sys.argv[2], "a") as f:
        f.write("somebody came\n")
    c.close()
PY
TRAP=$!
on_exit "kill $TRAP 2>/dev/null"
until_true 30 test -s "$T/trap.port" || fail "the trap does not start"
evil=https://127.0.0.1:$(cat "$T/trap.port")/

# sane WHAT CODE: an end that a program may come to
sane()
{
	case $2 in
	0 | 6 | 7 | 8 | 19) ;;
	4) [ "${3-}" = damaged ] || fail "$1: exit code 4: $(cat "$T/$VAULT/out")" ;;
	124) fail "$1: it hangs" ;;
	*) fail "$1: exit code $2: $(tail -n 3 "$T/$VAULT/out")" ;;
	esac
	[ -s "$T/$VAULT/out" ] || [ "$2" = 0 ] || fail "$1: no word of what went wrong"
}

run()
{
	local rc=0
	timeout -k 5 200 "$BCFS" "$@" >"$T/$VAULT/out" 2>&1 </dev/null || rc=$?
	echo "$rc"
}

# attack KIND [options of "fault add"]: on a volume and a vault of its own
attack()
{
	local kind=$1 uri rc op='*'
	shift
	VAULT=f-$kind
	VOL=$T/$VAULT/vol MNT=$T/$VAULT/mnt
	[[ $kind != tls-* ]] || op=handshake
	mkdir -p "$T/$VAULT" "$MNT"
	own_volume
	new_vault "$VAULT"
	uri=$(emu_uri "$VAULT" k1)

	emu fault add "$VAULT" "$op" "$kind" "$@" >/dev/null
	rc=$(run key set --cloud emulator "$uri" "$VOL")
	sane "key set, $kind" "$rc"
	one_copy "$kind"
	emu fault clear "$VAULT" >/dev/null
	if [ "$rc" != 0 ]; then
		[ "$(run key verify "$VOL")" = 0 ] || fail "after key set, $kind: $(cat "$T/$VAULT/out")"
		[ "$(run key set --cloud emulator "$uri" "$VOL")" = 0 ] || fail "$kind: key set: $(cat "$T/$VAULT/out")"
	fi
	emu fault add "$VAULT" "$op" "$kind" "$@" >/dev/null
	rc=$(run key verify "$VOL")
	sane "key verify, $kind" "$rc" damaged
	if [ -n "$LONG" ]; then
		rc=$(run key rotate "$VOL")
		sane "key rotate, $kind" "$rc" damaged
		one_copy "$kind"
		rc=$(run mount "$VOL" "$MNT")
		sane "mount, $kind" "$rc" damaged
		mountpoint -q "$MNT" && { "$BCFS" umount "$MNT" || fail "umount, $kind"; }
		rc=$(run key off "$VOL")
		sane "key off, $kind" "$rc" damaged
		one_copy "$kind"
	fi
	emu fault clear "$VAULT" >/dev/null
	[ "$(run key verify "$VOL")" = 0 ] || fail "after $kind: $(cat "$T/$VAULT/out")"
}

one_copy()
{
	cmp -s "$VOL/blobcryptfs.json" "$VOL/blobcryptfs.json.bak" || fail "$1: the descriptor's copies differ"
}

own_volume()
{
	"$BCFS" init --managed-key "store:$T/$VAULT/keys" "$VOL" >/dev/null || fail "init"
}

lasting=("challenge --value $evil" "challenge-tenant" "no-challenge" "redirect --value $evil" not-json empty deep-json
	garbage oversize-body oversize-headers wrong-kid no-kid wrong-value short-value chunked insufficient-claims)
transient=("status --status 500" throttle akv10046 not-yet-valid reset close reset-headers reset-body truncated
	wrong-length tls-name tls-expired tls-foreign tls-reset "latency --value 0.3" "hang")
attacks=("${lasting[@]}")
for a in "${transient[@]}"; do
	[ -n "$LONG" ] && attacks+=("$a") || attacks+=("$a --count 1")
done
pids=()
for a in "${attacks[@]}"; do
	# shellcheck disable=SC2086
	(trap - EXIT; attack $a) >"$LOG/attack.${a%% *}" 2>&1 &
	pids+=("$!:$a")
	while [ "$(jobs -rp | wc -l)" -gt 8 ]; do wait -n || true; done
done
bad=0
for p in "${pids[@]}"; do
	wait "${p%%:*}" || { bad=1; echo "with ${p#*:}:"; tail -n 5 "$LOG/attack.$(cut -d: -f2- <<<"$p" | cut -d' ' -f1)"; }
done
[ "$bad" = 0 ] || fail "see above"

# Bad tokens, from the identity's own service
VAULT=tokens VOL=$T/$VAULT/vol MNT=$T/$VAULT/mnt
mkdir -p "$T/$VAULT" "$MNT"
own_volume
for kind in expired-token foreign-token wrong-audience early-token unknown-signer not-json empty garbage deep-json \
	oversize-body redirect; do
	emu fault add imds token "$kind" ${LONG:---count 1} >/dev/null
	rc=$(run key set --dry-run --cloud emulator "$(emu_uri)" "$VOL")
	sane "a $kind" "$rc"
	emu fault clear imds >/dev/null
done
[ "$(run key set --cloud emulator "$(emu_uri)" "$VOL")" = 0 ] || fail "after bad tokens: $(cat "$T/$VAULT/out")"

# The first volume of them all, as a mount
VAULT=last VOL=$T/$VAULT/vol MNT=$T/$VAULT/mnt
mkdir -p "$T/$VAULT" "$MNT"
own_volume
new_vault last
key_set "$(emu_uri last k1)"
vol_mount
echo "$MARK" >"$MNT/file"
for kind in garbage wrong-value redirect challenge; do
	emu fault add last '*' "$kind" --value "$evil" --count 2 >/dev/null
	rc=$(run key verify "$MNT")
	sane "key verify of a mount, $kind" "$rc" damaged
	emu fault clear last >/dev/null
	until_true 60 "$BCFS" key verify "$MNT" || fail "after $kind: the mount does not get its key back"
	until_true 60 grep -q "$MARK" "$MNT/file" || fail "after $kind: the mount does not open again"
done
vol_umount

[ ! -e "$T/trap.log" ] || fail "somebody went where a hostile vault sent him: $(wc -l <"$T/trap.log") times"
lured=$(emu count --op token --status 400)
[ "$lured" = 0 ] || fail "$lured tokens were asked for that the vault has no business with"
