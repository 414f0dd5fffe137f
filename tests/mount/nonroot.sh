#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
# VARIANTS: release asan
#
# Somebody without any rights makes a volume, mounts it, works in it, sees its status and unmounts it,
# with a key store of his own; others see nothing of it.
. "$(dirname "$0")/../lib/common.sh"

need fusermount3 setpriv
[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not setuid root"
if [ "$(id -u)" = 0 ]; then
	need_isolation
	if ! as_user test -w /dev/fuse; then
		# Closed to users here; in this namespace it need not be.
		mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse || skip "/dev/fuse is closed to users here"
		as_user test -w /dev/fuse && : <>/dev/fuse || skip "/dev/fuse is closed to users here"
	fi
	as_user test -x "$BCFS" || skip "users can't run $BCFS"
	users_have_fips || skip "users can't read the FIPS provider in ${FIPS_DIRS%% *}"
	mkdir "$T/home.12345"
	chown 12345:12345 "$T/home.12345"
	# fusermount3 wants to know the user's name.
	{ cat /etc/passwd; echo "bcfs-test:x:12345:12345::$T/home.12345:/bin/sh"; } >"$T/passwd"
	mount --bind "$T/passwd" /etc/passwd
else
	as_user()
	{
		"$@"
	}
	mkdir "$T/home.12345"
fi
H=$T/home.12345
VOL=$H/vol
MNT=$H/mnt
as_user mkdir "$MNT"
expect 0 as_user "$BCFS" init "$VOL"
[[ $OUT == *"$H/.local/share/blobcryptfs/keys"* ]] || fail "the key is elsewhere: $OUT"
expect 0 as_user "$BCFS" mount "$VOL" "$MNT"
[ -z "$OUT" ] || fail "mount says $OUT"
# shellcheck disable=SC2016
as_user bash -c '
	set -e
	cd "$1"
	mkdir dir
	echo text >dir/file
	chmod 700 dir/file
	ln -s dir/file link
	ln dir/file hard
	mkfifo fifo
	setfattr -n user.a -v b dir/file
	touch -d 2001-01-01 dir/file
	mv dir moved
	[ "$(stat -c "%a %h %u" moved/file)" = "700 2 $(id -u)" ]
	[ "$(cat hard)" = text ]
	echo more >>hard
	truncate -s 1M big
	head -c 100000 /dev/urandom >random
	cmp random <(cat random)
	mkdir many
	for i in $(seq 200); do echo "$i" >"many/$i"; done
	[ "$(cat many/* | wc -l)" = 200 ]
	rm -r many' - "$MNT" || fail "work in the mount"
if [ "$(id -u)" = 0 ]; then
	as_user chown 0 "$MNT/random" 2>/dev/null && fail "a user has given a file away"
	as_user mknod "$MNT/device" c 1 3 2>/dev/null && fail "a user has made a device"
	as_uid 12346 ls "$MNT" 2>/dev/null && fail "another user sees the mount"
	expect 13 as_uid 12346 "$BCFS" umount "$MNT"
fi
as_user "$BCFS" status --json "$MNT" >"$T/status" || fail "status"
grep -q '"gate": "OPEN"' "$T/status" || fail "status: $(cat "$T/status")"
expect 0 as_user "$BCFS" key rotate "$VOL"
expect 18 as_user bash -c 'cd "$1" && "$2" umount "$1"' - "$MNT" "$BCFS"
expect 0 as_user "$BCFS" umount "$MNT"
expect 0 as_user "$BCFS" mount -o ro "$VOL" "$MNT"
[ "$(as_user cat "$MNT/moved/file")" = $'text\nmore' ] || fail "other content after a remount"
expect 0 as_user fusermount3 -u "$MNT"
until_true 30 grep -q '"event":"mount"' "$H"/.local/state/blobcryptfs/*.log || fail "the audit log is not where it belongs"
if [ "$(id -u)" = 0 ]; then
	[ -z "$(find "$VOL" ! -uid 12345)" ] || fail "something below belongs to somebody else"
	expect 13 as_uid 12346 "$BCFS" mount "$VOL" "$MNT"
fi
