# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
#
# What the tests of revocation share: source it after common.sh and vault.sh. A volume under the emulator's key, asked
# for every second.
#
#   cmk_mount [LEASE [OPTIONS]]   makes it if it isn't there, sets the key with that lease (600), mounts it
#   cmk_set DIR LEASE             puts the volume under the key
#   gate_is STATE [REASON [MNT]]  for until_true
#   locks_with REASON TEXT        waits for the lock; reading says TEXT (EKEYREVOKED's or ENOKEY's)
#   heals                         waits until it is open, and the file is what it was
#   audited EVENT...              the audit log has each of them
#   last_seconds S COMMAND...     true if COMMAND goes on being true for that long

NO="Required key not available" # ENOKEY
GONE="Key has been revoked"	# EKEYREVOKED

cmk_set()
{
	expect 0 "$BCFS" key set --cloud emulator --probe-interval 1 --lease "$2" "$(emu_uri)" "$1"
}

cmk_mount()
{
	if [ ! -e "$VOL/blobcryptfs.json" ]; then
		vol_init
		ID=$(status_field volume "$VOL")
		AUDIT=/var/log/blobcryptfs/$ID.log
		cmk_set "$VOL" "${1-600}"
	fi
	vol_mount "${2-}"
	[ -e "$MNT/file" ] || echo "$MARK" >"$MNT/file"
	exec 9<"$MNT/file"
}

gate_is()
{
	local out
	out=$("$BCFS" status "${3-$MNT}") || return 1
	[[ $out =~ $'\n'"gate:"\ +"$1"$'\n' ]] || return 1
	[ -z "${2-}" ] || [[ $out =~ $'\n'"reason:"\ +"$2"$'\n' ]]
}

show_gate()
{
	"$BCFS" status --json "${1-$MNT}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["access"])'
	tail -n 5 "$LOG/daemon.log"
}

# refused TEXT COMMAND...: it fails and says that
refused()
{
	local text=$1 out
	shift
	out=$("$@" 2>&1) && fail "not refused: $*"
	grep -q "$text" <<<"$out" || fail "$*: not \"$text\" but: $out"
}

locks_with()
{
	until_true 60 gate_is LOCKED "$1" || fail "it does not lock ($1): $(show_gate)"
	refused "$2" cat "$MNT/file"
	refused "$2" cat <&9
	refused "$2" ls "$MNT"
	refused "$2" touch "$MNT/new"
	stat "$MNT" >/dev/null || fail "stat of the root fails"
}

heals()
{
	until_true 60 gate_is OPEN none || fail "it does not open again: $(show_gate)"
	[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
	[ "$(dd if=/dev/fd/9 iflag=fullblock status=none)" = "$MARK" ] || fail "the open file is not what it was"
}

audited()
{
	local event
	for event; do
		until_true 30 grep -q "\"event\":\"$event\"" "$AUDIT" || fail "the audit log has no $event: $(tail -n 5 "$AUDIT")"
	done
}

last_seconds()
{
	local end=$((SECONDS + $1))
	shift
	while [ "$SECONDS" -lt "$end" ]; do
		"$@" || return 1
		sleep 0.1
	done
}
