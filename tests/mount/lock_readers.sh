#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# LONG: 900
# VARIANTS: release tsan
#
# Readers at full speed, in all the ways there are, while the kernel knows 8,000 inodes (LONG: 100,000, and 1,000
# readers as well): none of them gets anything after the lock is told to be there. Both transports.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/lock.sh"

need_root
inodes=8000 crowds=14
[ -z "$LONG" ] || inodes=100000 crowds="14 1000"
sanitized && inodes=2000 crowds=14
transports=no_io_uring
fuse_uring_on && transports="no_io_uring io_uring"
vol_init
now()
{
	python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME))'
}
known()
{
	[ "$(status_field counters.inodes)" -ge "$inodes" ]
}
filled=
for transport in $transports; do
	vol_mount "$transport"
	if [ -z "$filled" ]; then
		for i in $(seq 0 7); do head -c 1100000 /dev/urandom >"$MNT/file$i"; done
		ln -s file0 "$MNT/link"
		python3 - "$MNT/many" "$inodes" <<'END'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
os.mkdir(top)
for i in range(count):
    if i % 1000 == 0:
        os.mkdir(f"{top}/{i // 1000}")
    with open(f"{top}/{i // 1000}/{i}", "w") as f:
        f.write("content of one page " * 50)
END
		filled=1
	fi
	for readers in $crowds; do
		find "$MNT/many" -type f -exec cat {} + >/dev/null
		known || fail "the kernel knows $(status_field counters.inodes) inodes only"
		mkfifo "$T/to" "$T/from"
		"$TOOLS/lastread" "$MNT" "$readers" <"$T/to" >"$T/from" &
		reader=$!
		exec {to}>"$T/to" {from}<"$T/from"
		read -r -t 600 line <&"$from" || fail "the readers do not get through"
		[ "$line" = ready ] || fail "$line"
		began=$(now)
		vol_lock
		ended=$(now)
		sleep 0.5 # what came late would have to be seen
		exec {to}>&-
		cat <&"$from" >"$T/last"
		wait "$reader" || fail "$(cat "$T/last")"
		exec {from}>&-
		rm "$T/to" "$T/from"
		while read -r word way time; do
			[ "$word" = last ] || continue
			[ "$time" -gt 0 ] || fail "nobody got through: $way"
			[ "$time" -lt "$ended" ] || fail "$way: read $(((time - ended) / 1000)) us after the lock"
		done <"$T/last"
		[ "$(sed -n 's/^refused //p' "$T/last")" -gt 0 ] || fail "nothing was refused"
		python3 - "$T/last" "$began" "$ended" <<'END'
import sys
last = [line.split() for line in open(sys.argv[1]) if line.startswith("last")]
began, ended = map(int, sys.argv[2:])
print("lock took %.0f ms; last success of each way after its begin, in ms:" % ((ended - began) / 1e6),
      {way: round((int(t) - began) / 1e6, 1) for _, way, t in last})
END
		[ -z "$LONG" ] || "$BCFS" revocation-report "$MNT"
		vol_unlock
	done
	for i in $(seq 0 7); do cat "$MNT/file$i"; done >/dev/null
	check_sound
	vol_umount
done
