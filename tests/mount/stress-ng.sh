#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 200
# BACKING: ext4
# SANITIZERS: asan
#
# The filesystem stressors of stress-ng, with verification.
. "$(dirname "$0")/../lib/common.sh"

need stress-ng
use_backing
vol_init
vol_mount
each=1
[ -z "$LONG" ] || each=20
known=$(stress-ng --stressors)
ran=0
for s in access chdir chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl file-ioctl filename flock \
	fpunch fstat getdent hdd inode-flags io iomix link locka lockf lockofd mknod mmap open readahead rename \
	revio seek sendfile symlink sync-file touch truncate unlink utime verity xattr; do
	grep -qw -- "$s" <<<"$known" || continue
	rc=0
	stress-ng --temp-path "$MNT" --"$s" 2 --timeout $each --verify --oomable --metrics-brief \
		>"$T/out" 2>&1 || rc=$?
	# 0 success; 3, 4: the stressor can't run here
	case $rc in
	0) ran=$((ran + 1)) ;;
	3 | 4) echo "stressor $s does not run here" ;;
	*) fail "stressor $s: exit code $rc: $(tail -n 20 "$T/out")" ;;
	esac
done
[ "$ran" -ge 15 ] || fail "only $ran stressors ran"
echo "$ran stressors ran"
[ "$(status_field "$MNT" .counters.damage)" = 0 ] || fail "damage was counted"
vol_umount
