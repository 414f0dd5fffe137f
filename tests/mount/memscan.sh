#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# When the daemon ends, no key, no content and no name is left in its memory; the same scanner sees
# into it while it runs. And it can't dump core.
. "$(dirname "$0")/../lib/common.sh"

need_root
[ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 3 ] || skip "ptrace is turned off here"
hex()
{
	od -An -v -tx1 | tr -d ' \n'
}
for suite in "" --infrastructure-encryption; do
	VOL=$T/vol$suite
	# shellcheck disable=SC2086
	vol_init $suite
	key=$(cat "$KEYS/$(status_field volume "$VOL")/v1.key")
	content=$(printf '%s-in-content-%04d' "$MARK" 7)
	name=$(printf '%s-in-name' "$MARK")
	target=$(printf '%s-in-target' "$MARK")
	value=$(printf '%s-in-xattr' "$MARK")
	{
		echo "key $key"
		echo "key-in-hex $(printf %s "$key" | hex)"
		echo "half-key ${key:0:32}"
		echo "content $(printf %s "$content" | hex)"
		echo "name $(printf %s "$name" | hex)"
		echo "target $(printf %s "$target" | hex)"
		echo "xattr $(printf %s "$value" | hex)"
	} >"$T/needles"
	echo "path $(printf %s "$MNT" | hex)" >"$T/control"
	"$TOOLS/memscan" --at-exit "$T/found" "$T/needles" "$BCFS" mount -f "$VOL" "$MNT" >>"$LOG/daemon.log" 2>&1 &
	DAEMON=$!
	DAEMON_PIDS+=("$DAEMON")
	until_true 60 mounted_or_dead "$MNT" "$DAEMON"
	mountpoint -q "$MNT" || fail "the mount does not come up: $(tail -n 3 "$LOG/daemon.log")"
	daemon=$(status_field pid)
	# Everything the program does with plaintext, so that all buffers have been in use.
	for i in $(seq 40); do
		for n in $(seq 300); do printf '%s-in-content-%04d\n' "$MARK" 7; done >"$MNT/$name-$i"
		setfattr -n "user.$name" -v "$value" "$MNT/$name-$i"
		ln -s "$target" "$MNT/$name-link-$i"
	done
	sync -f "$MNT"
	for i in $(seq 40); do
		dd if="$MNT/$name-$i" iflag=nocache count=0 status=none # out of the kernel's cache
		cat "$MNT/$name-$i" >/dev/null
	done
	ls -lR "$MNT" >/dev/null
	getfattr -R -h -d "$MNT" >/dev/null 2>&1
	[ "$(grep -c . "$MNT/$name-40")" = 300 ] || fail "content is wrong"
	mv "$MNT/$name-1" "$MNT/$name-renamed"
	rm "$MNT/$name-2"
	# No core file, and nobody but root may look into it.
	[ "$(awk '/^Max core file size/ { print $5, $6 }' "/proc/$daemon/limits")" = "0 0" ] ||
		fail "a core file may be written: $(grep core "/proc/$daemon/limits")"
	[ "$(stat -c %u "/proc/$daemon/mem")" = 0 ] || fail "/proc/PID/mem belongs to somebody"
	"$BCFS" umount "$MNT" >>"$LOG/umount.log" 2>&1 || fail "umount: $(tail -n 3 "$LOG/umount.log")"
	rc=0
	wait "$DAEMON" || rc=$?
	[ "$rc" = 0 ] || fail "the daemon ended with $rc"
	scanned=$(sed -n 's/^scanned \([0-9]*\) bytes.*/\1/p' "$T/found")
	[ "${scanned:-0}" -gt 1000000 ] || fail "the scanner saw only ${scanned:-no} bytes: $(cat "$T/found")"
	! grep -q '^found' "$T/found" || fail "left in memory at the end ($suite): $(grep '^found' "$T/found" | sort | uniq -c -w 12 | head -n 20)"
done

# The scanner itself: it sees into the running daemon. The managed key is not there, since it is of
# no use once the volume key is unwrapped.
vol_mount
printf 'x%.0s' $(seq 100) >"$MNT/file"
"$TOOLS/memscan" --pid "$DAEMON" "$T/control" >"$T/running" && fail "the scanner does not find the mount point's path: $(cat "$T/running")"
grep -q '^found path' "$T/running" || fail "the scanner does not find the mount point's path: $(cat "$T/running")"
"$TOOLS/memscan" --pid "$DAEMON" "$T/needles" >"$T/running" || true
! grep -E '^found (key|half-key)' "$T/running" || fail "the managed key stays in memory while mounted"
vol_umount
