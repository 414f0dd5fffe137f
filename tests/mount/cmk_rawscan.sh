#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# BACKING: ext4 xfs
#
# The bytes of a bare managed envelope are on the disk before "key set" and nowhere on it afterwards: not in free blocks,
# not in the journal. Unmounted and mounted, with the key store and with a key file that stays the same.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
use_backing "$([ "$BACKING" = xfs ] && echo 320M || echo 64M)" # XFS wants 300 MiB at least
emu_start

# wrapped_key: what is secret about the bare envelope, as it stands in the descriptor
wrapped_key()
{
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["envelope"]["volume_key"])' "$VOL/blobcryptfs.json"
}

# on_disk NEEDLE: how often it is on the block device
on_disk()
{
	sync -f "$VOL"
	{ LC_ALL=C grep -aoF -- "$1" "$T/disk.img" || true; } | wc -l
}

# gone NEEDLE WHEN
gone()
{
	local n
	n=$(on_disk "$1")
	[ "$n" = 0 ] || fail "$2: the old wrapped key is on the disk $n times"
}

vol_init
mkdir "$T/plain"
for i in 1 100 10000 100000; do
	head -c "$i" /dev/urandom >"$T/plain/$i"
done
vol_mount
cp -a "$T/plain" "$MNT/tree"
vol_umount
needle=$(wrapped_key)
[ "$(on_disk "$needle")" -ge 2 ] || fail "the scan does not find what is there"
key_set "$(emu_uri)"
gone "$needle" "key set"

# Every bare envelope of a whole life, and those of a mounted volume, too.
expect 0 "$BCFS" key off "$VOL"
second=$(wrapped_key)
[ "$(on_disk "$second")" -ge 2 ] || fail "the scan does not find the second one"
expect 0 "$BCFS" key rotate "$VOL"
gone "$second" "key rotate of a managed key"
second=$(wrapped_key)
vol_mount
key_set "$(emu_uri)"
gone "$second" "key set on a mounted volume"
expect 0 "$BCFS" key rotate --managed "$MNT"
expect 0 "$BCFS" key off "$MNT"
third=$(wrapped_key)
key_set "$(emu_uri)"
diff -r "$T/plain" "$MNT/tree" || fail "the files differ"
vol_umount
for old in "$needle" "$second" "$third"; do
	gone "$old" "the end"
done

# A key file: its envelopes would open for ever.
rm -rf "$VOL"
(umask 077 && openssl rand -hex 32 >"$T/file.key")
vol_init --managed-key "file:$T/file.key"
needle=$(wrapped_key)
key_set "$(emu_uri)"
gone "$needle" "key set with a key file"
