# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# fio with verification, for the tests that need load whose data is checked.

need fio
FIO_SIZE=16m
if sanitized; then FIO_SIZE=4m; fi
[ -z "$LONG" ] || FIO_SIZE=256m

fio_run()
{
	fio --directory="$MNT" --size="$FIO_SIZE" --verify=crc32c --verify_fatal=1 --verify_state_save=0 --group_reporting \
		--fallocate=none --minimal --output="$T/fio.out" --randrepeat=1 "$@" >"$T/fio.err" 2>&1 ||
		fail "fio $*: $(head -n 5 "$T/fio.err"; grep -v '^[23];' "$T/fio.out" | head -n 5)"
	! grep -q 'verify:' "$T/fio.err" "$T/fio.out" || fail "fio $*: $(grep -h verify: "$T/fio.err" "$T/fio.out" | head -n 5)"
}

fio_write()
{
	fio_run --name=mixed --rw=randrw --bs=16k --ioengine=psync --numjobs=4
	fio_run --name=uneven --rw=randwrite --bsrange=512-64k --bs_unaligned --ioengine=psync --numjobs=2
	fio_run --name=cached --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --numjobs=2 --fsync=64
	fio_run --name=direct --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --numjobs=2
	fio_run --name=mmap --rw=randrw --bs=4k --ioengine=mmap --numjobs=2
}

fio_verify()
{
	fio_run --name=cached --rw=randwrite --bs=4k --ioengine=libaio --numjobs=2 --fsync=64 --verify_only
	fio_run --name=direct --rw=randwrite --bs=4k --ioengine=libaio --numjobs=2 --verify_only
}
