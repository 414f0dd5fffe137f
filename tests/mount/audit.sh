#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# VARIANTS: release asan
# LONG: 900
#
# The audit log of a mount: its lines, "audit show" and "audit verify" mounted, locked and not mounted, with what was
# changed, removed or cut off named by its line; -o audit_dir=; kill -9 at any time is no damage to it.
. "$(dirname "$0")/../lib/common.sh"

need_isolation
vol_init
id=$(status_field volume "$VOL")
log=/var/log/blobcryptfs/$id.log

# verdict CODE TEXT ARGUMENTS...: of "audit verify"
verdict()
{
	local want=$1 text=$2 code=0 out
	shift 2
	out=$("$BCFS" audit verify "$@" 2>&1) || code=$?
	[ "$code" = "$want" ] || fail "audit verify $*: exit code $code instead of $want: $out"
	[[ $out == *"$text"* ]] || fail "audit verify $*: \"$text\" is not in: $out"
}
events()
{
	"$BCFS" audit show --json "$@" | jq -r .event | tr '\n' ' '
}
has_event()
{
	[[ " $(events "${2-$MNT}") " == *" $1 "* ]]
}
sealed()
{
	jq -e 'select(.mac == null)' <"$log" >"$T/unsealed" || return 0
	fail "lines without a seal: $(cat "$T/unsealed")"
}

need jq
expect 21 "$BCFS" audit show "$VOL"
verdict 21 "no audit log" "$VOL"
expect 2 "$BCFS" audit show --last 0 "$VOL"
expect 2 "$BCFS" audit look "$VOL"
expect 2 "$BCFS" audit show --last x "$VOL"
expect 3 "$BCFS" audit show "$T"

vol_mount
until_true 30 has_event mount || fail "no line about the mount: $(events "$MNT")"
[ "$(stat -c %a "$log")" = 600 ] || fail "others can read $log"
verdict 0 "sound: " "$MNT"
verdict 0 "sound: " "$VOL"
expect 0 "$BCFS" key rotate "$VOL"
[ "$(events --last 1 "$MNT")" = "key_rotated " ] || fail "the last line is $(events --last 1 "$MNT")"
"$BCFS" audit show "$MNT" | grep -q 'key_rotated: on request' || fail "audit show: $("$BCFS" audit show "$MNT")"

# Locked: lines are still sealed, but nobody there can check a seal.
expect 0 "$BCFS" lock "$MNT"
until_true 30 has_event locked || fail "no line about the lock"
verdict 20 "can't be checked" "$MNT"
expect 0 "$BCFS" unlock "$MNT"
until_true 30 has_event unlocked || fail "no line about the unlocking"
verdict 0 "sound: " "$MNT"
sealed

# The daemon notices an older log with its older head when it verifies (or writes, which nothing makes it do meanwhile).
cp -a "${log%/*}" "$T/older"
expect 0 "$BCFS" key rotate "$VOL"
cp -a "${log%/*}" "$T/newer"
cat "$T/older/$id.log" >"$log"
cat "$T/older/$id.head" >"${log%.log}.head"
verdict 4 "cut off" "$MNT"
cat "$T/newer/$id.log" >"$log"
cat "$T/newer/$id.head" >"${log%.log}.head"
verdict 0 "sound: " "$MNT"
vol_umount

# Not mounted: the command unlocks the volume itself. What changes its key there is sealed too.
has_event unmount "$VOL" || fail "no line about the unmounting"
verdict 0 "sound: " "$VOL"
expect 0 "$BCFS" key rotate "$VOL"
sealed
lines=$(wc -l <"$log")
verdict 0 "sound: $lines lines, chained and sealed" "$VOL"
verdict 0 '"sound": true' --json "$VOL"
mv "$KEYS" "$KEYS.away"
verdict 20 "can't be checked" "$VOL"
mv "$KEYS.away" "$KEYS"

# tampered WORD LINE: with the log as it is now; then it is as before
tampered()
{
	verdict 4 "$id.log, line $2: $1" "$VOL"
	cat "$T/good" >"$log"
}
cp "$log" "$T/good"
sed -i '3s/"event":"[a-z_]*"/"event":"harmless"/' "$log"
tampered changed 3
sed -i 4d "$log"
tampered removed 4
sed -i '2{p}' "$log"
tampered inserted 3
sed -i '$d' "$log"
tampered "cut off" "$lines"
truncate -s -5 "$log"
tampered "cut off" "$lines"
mv "$log" "$T/away"
verdict 4 "cut off" "$VOL"
mv "$T/away" "$log"
mv "${log%.log}.head" "$T/away"
verdict 4 "$id.head: removed" "$VOL"
mv "$T/away" "${log%.log}.head"
verdict 0 "sound: $lines lines, chained and sealed" "$VOL"

# Another directory.
vol_mount "audit_dir=$T/elsewhere"
until_true 30 grep -q '"event":"mount"' "$T/elsewhere/$id.log" || fail "no line about the mount in another directory"
[ "$(wc -l <"$log")" = "$lines" ] || fail "lines went to the usual directory"
verdict 0 "sound: 1 lines" "$MNT"
vol_umount
verdict 0 "sound: 2 lines" --audit-dir "$T/elsewhere" "$VOL"
expect 2 "$BCFS" mount -o audit_dir=elsewhere "$VOL" "$MNT"

# Refused mounts have no keys: unsealed lines, which the next sealed line covers.
mv "$KEYS" "$KEYS.away"
expect 6 "$BCFS" mount "$VOL" "$MNT"
mv "$KEYS.away" "$KEYS"
[ "$(events --last 1 "$VOL")" = "mount_refused " ] || fail "the last line is $(events --last 1 "$VOL")"
verdict 0 "1 of them, at the end, are not sealed yet" "$VOL"

# Killed, whatever it is doing.
rounds=2
[ -z "$LONG" ] || rounds=60
for i in $(seq "$rounds"); do
	vol_mount
	(while "$BCFS" key rotate "$VOL" && "$BCFS" lock "$MNT" && "$BCFS" unlock "$MNT"; do :; done) >/dev/null 2>&1 &
	busy=$!
	sleep "0.$((RANDOM % 10))"
	kill -9 "$DAEMON"
	wait "$DAEMON" "$busy" 2>/dev/null || true
	umount -l "$MNT"
	verdict 0 "sound: " "$VOL"
done
vol_mount
verdict 0 "sound: " "$MNT"
vol_umount
verdict 0 "sound: " "$VOL"
