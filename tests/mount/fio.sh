#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# LONG: 600
# BACKING: ext4 xfs
# VARIANTS: release tsan
#
# fio: several jobs at once, random reads and writes of many sizes, what was written is verified,
# through the page cache, direct, and by mmap; what can be is verified again after a remount.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/fio.sh"

need_root
use_backing 8G
vol_init
vol_mount
fio_write
vol_remount
fio_verify
check_sound
vol_umount
