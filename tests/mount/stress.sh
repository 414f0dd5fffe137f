#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 240
# LONG: 1800
# BACKING: ext4
# VARIANTS: release asan tsan
#
# stress-ng's filesystem stressors, each one it has of the list, with its own verification.
. "$(dirname "$0")/../lib/common.sh"

need_root
need stress-ng
seconds=1
[ -z "$LONG" ] || seconds=20
use_backing 8G
vol_init
vol_mount
known=" $(stress-ng --stressors | tr '\n' ' ') "
stressors="access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl fiemap file-ioctl filename \
flock fpunch fsize fstat getdent hdd inode-flags io iomix lease link locka lockf lockofd metamix mknod mmap mmapfiles open \
readahead rename revio seek sendfile splice symlink sync-file touch truncate unlink utime verity xattr"
# Under a sanitizer those that have many threads of the daemon at work on the same things.
sanitized && stressors="chmod copy-file dentry dir getdent hdd iomix link lockf metamix open rename seek touch unlink utime xattr"
ran=0
for name in $stressors; do
	[[ $known == *" $name "* ]] || continue
	case $name in
	copy-file | readahead | seek) small=(--"$name-bytes" 128m) ;;
	*) small=() ;;
	esac
	[ "$name" != seek ] || small=(--seek-size 16m)
	[ "$name" != hdd ] || small=(--hdd-bytes 16m)
	[ "$name" != dirdeep ] || small=(--dirdeep-inodes 500)
	rc=0
	stress-ng --temp-path "$MNT" --"$name" 2 --timeout "$seconds" --verify --oomable "${small[@]}" >"$T/stress.out" 2>&1 || rc=$?
	case $rc in
	0) ran=$((ran + 1)) ;;
	3 | 4) echo "$name is not for this machine" ;;
	*) fail "stress-ng --$name: exit code $rc: $(grep -v -e 'info:' -e 'setting to' "$T/stress.out" | head -n 10)" ;;
	esac
	kill -0 "$DAEMON" || fail "the daemon has died under --$name"
done
echo "$ran stressors ran"
[ "$ran" -ge 10 ] || fail "only $ran stressors ran"
check_sound
vol_remount
left=$(find "$MNT" -mindepth 1 | head -n 5)
[ -z "$left" ] || fail "left over: $left"
vol_umount
