# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the tests of locked volumes.

# vol_lock, vol_unlock: return when it is so
vol_lock()
{
	"$BCFS" lock "$MNT" >>"$LOG/lock.log" 2>&1 || fail "lock: exit code $?: $(tail -n 3 "$LOG/lock.log")"
	[ "$(status_field gate)" = LOCKED ] || fail "the gate is $(status_field gate) after lock"
}

vol_unlock()
{
	"$BCFS" unlock "$MNT" >>"$LOG/lock.log" 2>&1 || fail "unlock: exit code $?: $(tail -n 3 "$LOG/lock.log")"
	[ "$(status_field gate)" = OPEN ] || fail "the gate is $(status_field gate) after unlock"
}

# refused COMMAND...: it fails because there is no key
refused()
{
	local out rc=0
	out=$(LC_ALL=C "$@" 2>&1 >/dev/null) || rc=$?
	[ "$rc" != 0 ] || fail "this works while locked: $*"
	[[ $out == *"Required key not available"* ]] || fail "while locked: $*: $out"
}

# ---- what is in the daemon's memory: lock_memory.sh and lock_memory_cmk.sh ----

# mem_start: skips where it can't be read; sets the texts to look for, and $transports
mem_start()
{
	need_root
	[ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 3 ] || skip "ptrace is turned off here"
	content=$MARK-in-content-0007
	name=$MARK-in-name
	target=$MARK-in-target
	value=$MARK-in-xattr
	# shellcheck disable=SC2034 # of the tests
	transports=no_io_uring
	# shellcheck disable=SC2034
	fuse_uring_on && transports="no_io_uring io_uring"
	return 0
}

mem_hex()
{
	printf %s "$1" | od -An -v -tx1 | tr -d ' \n'
}

mem_user()
{
	local i
	for i in $(seq "$1" 4 40); do
		for _ in $(seq 300); do printf '%s\n' "$content"; done >"$MNT/$name-$i"
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

# mem_use: everything the program does with plaintext, by several at once, so that many threads and buffers have seen it
mem_use()
{
	local i users
	rm -rf "${MNT:?}"/*
	yes "$content" | head -c 6M >"$MNT/big" || true
	for i in 1 2 3 4; do mem_user "$i" & users[i]=$!; done
	wait "${users[@]}"
}

# mem_needles KEK-FILE [DESCRIPTOR]: after mem_use, what to look for
mem_needles()
{
	/usr/bin/python3 "$SRC/tests/lib/keys.py" "$VOL" "$1" 2 "${2-$VOL/blobcryptfs.json}"
	echo "content $(mem_hex "$content")"
	echo "name $(mem_hex "$name")"
	echo "target $(mem_hex "$target")"
	echo "xattr $(mem_hex "$value")"
}

mem_scan()
{
	local rc=0 scanned
	"$TOOLS/memscan" --pid "$DAEMON" "$T/needles" >"$T/found" || rc=$?
	[ "$rc" != 2 ] || fail "memscan: $(cat "$T/found")"
	scanned=$(sed -n 's/^scanned \([0-9]*\) bytes.*/\1/p' "$T/found")
	[ "${scanned:-0}" -gt 1000000 ] || fail "the scanner saw only ${scanned:-no} bytes"
}

# mem_seen KIND...: each is found now, after names have gone through the daemon once more
mem_seen()
{
	local i kind
	for i in $(seq 20); do
		: >"$MNT/$name-last-$i"
		rm "$MNT/$name-last-$i"
	done
	mem_scan
	for kind; do grep -q "^found $kind " "$T/found" || return 1; done
}

# mem_has KIND...: each is found while the mount is open. The next request may overwrite what one has left, so this is
# tried until a scan meets all of them.
mem_has()
{
	until_true 60 mem_seen "$@" ||
		fail "not all of $* are found while unlocked: $(cut -d' ' -f1,2 "$T/found" | sort | uniq -c)"
}

# mem_none WHEN: nothing is found
mem_none()
{
	mem_scan
	! grep -q '^found' "$T/found" || fail "in memory $1: $(grep '^found' "$T/found" | sort | uniq -c -w 12 | head -n 20)"
}

# mem_cached: how many pages of the files that are open as 5 and 6 the kernel caches
mem_cached()
{
	"$SRC/tests/lib/cached.py" 5 6
}

# mem_open: opens big as 5 and another file as 6, and has the kernel cache them
mem_open()
{
	exec 5<"$MNT/big" 6<"$MNT/$name-1"
	cat <&5 >/dev/null
	[ "$(mem_cached)" -gt 1000 ] || fail "the kernel does not cache what is read"
}

# mem_refused TEXT: what is refused with it leaves nothing either
mem_refused()
{
	local i
	for i in $(seq 20); do
		refused "$@" head -c 1 <&6
		refused "$@" cat "$MNT/$name-$i"
		refused "$@" mkdir "$MNT/$name-new-$i"
		refused "$@" tee -a "$MNT/$name-1" <<<"$content"
		refused "$@" ln -s "$target" "$MNT/$name-new"
	done
}
