#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 180
# LONG: 900
# VARIANTS: release asan tsan
#
# stress-ng's filesystem stressors, all of those it has, with its own verification.
. "$(dirname "$0")/../lib/common.sh"

need_root
need stress-ng
seconds=1
[ -z "$LONG" ] || seconds=20
use_backing 8G
vol_init
vol_mount
known=" $(stress-ng --stressors) "
stressors="access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dup eventfd fallocate fault fcntl fiemap \
file-ioctl filename flock fpunch fsize fstat getdent hdd inode-flags inotify io iomix io-uring lease link locka lockf \
lockofd metamix mmapaddr mmapmany open procfs punch readahead rename seal seek sendfile splice symlink sync-file \
sync-load touch unlink utime verity xattr"
for name in $stressors; do
	[[ $known == *" $name "* ]] || continue
	case $name in procfs | seal | mmapaddr | mmapmany | sync-load | eventfd | fault | dup) continue ;; esac
	rc=0
	stress-ng --temp-path "$MNT" --$name 2 --timeout "$seconds" --verify --no-rand-seed --hdd-bytes 16m --fallocate-bytes 16m \
		--copy-file-bytes 16m --iomix-bytes 16m --seek-size 16m --sendfile-size 4m --readahead-bytes 16m \
		--sync-file-bytes 4m --dirdeep-inodes 500 --dentries 200 >"$T/stress.out" 2>&1 || rc=$?
	# 2, 3 and 4: nothing to do for it on this kernel or filesystem.
	case $rc in
	0) ;;
	3 | 4) echo "stress-ng --$name is not for this machine: $(grep -m 1 -i -E 'skip|not (supported|implemented)' "$T/stress.out" || true)" ;;
	*) fail "stress-ng --$name: exit code $rc: $(grep -v -E 'info:|setting to' "$T/stress.out" | head -n 10)" ;;
	esac
	kill -0 "$DAEMON" || fail "the daemon has died under --$name"
done
check_sound
vol_umount
vol_mount
left=$(ls -A "$MNT")
[ -z "$left" ] || fail "left over: $left"
vol_umount
