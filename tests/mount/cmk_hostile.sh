#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 240
# LONG: 1800
#
# A hostile or broken vault, or identity service: with every fault of the emulator, while a key is set and verified and
# the volume is mounted, nothing crashes or hangs, the descriptor stays whole, the volume opens when the vault is itself
# again, and no token is asked for or sent to anybody else. Short: each fault hits twice. Long: the faults last, with
# rotations, mounts and "key off" as well.
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
exec 3<>"/dev/tcp/127.0.0.1/$(cat "$T/trap.port")"
until_true 30 test -s "$T/trap.log" || fail "the trap does not work"
exec 3>&-
rm "$T/trap.log"

# Several lanes, each with a volume and a vault of its own, since a fault is for one vault.
# lane NAME: enters it
lane()
{
	LANE=$1 VOL=$T/$1/vol MNT=$T/$1/mnt KEYS=$T/$1/keys
	[ ! -e "$VOL" ] || return 0
	mkdir -p "$MNT"
	"$BCFS" init --managed-key "store:$KEYS" "$VOL" >/dev/null || fail "init"
}

# run COMMAND...: its exit code
run()
{
	local rc=0
	timeout -k 5 240 "$BCFS" "$@" >"$T/$LANE/out" 2>&1 </dev/null || rc=$?
	echo "$rc"
}

# sane WHAT CODE [CODE]: an end that a program may come to; the second one too
sane()
{
	case $2 in
	0 | 6 | 7 | 8 | 19 | "${3-0}") ;;
	124 | 137) fail "$1: it hangs" ;;
	*) fail "$1: exit code $2: $(tail -n 3 "$T/$LANE/out")" ;;
	esac
	[ -s "$T/$LANE/out" ] || fail "$1: no word of what went wrong"
	cmp -s "$VOL/blobcryptfs.json" "$VOL/blobcryptfs.json.bak" || fail "$1: the descriptor's copies differ"
}

good()
{
	[ "$(run "$@")" = 0 ] || fail "$*: $(cat "$T/$LANE/out")"
}

# attack KIND [options of "fault add"]: on the lane's vault
attack()
{
	local kind=$1 op='*' uri
	shift
	[[ $kind != tls-* ]] || op=handshake
	[ -n "$LONG" ] || set -- "$@" --count 2
	uri=$(emu_uri "$LANE" k1)
	if [ -n "$LONG" ] || [ -z "${ON-}" ]; then # else it is on from the attack before
		good key set --cloud emulator "$uri" "$VOL"
		ON=1
	fi
	emu fault add "$LANE" "$op" "$kind" "$@" >/dev/null
	sane "key set, $kind" "$(run key set --cloud emulator "$uri" "$VOL")" 4
	if [ -z "$LONG" ]; then
		emu fault clear "$LANE"
		emu fault add "$LANE" "$op" "$kind" "$@" >/dev/null
	fi
	sane "key verify, $kind" "$(run key verify "$VOL")" 4
	if [ -n "$LONG" ]; then
		sane "key rotate, $kind" "$(run key rotate "$VOL")" 4
		sane "mount, $kind" "$(run mount "$VOL" "$MNT")" 4
		! mountpoint -q "$MNT" || good umount "$MNT"
		sane "key off, $kind" "$(run key off "$VOL")" 4
	fi
	emu fault clear "$LANE"
	good key verify "$VOL"
}

# The same for the tokens, with an identity service that the others don't use
tokens()
{
	local kind app
	lane tokens
	app=$(emu info)
	IDENTITY_ENDPOINT=$(json app_service.IDENTITY_ENDPOINT <<<"$app")
	IDENTITY_HEADER=$(json app_service.IDENTITY_HEADER <<<"$app")
	export IDENTITY_ENDPOINT IDENTITY_HEADER
	set -- key set --dry-run --cloud emulator --identity app-service --region westeurope "$(emu_uri)" "$VOL"
	for kind in expired-token foreign-token wrong-audience early-token unknown-signer not-json empty garbage deep-json \
		oversize-body "redirect --value $evil"; do
		# shellcheck disable=SC2086
		emu fault add appservice token $kind --count "$([ -n "$LONG" ] && echo 9999 || echo 1)" >/dev/null
		sane "$kind" "$(run "$@")"
		emu fault clear appservice
	done
	good "$@"
}

json()
{
	python3 -c '
import json, sys
value = json.load(sys.stdin)
for part in sys.argv[1].split("."):
    value = value[part]
print(value)' "$1"
}

attacks=("challenge --value $evil" challenge-tenant no-challenge "redirect --value $evil" not-json empty deep-json
	garbage oversize-body oversize-headers wrong-kid no-kid wrong-value short-value chunked insufficient-claims
	"status --status 500" throttle akv10046 not-yet-valid reset close reset-headers reset-body truncated wrong-length
	tls-name tls-expired tls-foreign tls-reset "latency --value 0.3")
[ -z "$LONG" ] || attacks+=(hang "slow --value 0.2")
lanes=6
in_lane()
{
	local i a
	lane "lane$1"
	new_vault "lane$1"
	for ((i = $1; i < ${#attacks[@]}; i += lanes)); do
		read -ra a <<<"${attacks[i]}"
		attack "${a[@]}"
	done
}
pids=()
for ((n = 0; n < lanes; n++)); do
	(trap - EXIT; in_lane "$n") >"$LOG/lane$n" 2>&1 &
	pids+=("$!:lane$n")
done
(trap - EXIT; tokens) >"$LOG/tokens" 2>&1 &
pids+=("$!:tokens")
bad=0
for p in "${pids[@]}"; do
	wait "${p%%:*}" || { bad=1; tail -n 5 "$LOG/${p#*:}"; }
done
[ "$bad" = 0 ] || fail "see above"

# A mount, asked in between
lane last
new_vault last
key_set "$(emu_uri last k1)"
vol_mount
echo "$MARK" >"$MNT/file"
for kind in not-json wrong-value "redirect --value $evil" "challenge --value $evil"; do
	# shellcheck disable=SC2086
	emu fault add last '*' $kind --count 2 >/dev/null
	sane "key verify of a mount, $kind" "$(run key verify "$MNT")" 4
	emu fault clear last
	until_true 60 "$BCFS" key verify "$MNT" || fail "after $kind: the mount does not get its key back"
	until_true 60 grep -q "$MARK" "$MNT/file" || fail "after $kind: the mount does not open again"
done
vol_umount

[ ! -e "$T/trap.log" ] || fail "somebody went where a hostile vault sent him: $(wc -l <"$T/trap.log") times"
lured=$(emu count --op token --status 400)
[ "$lured" = 0 ] || fail "$lured tokens were asked for that the vault has no business with"
