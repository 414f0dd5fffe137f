#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# BACKING: ext4
# SANITIZERS: asan tsan
#
# Random writes and reads by several jobs at once; every block read is verified by its checksum.
. "$(dirname "$0")/../lib/common.sh"

need fio
use_backing
vol_init
vol_mount
size=48m
[ -z "$LONG" ] || size=1g
sanitized && size=6m
for bs in 4k 1000-70000; do
	fio --minimal --directory="$MNT" --size=$size --numjobs=4 --group_reporting --verify=crc32c \
		--verify_fatal=1 --do_verify=1 --name="w$bs" --rw=randrw --bsrange="${bs/#4k/4k-4k}" --bs_unaligned \
		--ioengine=psync --end_fsync=1 >>"$T/fio" 2>&1 || fail "fio: $(tail -n 20 "$T/fio")"
done
fio --minimal --filename="$MNT/shared" --size=$size --numjobs=4 --group_reporting --name=shared --rw=randrw \
	--bs=4k --ioengine=mmap --verify=crc32c --verify_fatal=1 --offset_increment=25% --io_size=$size \
	--fallocate=none >>"$T/fio" 2>&1 || fail "fio, shared file: $(tail -n 20 "$T/fio")"
(cd "$MNT" && sha256sum -- *) >"$T/sums"
vol_remount
(cd "$MNT" && sha256sum --quiet -c "$T/sums") || fail "other content after a remount"
vol_umount
