#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# BACKING: ext4 xfs
# VARIANTS: release asan
#
# Names of 1 to 255 bytes of any content, of files, directories and links; symlink targets of 1 to
# 4095 bytes. Nothing is left below when they are gone.
. "$(dirname "$0")/../lib/common.sh"

need_root
use_backing 2G
vol_init
vol_mount
python3 "$SRC/tests/lib/longnames.py" write "$MNT"
vol_remount
python3 "$SRC/tests/lib/longnames.py" check "$MNT"
check_sound
python3 "$SRC/tests/lib/longnames.py" remove "$MNT"
vol_umount
left=$(find "$VOL" -mindepth 1 ! -name 'blobcryptfs.*' | wc -l)
[ "$left" = 0 ] || fail "$left entries left over after everything was removed: $(find "$VOL" -mindepth 1 | head -n 5)"
