#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 30
#
# The root of the mount keeps its owner, mode and times over a remount, and has no entries of ours.
. "$(dirname "$0")/../lib/common.sh"

need_root
vol_init
vol_mount
[ -z "$(ls -A "$MNT")" ] || fail "a new volume is not empty: $(ls -A "$MNT")"
touch "$MNT/file"
chown 12:34 "$MNT"
chmod 1751 "$MNT"
touch -d '2001-02-03 04:05:06.789' "$MNT"
want="12:34 1751 2001-02-03 04:05:06.789000000 +0000"
[ "$(TZ=UTC stat -c '%u:%g %a %y' "$MNT")" = "$want" ] || fail "$(stat -c '%u:%g %a %y' "$MNT")"
vol_remount
[ "$(TZ=UTC stat -c '%u:%g %a %y' "$MNT")" = "$want" ] || fail "after a remount: $(stat -c '%u:%g %a %y' "$MNT"), not $want"
[ "$(ls -A "$MNT")" = file ] || fail "after a remount: $(ls -A "$MNT")"
vol_umount
