#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# VARIANTS: release asan
#
# The audit log: what happens to a volume is in it, it verifies while mounted, locked and unmounted, and every kind of
# edit is found and named by its line.
. "$(dirname "$0")/../lib/common.sh"

need_root
need_isolation
vol_init
vol_mount
echo text >"$MNT/file"
vol_umount
vol_mount
log=/var/log/blobcryptfs/$(status_field volume).log
until_true 30 grep -q '"event":"mount"' "$log"

expect 0 "$BCFS" audit verify "$MNT"
grep -q 'sound: .* chained and sealed' <<<"$OUT" || fail "verify says: $OUT"
expect 0 "$BCFS" audit show "$MNT"
for event in mount unmount; do
	grep -q " $event: read-write" <<<"$OUT" || fail "no $event in: $OUT"
done
expect 0 "$BCFS" audit show --last 1 --json "$VOL"
[ "$(wc -l <<<"$OUT")" = 1 ] || fail "not one line: $OUT"
jq -e .seq <<<"$OUT" >/dev/null || fail "no seq: $OUT"

# Locked: the chain alone, and it says so. The lock itself is sealed, though the keys are gone.
expect 0 "$BCFS" lock "$MNT"
expect 20 "$BCFS" audit verify "$MNT"
grep -q "seals can't be checked" <<<"$OUT" || fail "verify says: $OUT"
[ "$(tail -n 1 "$log" | jq -r 'select(.mac) | .event')" = locked ] || fail "not sealed: $(tail -n 1 "$log")"
expect 0 "$BCFS" unlock "$MNT"
expect 0 "$BCFS" audit verify --json "$MNT"
[ "$(jq '.sound and .seals_checked and .unsealed_end == 0' <<<"$OUT")" = true ] || fail "verify says: $OUT"
vol_umount
expect 0 "$BCFS" audit verify "$VOL"

# A volume whose key is not there: no seals.
mv "$KEYS" "$KEYS.away"
expect 20 "$BCFS" audit verify "$VOL"
mv "$KEYS.away" "$KEYS"

lines=$(wc -l <"$log")
[ "$lines" -ge 5 ] || fail "only $lines lines"
cp "$log" "$T/good"
named()
{
	expect 4 "$BCFS" audit verify "$VOL"
	grep -q "NOT SOUND: .*\.log, line $1: $2" <<<"$OUT" || fail "want line $1 $2: $OUT"
	cp "$T/good" "$log"
}
sed -i '3s/"time":"2/"time":"3/' "$log"
named 3 changed
sed -i 2d "$log"
named 2 removed
sed -i 2p "$log"
named 3 inserted
sed -i '$d' "$log"
named "$lines" "cut off"
truncate -s -10 "$log"
named "$lines" "cut off"
rm "$log"
expect 4 "$BCFS" audit verify "$VOL"
cp "$T/good" "$log"
expect 0 "$BCFS" audit verify "$VOL"

# Another place, and nowhere.
mkdir -m 700 "$T/audit"
vol_mount "audit_dir=$T/audit"
until_true 30 grep -q '"event":"mount"' "$T/audit/$(basename "$log")"
vol_umount
expect 0 "$BCFS" audit verify --audit-dir "$T/audit" "$VOL"
cmp "$T/good" "$log" || fail "the usual log was written to"
expect 21 "$BCFS" audit show --audit-dir "$T/nothing-here" "$VOL"
expect 2 "$BCFS" audit look "$VOL"
expect 2 "$BCFS" audit show --last 0 "$VOL"
