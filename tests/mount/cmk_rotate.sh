#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# LONG: 3600
#
# Rotation writes the same few files whatever the number of files in the volume, and many rotations in a row of a
# mounted volume leave one envelope, one managed key, all data, and a sound audit log. Long: 1,000 rotations with
# 100,000 files.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
emu_start
files=300 rotations=10
[ -z "$LONG" ] || files=100000 rotations=1000

# changed: what the last rotation wrote, below the volume and in the store of keys
changed()
{
	(cd "$1" && find . -newer "$T/stamp" ! -name blobcryptfs.lock -type f | sort)
	find "$KEYS" -newer "$T/stamp" -type f -printf 'key store\n'
}

rotate()
{
	touch -d '1 second ago' "$T/stamp"
	emu key rotate v1 k1 >/dev/null
	expect 0 "$BCFS" key rotate "$1"
	[ "$(key_field id "$1")" = "$(emu -r kid key show v1 k1)" ] || fail "the newest version is not in use"
}

# An empty volume first
vol_init
key_set "$(emu_uri)"
find "$VOL" "$KEYS" -exec touch -d yesterday {} +
rotate "$VOL"
empty=$(changed "$VOL")
grep -q blobcryptfs.json <<<"$empty" || fail "the test does not see what a rotation writes: $empty"

vol_mount
python3 - "$MNT" "$files" <<'PY'
import os, sys
root, n = sys.argv[1], int(sys.argv[2])
for i in range(n):
    if i % 1000 == 0:
        os.mkdir(f"{root}/d{i // 1000}")
    with open(f"{root}/d{i // 1000}/f{i}", "w") as f:
        f.write(f"{i}\n")
PY
vol_umount
find "$VOL" "$KEYS" -exec touch -c -d yesterday {} +
before=$(data)
rotate "$VOL"
[ "$(changed "$VOL")" = "$empty" ] || fail "a rotation of $files files writes: $(changed "$VOL" | head -n 5)"

vol_mount
for ((i = 1; i <= rotations; i++)); do
	rotate "$MNT"
	[ $((i % 10)) != 0 ] || one_envelope customer
done
one_envelope customer
[ "$(cat "$MNT/d0/f7")" = 7 ] || fail "the mount does not read any more"
expect 0 "$BCFS" audit verify "$MNT"
[ "$(grep -c '"event":"customer_key_rotated"' "/var/log/blobcryptfs/$(status_field volume)".log* | awk -F: '{n += $NF} END {print n}')" = $((rotations + 2)) ] ||
	fail "the audit log does not have each rotation once"
expect 0 "$BCFS" key off "$MNT"
one_envelope managed
vol_remount
[ "$(find "$MNT" -type f | wc -l)" = "$files" ] || fail "there are $(find "$MNT" -type f | wc -l) files"
vol_umount
[ "$(data)" = "$before" ] || fail "a rotation has touched data"
expect 0 "$BCFS" audit verify "$VOL"
grep -q '^sound' <<<"$OUT" || fail "audit verify: $OUT"
