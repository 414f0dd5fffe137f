#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# BACKING: ext4 xfs
# VARIANTS: release asan
#
# Offsets beyond 4 GiB and up to 2 TiB in sparse files: contents, SEEK_HOLE and SEEK_DATA, punched
# holes, truncation, blocks in use.
. "$(dirname "$0")/../lib/common.sh"

need_root
use_backing 2G
vol_init
vol_mount
python3 "$SRC/tests/lib/bigfiles.py" write "$MNT"
vol_remount
python3 "$SRC/tests/lib/bigfiles.py" check "$MNT"
check_sound
vol_umount
