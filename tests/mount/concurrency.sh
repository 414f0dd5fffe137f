#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# LONG: 300
# VARIANTS: release asan tsan
#
# Many threads create, rename, link, unlink, write, truncate, read and list in the same directories;
# what each of them sees has to make sense at any time, and what is left at the end, too.
. "$(dirname "$0")/../lib/common.sh"

need_root
seconds=6
[ -z "$LONG" ] || seconds=120
use_backing 2G
vol_init
vol_mount
"$TOOLS/crowd" "$MNT" "$seconds" 12
check_sound
vol_remount
"$TOOLS/crowd" --check "$MNT"
check_sound
vol_umount
