#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# "key rotate", mounted and not, twenty times: the files stay as they are, not one byte of data is
# touched, one key file is left. Rotation by age at mount, too.
. "$(dirname "$0")/../lib/common.sh"

need_root
vol_init --rotate-days 1
id=$(status_field volume "$VOL")
versions()
{
	(cd "$KEYS/$id" && echo *)
}
vol_mount
mkdir "$T/plain"
python3 "$SRC/tests/lib/make_tree.py" "$T/plain" 100 7
cp -a "$T/plain" "$MNT/tree"
vol_umount
data()
{
	(cd "$VOL" && find . -type f ! -name 'blobcryptfs.*' -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
}
before=$(data)
for i in $(seq 2 11); do
	expect 0 "$BCFS" key rotate "$VOL"
	[ "$(versions)" = "v$i.key" ] || fail "after rotation to $i the store has $(versions)"
	[ "$(status_field key.version "$VOL")" = "$i" ] || fail "the version is $(status_field key.version "$VOL")"
	cmp -s "$VOL/blobcryptfs.json" "$VOL/blobcryptfs.json.bak" || fail "the descriptor's copies differ"
done
[ "$(data)" = "$before" ] || fail "rotation has touched data"
vol_mount
# Mounted: by the daemon, while it works.
for i in $(seq 12 21); do
	echo "$i" >>"$MNT/log" &
	expect 0 "$BCFS" key rotate "$VOL"
	wait $!
	[ "$(versions)" = "v$i.key" ] || fail "after rotation to $i the store has $(versions)"
	[ "$(status_field key.version)" = "$i" ] || fail "the mount's version is $(status_field key.version)"
done
[ "$(wc -l <"$MNT/log")" = 10 ] || fail "lines are missing"
rm "$MNT/log"
vol_remount
same_tree "$T/plain" "$MNT/tree"
vol_umount
[ "$(data)" = "$before" ] || fail "rotation has touched data"
grep -q '"event":"key_rotated"' "/var/log/blobcryptfs/$id.log" || fail "the audit log has no key_rotated"

# By age: nothing happens before the time, and at the mount after it the key is new. The clock is
# a library's, since the descriptor's dates are authenticated.
"${CC:-cc}" -shared -fPIC -O1 -o "$T/clock.so" -x c - <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
time_t time(time_t *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += atol(getenv("CLOCK_AHEAD"));
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}
C
if ! sanitized; then # sanitizers want to be the first library
	ahead()
	{
		env LD_PRELOAD="$T/clock.so" CLOCK_AHEAD="$1" "$BCFS" mount -o allow_other,dev,suid "$VOL" "$MNT" || fail "mount with the clock $1 s ahead"
		[ "$(versions)" = "v$2.key" ] || fail "$1 s ahead the store has $(versions)"
		[ "$(status_field key.version)" = "$2" ] || fail "$1 s ahead the version is $(status_field key.version)"
		same_tree "$T/plain" "$MNT/tree"
		expect 0 "$BCFS" umount "$MNT"
	}
	ahead 3600 21
	ahead 90000 22
	[ "$(data)" = "$before" ] || fail "rotation by age has touched data"
	grep '"event":"key_rotated"' "/var/log/blobcryptfs/$id.log" | grep -q 'by age' || fail "the audit log has no rotation by age"
fi
