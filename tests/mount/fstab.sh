#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# mount(8), fstab lines with the usual options, mount -a, remount, findmnt and umount behave as for
# any other filesystem; an unknown option is refused by its name.
. "$(dirname "$0")/../lib/common.sh"

need_isolation
need findmnt
# mount(8) looks for its helpers in /sbin only: it gets one with ours on top.
mkdir "$T/upper" "$T/work"
mount -t tmpfs layer "$T/upper"
mkdir "$T/upper/upper" "$T/upper/work"
sbin=$(readlink -f /sbin)
mount -t overlay -o "lowerdir=$sbin,upperdir=$T/upper/upper,workdir=$T/upper/work" overlay "$sbin" ||
	skip "no overlay can be mounted over /sbin"
rm -f /sbin/mount.blobcryptfs /sbin/mount.fuse.blobcryptfs
if [ -e "$SRC/fs/mount.blobcryptfs" ]; then
	make -s -C "$SRC" install PREFIX="$T/usr" >>"$LOG/install.log" 2>&1 || fail "make install: $(tail -n 3 "$LOG/install.log")"
	[ -x /sbin/mount.blobcryptfs ] && [ -x /sbin/mount.fuse.blobcryptfs ] || fail "make install gives no mount helpers"
	PATH=$T/usr/bin:$PATH
else
	ln -s "$BCFS" /sbin/mount.blobcryptfs
	ln -s "$BCFS" /sbin/mount.fuse.blobcryptfs
fi

vol_init
mkdir "$T/mnt2"
good()
{
	expect 0 "$@"
}
mounted_with()
{
	local word options
	options=,$(findmnt -n -o OPTIONS "$MNT"),
	for word in ${1//,/ }; do
		[[ $options == *",$word,"* ]] || fail "$word is not among the options $options"
	done
}

good mount -t blobcryptfs "$VOL" "$MNT"
[ "$(findmnt -n -o FSTYPE,SOURCE "$MNT" | tr -s ' ')" = "fuse.blobcryptfs $VOL" ] || fail "findmnt: $(findmnt -n "$MNT")"
echo a >"$MNT/a"
good umount "$MNT"
[ -z "$(findmnt "$MNT")" ] || fail "still mounted after umount"

good mount -t fuse.blobcryptfs -o noexec,nodev,nosuid,noatime "$VOL" "$MNT"
mounted_with noexec,nodev,nosuid,noatime,rw
cp /bin/true "$MNT/true"
"$MNT/true" 2>/dev/null && fail "noexec has no effect"
good mount -o remount,ro "$MNT"
mounted_with ro,noexec,nodev
touch "$MNT/b" 2>/dev/null && fail "remount,ro has no effect"
good mount -o remount,rw "$MNT"
mounted_with rw
touch "$MNT/b"
good umount "$MNT"

# An fstab line, with everything that other programs read in one.
options=rw,noexec,nosuid,nodev,allow_other,default_permissions,nofail,_netdev,noauto,x-systemd.automount
options=$options,x-systemd.requires=network-online.target,x-systemd.device-timeout=10,x-gvfs-hide,comment=ours,attr_timeout=2
cat >"$T/fstab" <<F
# a comment
$VOL $MNT fuse.blobcryptfs $options 0 0
F
good mount -T "$T/fstab" "$MNT"
mounted_with rw,noexec,nosuid,nodev
[ "$(cat "$MNT/a")" = a ] || fail "no content"
good umount "$MNT"
sed -i 's/,noauto,/,/' "$T/fstab"
good mount -a -T "$T/fstab"
mounted_with rw,noexec,nosuid,nodev
good mount -a -T "$T/fstab" # is there already
[ "$(grep -c " $MNT fuse.blobcryptfs" /proc/self/mounts)" = 1 ] || fail "mounted more than once"
good umount "$MNT"
printf '%s %s blobcryptfs ro,uid=12345,gid=12345,umask=077 0 0\n' "$VOL" "$MNT" >"$T/fstab"
good mount -a -T "$T/fstab"
mounted_with ro
[ "$(stat -c '%u %g %a' "$MNT/a")" = "12345 12345 700" ] || fail "uid, gid, umask: $(stat -c '%u %g %a' "$MNT/a")"
good umount "$MNT"

# Errors come through mount(8) with their sentence; nofail keeps the others going.
expect 1 mount -t blobcryptfs -o colour=red "$VOL" "$MNT"
[[ $OUT == *'"colour"'* ]] || fail "an unknown option: $OUT"
expect 1 mount -t blobcryptfs -o atrr_timeout=1 "$VOL" "$MNT"
[[ $OUT == *'"atrr_timeout"'*'"attr_timeout"'* ]] || fail "a misspelled option: $OUT"
expect 32 mount -t blobcryptfs "$T/nowhere" "$MNT"
[[ $OUT == *"$T/nowhere"*"does not exist"* ]] || fail "a missing directory: $OUT"
[ -z "$(findmnt "$MNT")" ] || fail "mounted in spite of errors"
vol_init_2=$T/vol2
mkdir "$vol_init_2"
expect 0 "$BCFS" init --managed-key "store:$KEYS" "$vol_init_2"
printf '%s %s blobcryptfs nofail 0 0\n%s %s blobcryptfs defaults 0 0\n' "$T/nowhere" "$MNT" "$vol_init_2" "$T/mnt2" >"$T/fstab"
mount -a -T "$T/fstab" >"$T/out" 2>&1 || true
mountpoint -q "$T/mnt2" || fail "the second line was not mounted: $(cat "$T/out")"
good umount "$T/mnt2"

# The helper's own switches.
good mount -f -t blobcryptfs "$VOL" "$MNT"
[ -z "$(findmnt "$MNT")" ] || fail "mount -f has mounted"
good mount -s -t blobcryptfs -o colour=red "$VOL" "$MNT"
good umount "$MNT"
good mount -v -r -t blobcryptfs "$VOL" "$MNT"
mounted_with ro
good umount "$MNT"
good mount --bind "$VOL" "$VOL" # a path that is a mount point itself
good mount -t blobcryptfs "$VOL" "$MNT"
good umount "$MNT"
until_true 20 umount "$VOL" || fail "$VOL stays busy" # as long as the daemon has it
