#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# LONG: 600
# BACKING: ext4 xfs
# VARIANTS: release tsan
#
# The daemon is killed with -9 while files are written: after the next mount everything that was
# synced is there, nothing is unreadable, and the daemon recovers from the unclean session.
. "$(dirname "$0")/../lib/common.sh"

need_root
use_backing 2G
rounds=6
sanitized && rounds=2
[ -z "$LONG" ] || rounds=40
vol_init
: >"$T/journal"
killed=0

recovered()
{
	[ "$(grep -c event=recovered "$LOG/daemon.log")" -ge "$killed" ]
}

for round in $(seq "$rounds"); do
	vol_mount
	[ "$round" = 1 ] || python3 "$SRC/tests/lib/durable.py" check "$MNT" "$T/journal"
	# The daemon looks at every file, and then strikes the killed session off.
	until_true 60 recovered || fail "after $killed killed sessions $(grep -c event=recovered "$LOG/daemon.log") recoveries"
	[ "$(status_field session.unclean)" = '[]' ] || fail "unclean after the recovery: $(status_field session.unclean)"
	python3 "$SRC/tests/lib/durable.py" write "$MNT" "$T/journal" "$round" >"$LOG/writer.log" 2>&1 &
	writer=$!
	lines=$(wc -l <"$T/journal" 2>/dev/null || echo 0)
	progress()
	{
		[ "$(wc -l <"$T/journal")" -ge $((lines + 20 + round * 7 % 30)) ]
	}
	until_true 60 progress || fail "the writer makes no progress: $(tail -n 3 "$LOG/writer.log")"
	kill -9 "$DAEMON"
	killed=$((killed + 1))
	wait "$writer" || true
	wait "$DAEMON" || true
	umount -l "$MNT"
done
vol_mount
python3 "$SRC/tests/lib/durable.py" check "$MNT" "$T/journal"
check_sound
vol_umount
