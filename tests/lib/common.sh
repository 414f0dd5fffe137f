# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the mount tests share. The runner sets: T (own empty directory), LOG (logs,
# scanned for sanitizer reports), BCFS (the program), SRC, TOOLS, BACKING (ext4, xfs
# or nothing), VARIANT (release, asan, tsan), LONG, ISOLATED (own mount namespace),
# FIPS_DIRS (the FIPS providers there are).

set -euo pipefail
[ -z "${TRACE-}" ] || set -x

VOL=$T/vol     # backing directory
MNT=$T/mnt     # mount point
KEYS=$T/keys   # store of managed keys
MARK=Plaintext-Marker-7f3a

DAEMON_PIDS=()
CLEANUPS=()

fail()
{
	echo "FAIL: $*"
	exit 1
}

skip()
{
	echo "SKIP: $*"
	exit 77
}

# need COMMAND...: skips when one is not installed
need()
{
	local c
	for c; do
		command -v "$c" >/dev/null || skip "$c is not installed"
	done
}

# on_exit COMMAND: run it at the end, the last one first
on_exit()
{
	CLEANUPS+=("$1")
}

cleanup()
{
	local rc=$? i point
	set +e
	trap - EXIT
	set +x
	cd /
	for ((i = ${#CLEANUPS[@]} - 1; i >= 0; i--)); do
		eval "${CLEANUPS[i]}"
	done
	# Mounts on top of others come last in the list.
	tac /proc/self/mounts | while read -r _ point _; do
		[[ $point == "$T"/* ]] && umount -l "$point"
	done
	for i in "${DAEMON_PIDS[@]}"; do
		kill -9 "$i" 2>/dev/null
	done
	exit "$rc"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

# until_true SECONDS COMMAND...: repeats until it succeeds; false when it is too late
until_true()
{
	local end=$((SECONDS + $1))
	shift
	until "$@" 2>/dev/null; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.02
	done
}

# make_loop TYPE SIZE DIR: a new filesystem in an image file, mounted on DIR
make_loop()
{
	local image
	image=$T/$(basename "$3").img
	need "mkfs.$1" losetup
	truncate -s "$2" "$image"
	case $1 in
	ext4) mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$image" ;;
	xfs) mkfs.xfs -q -f "$image" ;;
	esac >>"$LOG/mkfs.log" 2>&1 || fail "mkfs.$1 failed"
	mkdir -p "$3"
	mount -o loop "$image" "$3" 2>>"$LOG/mkfs.log" ||
		skip "no loop device to be had: $(tail -n 1 "$LOG/mkfs.log")"
	chmod 755 "$3"
}

# use_backing [SIZE]: puts VOL on the filesystem the runner asks for
use_backing()
{
	[ -n "$BACKING" ] || return 0
	make_loop "$BACKING" "${1:-4G}" "$T/disk"
	VOL=$T/disk/vol
}

# fuse_uring_on: from here on this test may mount over io_uring; false if that can't be had here. Not under
# ThreadSanitizer, which does not see the order that the kernel keeps between what it gives to one thread and another.
fuse_uring_on()
{
	local switch=/sys/module/fuse/parameters/enable_uring
	[ "$VARIANT" != tsan ] && [ -e "$switch" ] &&
		[ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)" = 0 ] || return 1
	# tests/run has put a switch that says no over the machine's own
	! mountpoint -q "$switch" || umount "$switch"
	[ "$(cat "$switch")" = Y ]
}

# vol_init [init options]
vol_init()
{
	mkdir -p "$VOL" "$MNT"
	"$BCFS" init --managed-key "store:$KEYS" "$@" "$VOL" >>"$LOG/init.log" 2>&1 ||
		fail "init: exit code $?: $(tail -n 3 "$LOG/init.log")"
}

# vol_mount [OPTIONS]: in the foreground below a log, so that the sanitizers are heard
vol_mount()
{
	local opts=allow_other,dev,suid
	[ -z "${1-}" ] || opts=$opts,$1
	"$BCFS" mount -f -o "$opts" "$VOL" "$MNT" >>"$LOG/daemon.log" 2>&1 &
	DAEMON=$!
	DAEMON_PIDS+=("$DAEMON")
	until_true 60 mounted_or_dead "$MNT" "$DAEMON" || fail "the mount does not come up"
	mountpoint -q "$MNT" || fail "mount: $(tail -n 3 "$LOG/daemon.log")"
}

mounted_or_dead()
{
	mountpoint -q "$1" || ! kill -0 "$2"
}

# vol_umount: unmounts and waits for the daemon's good end
vol_umount()
{
	local rc=0
	"$BCFS" umount "$MNT" >>"$LOG/umount.log" 2>&1 || fail "umount: $(tail -n 3 "$LOG/umount.log")"
	wait "$DAEMON" || rc=$?
	[ "$rc" = 0 ] || fail "the daemon ended with exit code $rc"
}

# vol_kill9: kill -9 of the daemon, and the dead mount gone
vol_kill9()
{
	kill -9 "$DAEMON"
	wait "$DAEMON" || true
	umount -l "$MNT" || true
}

vol_remount()
{
	vol_umount
	vol_mount "$@"
}

# status_field NAME [DIR]: one value of "status --json"; NAME is a path as in session.number
status_field()
{
	"$BCFS" status --json "${2:-$MNT}" | python3 -c '
import json, sys
value = json.load(sys.stdin)
for part in sys.argv[1].split("."):
    value = value[part]
print(json.dumps(value) if isinstance(value, (list, dict, bool)) else value)' "$1"
}

# check_sound: no damage was met by this mount
check_sound()
{
	local damage
	damage=$(status_field counters.damage)
	[ "$damage" = 0 ] || fail "status counts $damage damaged places: $(grep damage "$LOG/daemon.log" | head -n 5)"
}

# as_uid UID COMMAND...: without any right of root; there is no account of that number
as_uid()
{
	local uid=$1
	shift
	HOME=$T/home.$uid setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all -- "$@"
}

as_user()
{
	as_uid 12345 "$@"
}

need_root()
{
	[ "$(id -u)" = 0 ] || skip "needs root"
}

# need_isolation: for tests that change what is mounted on the system's own directories
need_isolation()
{
	need_root
	[ -n "$ISOLATED" ] || skip "needs a mount namespace of its own"
}

# users_have_fips: in a checkout below a directory that is closed to users (/root) they get a copy of the FIPS
# provider where an installed one would be, in this mount namespace only; false when that can't be
users_have_fips()
{
	local dir=${FIPS_DIRS%% *}
	as_user test -r "$dir/fips.so" && return
	[ -n "$ISOLATED" ] && mount -t tmpfs none /usr/local/lib && mkdir /usr/local/lib/blobcryptfs &&
		cp -r "$dir" /usr/local/lib/blobcryptfs/fips && as_user test -r /usr/local/lib/blobcryptfs/fips/fips.so
}

# expect CODE COMMAND...: the exit code has to be CODE; output goes to $OUT
expect()
{
	local want=$1 rc=0
	shift
	OUT=$("$@" 2>&1 </dev/null) || rc=$?
	[ "$rc" = "$want" ] || fail "exit code $rc, not $want: $* -> $OUT"
}

# same_tree A B: rsync finds no difference in contents, names, modes, owners, times, links, ACLs, xattrs
same_tree()
{
	local diff
	need rsync
	diff=$(rsync -aHAXn --checksum --delete --itemize-changes "$1/" "$2/") || fail "rsync: exit code $?"
	[ -z "$diff" ] || fail "trees differ: $(head -n 20 <<<"$diff")"
}

# sanitized: true under a sanitizer, where sizes should be smaller
sanitized()
{
	[ "$VARIANT" != release ]
}

# digest DIR: one line that changes when anything in DIR does: names, modes, owners, times, links, contents
digest()
{
	(cd "$1" && find . -printf '%p %y %m %U:%G %s %T@ %l %n\n' -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
}

# flip FILE OFFSET [MASK]: changes bits of one byte in place
flip()
{
	python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
at, mask = int(sys.argv[2]), int(sys.argv[3], 0)
os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ mask]), at)' "$1" "$2" "${3:-1}"
}
