#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# LONG: 1200
# BACKING: ext4 xfs
# VARIANTS: release asan tsan
#
# Random operations by several threads, each checked against a plain directory; all again after a remount.
. "$(dirname "$0")/../lib/common.sh"

use_backing 3G
mkdir "$(dirname "$VOL")/model"
model=$(dirname "$VOL")/model
vol_init
ops=6000
sanitized && ops=600
[ -z "$LONG" ] || ops=200000
seed=${BCFS_SEED:-$(date +%s)}
for shared in "" --shared; do
	vol_mount
	mkdir "$MNT/run$shared" "$model/run$shared"
	# shellcheck disable=SC2086
	"$TOOLS/fsmodel" --phase run --seed "$seed" --ops $ops --threads 4 $shared "$MNT/run$shared" "$model/run$shared"
	vol_umount
	vol_mount
	"$TOOLS/fsmodel" --phase verify --seed "$seed" "$MNT/run$shared" "$model/run$shared"
	check_sound
	vol_umount
done
