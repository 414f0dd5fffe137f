#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 240
# LONG: 1500
# BACKING: ext4 xfs
# VARIANTS: release asan tsan
#
# A tree of many files of every type comes back as it was: contents, modes, owners, times to the
# nanosecond, hard links, xattrs, ACLs.
. "$(dirname "$0")/../lib/common.sh"

need_root
need rsync setfacl
count=5000
[ -z "$LONG" ] || count=50000
if sanitized; then count=$((count / 12)); fi
use_backing 6G
mkdir -p "$T/source"
python3 "$SRC/tests/lib/make_tree.py" "$T/source" "$count"
vol_init
vol_mount
cp -a "$T/source" "$MNT/tree"
same_tree "$T/source" "$MNT/tree"
vol_remount
same_tree "$T/source" "$MNT/tree"
[ "$(find "$MNT/tree" -type f | wc -l)" -ge "$count" ] || fail "fewer than $count files"
# The other way round: rsync itself writes into the mount.

rsync -aHAX "$MNT/tree/" "$MNT/again/"
vol_remount
same_tree "$T/source" "$MNT/again"
check_sound
rm -rf "${MNT:?}"/*
vol_umount
left=$(find "$VOL" -mindepth 1 ! -name 'blobcryptfs.*' | head -n 5)
[ -z "$left" ] || fail "left below after everything was removed: $left"
