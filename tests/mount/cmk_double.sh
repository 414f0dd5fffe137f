#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
#
# Double encryption: with a customer's key on, the vault without the managed key opens nothing, nor does the managed key
# without the vault, nor an older descriptor with either; and the bare managed envelope is nowhere on the disk any more.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
emu_start
# A filesystem of its own, so that freed blocks can be looked through too.
BACKING=ext4 use_backing 64M
vol_init
vol_mount
echo "$MARK" >"$MNT/file"
vol_umount
wrapped()
{
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["envelope"]["volume_key"])' "$VOL/blobcryptfs.json"
}
bare=$(wrapped)
mkdir "$T/old"
cp "$VOL"/blobcryptfs.json* "$T/old"
cp -a "$KEYS" "$T/oldkeys"
sync
grep -q -a "$bare" "$T/disk.img" || fail "the test does not find the envelope on the disk"

key_set "$(emu_uri)"
one_envelope customer
umount "$T/disk" # everything is in the image then
grep -c -a "$bare" "$T/disk.img" && fail "the bare managed envelope is still on the disk"
mount -o loop "$T/disk.img" "$T/disk"

# The managed key alone. Without a network it is tried again for some seconds, so that runs beside the others.
cp -a "$VOL" "$T/alone"
cp -a "$KEYS" "$T/alonekeys"
mkdir "$T/alonemnt"
(trap - EXIT; expect 6 unshare -n "$BCFS" mount --managed-key "store:$T/alonekeys" "$T/alone" "$T/alonemnt") >"$LOG/alone" 2>&1 &
alone=$!

# refused CODE WHAT: a mount is
refused()
{
	expect "$1" "$BCFS" mount "$VOL" "$MNT"
	mountpoint -q "$MNT" && fail "mounted without $2"
	[ -n "$OUT" ] || fail "no word of why, without $2"
}

# The vault alone
mv "$KEYS" "$T/away"
refused 6 "the managed key"
cp -a "$T/oldkeys" "$KEYS"
refused 6 "the managed key of now"
rm -r "$KEYS"
mv "$T/away" "$KEYS"
# The vault says no
emu key disable v1 k1 >/dev/null
refused 8 "the vault's yes"
emu key enable v1 k1 >/dev/null
emu revoke v1 vm >/dev/null
refused 8 "the role"
emu grant v1 vm >/dev/null
# The descriptor from before, with the managed key of now
mkdir "$T/new"
cp -p "$VOL"/blobcryptfs.json* "$T/new"
cp "$T/old"/* "$VOL"
refused 6 "the managed key that was replaced"
cp -p "$T/new"/* "$VOL"

# Another volume's layer: neither key opens it
mkdir "$T/vol2"
"$BCFS" init --managed-key "store:$KEYS" "$T/vol2" >/dev/null
expect 0 "$BCFS" key set --cloud emulator "$(emu_uri)" "$T/vol2"
cp "$T/vol2"/blobcryptfs.json* "$VOL"
expect 0 "$BCFS" key verify "$VOL" # it is that volume, whole
cp -p "$T/new"/* "$VOL"
python3 - "$VOL" "$T/vol2" <<'PY'
import json, os, sys
mine, other = (json.load(open(os.path.join(d, "blobcryptfs.json"))) for d in sys.argv[1:])
mine["envelope"]["managed"] = other["envelope"]["managed"]
for name in ("blobcryptfs.json", "blobcryptfs.json.bak"):
    with open(os.path.join(sys.argv[1], name), "w") as f:
        json.dump(mine, f)
PY
refused 4 "the right layer"
cp -p "$T/new"/* "$VOL"

vol_mount
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is gone"
vol_umount
expect 0 "$BCFS" key off "$VOL"
emu port close vault
vol_mount
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is gone after \"key off\""
vol_umount
wait "$alone" || fail "without the vault: $(cat "$LOG/alone")"
