#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 180
# BACKING: ext4 xfs
# VARIANTS: release asan tsan
#
# Every system call has to do what it does on the backing filesystem itself.
. "$(dirname "$0")/../lib/common.sh"

[ "$(id -u)" = 0 ] || skip "changing users needs root"
use_backing 8G
mkdir -p "$T/disk/reference"
vol_init
vol_mount
"$TOOLS/posixdiff" "$T/disk/reference" "$MNT"
vol_umount
