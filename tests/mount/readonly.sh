#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
#
# A read-only mount: whatever writes gets EROFS, everything can be read, and nothing at all changes
# below. And remount,ro of a mount that is in use.
. "$(dirname "$0")/../lib/common.sh"

need_root
vol_init
vol_mount
mkdir "$MNT/dir"
echo text >"$MNT/dir/file"
ln -s target "$MNT/link"
setfattr -n user.a -v b "$MNT/dir/file"
vol_umount
# The lock file is an exception: it says who has the volume.
below()
{
	(cd "$VOL" && find . -mindepth 1 ! -name blobcryptfs.lock -printf '%p %y %m %U:%G %s %T@ %l %n\n' \
		-type f -exec sha256sum {} + | LC_ALL=C sort)
	getfattr -R -h -d -m - "$VOL" 2>/dev/null
}
before=$(below)
keys=$(digest "$KEYS")
vol_mount ro
refused()
{
	local out
	out=$(LC_ALL=C "$@" 2>&1) && fail "succeeded on a read-only mount: $*"
	[[ $out == *"Read-only file system"* ]] || fail "$*: $out"
}
refused touch "$MNT/new"
refused mkdir "$MNT/newdir"
refused rm -f "$MNT/dir/file"
refused rmdir "$MNT/dir"
refused mv "$MNT/dir/file" "$MNT/moved"
refused ln "$MNT/dir/file" "$MNT/hard"
refused ln -s x "$MNT/soft"
refused mknod "$MNT/fifo" p
refused chmod 600 "$MNT/dir/file"
refused chown 1:1 "$MNT/dir/file"
refused truncate -s 1 "$MNT/dir/file"
refused touch -d yesterday "$MNT/dir/file"
refused setfattr -n user.c -v d "$MNT/dir/file"
refused setfattr -x user.a "$MNT/dir/file"
refused setfacl -m u:1:r "$MNT/dir/file"
refused bash -c "echo more >>'$MNT/dir/file'"
[ "$(cat "$MNT/dir/file")" = text ] || fail "the file can't be read"
[ "$(readlink "$MNT/link")" = target ] || fail "the link can't be read"
[ "$(getfattr --only-values -n user.a "$MNT/dir/file" 2>/dev/null)" = b ] || fail "the xattr can't be read"
[ "$(ls "$MNT/dir")" = file ] || fail "the directory can't be read"
[ "$(status_field session.read_only)" = true ] || fail "status does not say read-only"
[[ ,$(findmnt -n -o OPTIONS "$MNT"), == *,ro,* ]] || fail "the mount table does not say ro"
expect 15 "$BCFS" mount -o remount,rw "$MNT"
[[ $OUT == *"Unmount it and mount it again"* ]] || fail "remount,rw of a read-only mount: $OUT"
vol_umount
[ "$(below)" = "$before" ] || fail "a read-only mount has changed below: $(diff <(echo "$before") <(below) | head -n 5)"
[ "$(digest "$KEYS")" = "$keys" ] || fail "a read-only mount has changed the key store"

# remount: refused while a file is open for writing; afterwards nothing can be written.
vol_mount
exec 9>>"$MNT/dir/file"
expect 18 "$BCFS" mount -o remount,ro "$MNT"
[[ $OUT == *"$MNT"*open* ]] || fail "remount while in use: $OUT"
echo more >&9
exec 9>&-
expect 0 "$BCFS" mount -o remount,ro "$MNT"
refused touch "$MNT/new"
[ "$(cat "$MNT/dir/file")" = $'text\nmore' ] || fail "the file is $(cat "$MNT/dir/file")"
expect 0 "$BCFS" mount -o remount,rw "$MNT"
touch "$MNT/new"
vol_umount

# Below a read-only filesystem only a read-only mount is possible.
mount --bind "$VOL" "$VOL"
mount -o remount,bind,ro "$VOL"
expect 12 "$BCFS" mount "$VOL" "$MNT"
[[ $OUT == "blobcryptfs: "*"-o ro"* ]] || fail "on a read-only filesystem: $OUT"
vol_mount ro
[ "$(cat "$MNT/dir/file")" = $'text\nmore' ] || fail "the file is $(cat "$MNT/dir/file")"
vol_umount
umount "$VOL"
