#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
#
# While a volume is locked, its daemon's memory has no key of it, no key schedule and no plaintext, though all of that
# is found before; nor does the kernel cache a page of it. For both suites and both transports.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/lock.sh"

need_root
[ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 3 ] || skip "ptrace is turned off here"
hex()
{
	od -An -v -tx1 | tr -d ' \n'
}
content=$(printf '%s-in-content-%04d' "$MARK" 7)
name=$MARK-in-name
target=$MARK-in-target
value=$MARK-in-xattr
# Everything the program does with plaintext, by several at once, so that many threads and buffers have seen it.
use()
{
	local i
	for i in $(seq "$1" 4 40); do
		for _ in $(seq 300); do printf '%s-in-content-%04d\n' "$MARK" 7; done >"$MNT/$name-$i"
		setfattr -n "user.$name" -v "$value" "$MNT/$name-$i"
		ln -s "$target" "$MNT/$name-link-$i"
		mkdir "$MNT/$name-dir-$i"
		dd if="$MNT/$name-$i" iflag=direct bs=4k of=/dev/null status=none
		readlink "$MNT/$name-link-$i" >/dev/null
	done
	ls -lR "$MNT" >/dev/null
	getfattr -R -h -d "$MNT" >/dev/null 2>&1
	dd if="$MNT/big" bs=1M iflag=direct of=/dev/null status=none
}
scan()
{
	"$TOOLS/memscan" --pid "$DAEMON" "$T/needles" >"$T/found" && rc=0 || rc=$?
	[ "$rc" != 2 ] || fail "memscan: $(cat "$T/found")"
	scanned=$(sed -n 's/^scanned \([0-9]*\) bytes.*/\1/p' "$T/found")
	[ "${scanned:-0}" -gt 1000000 ] || fail "the scanner saw only ${scanned:-no} bytes"
}
transports=no_io_uring
fuse_uring_on && transports="no_io_uring io_uring"
for suite in "" --infrastructure-encryption; do
	VOL=$T/vol$suite
	# shellcheck disable=SC2086
	vol_init $suite
	for transport in $transports; do
		vol_mount "$transport"
		rm -rf "${MNT:?}"/*
		yes "$content" | head -c 6M >"$MNT/big" || true
		for i in 1 2 3 4; do use "$i" & users[i]=$!; done
		wait "${users[@]}"
		{
			/usr/bin/python3 "$SRC/tests/lib/keys.py" "$VOL" "$KEYS/$(status_field volume)/v1.key" 2
			echo "content $(printf %s "$content" | hex)"
			echo "name $(printf %s "$name" | hex)"
			echo "target $(printf %s "$target" | hex)"
			echo "xattr $(printf %s "$value" | hex)"
		} >"$T/needles"
		for i in $(seq 20); do : >"$MNT/$name-last-$i"; done
		scan
		for kind in content name name-mac name-enc content-0; do
			grep -q "^found $kind " "$T/found" || fail "$kind is not found while unlocked: $(cut -d' ' -f1,2 "$T/found" | sort | uniq -c)"
		done
		exec 5<"$MNT/big" 6<"$MNT/$name-1"
		cat <&5 >/dev/null
		[ "$("$SRC/tests/lib/cached.py" 5)" -gt 1000 ] || fail "the kernel does not cache what is read"
		vol_lock
		scan
		! grep -q '^found' "$T/found" ||
			fail "in memory while locked ($suite $transport): $(grep '^found' "$T/found" | sort | uniq -c -w 12 | head -n 20)"
		cached=$("$SRC/tests/lib/cached.py" 5 6)
		[ "$cached" = 0 ] || fail "the kernel caches $cached pages"
		# what is refused leaves nothing either
		for i in $(seq 20); do
			refused head -c 1 <&6
			refused cat "$MNT/$name-$i"
			refused mkdir "$MNT/$name-new-$i"
			refused tee -a "$MNT/$name-1" <<<"$content"
			refused ln -s "$target" "$MNT/$name-new"
		done
		scan
		! grep -q '^found' "$T/found" ||
			fail "after refused requests ($suite $transport): $(grep '^found' "$T/found" | sort | uniq -c -w 12 | head -n 20)"
		exec 5<&- 6<&-
		vol_unlock
		[ "$(grep -c . "$MNT/$name-40")" = 300 ] || fail "content is wrong after unlock"
		check_sound
		vol_umount
	done
done
