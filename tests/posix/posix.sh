#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 180
# BACKING: ext4 xfs
# VARIANTS: release asan tsan
#
# Every system call has to do what it does on plain ext4, whatever the volume is on.
. "$(dirname "$0")/../lib/common.sh"

[ "$(id -u)" = 0 ] || skip "changing users needs root"
use_backing 8G
make_loop ext4 8G "$T/reference"
vol_init
vol_mount
mkdir "$T/reference/tree" "$MNT/tree"
chmod 755 "$T/reference/tree" "$MNT/tree"
if [ "$BACKING" = xfs ]; then
	# how far a file may reach and which device numbers there are is the filesystem's own affair
	mapfile -t groups < <("$TOOLS/posixdiff" --list | grep -vxE 'limits|special')
	tests=()
	for group in "${groups[@]}"; do tests+=(--test "$group"); done
	mkdir "$T/disk/tree"
	"$TOOLS/posixdiff" --test special "$T/disk/tree" "$MNT/tree"
	"$TOOLS/posixdiff" "${tests[@]}" "$T/reference/tree" "$MNT/tree"
else
	"$TOOLS/posixdiff" "$T/reference/tree" "$MNT/tree"
fi
vol_umount
