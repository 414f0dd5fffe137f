#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# BACKING: ext4 xfs
# VARIANTS: release asan tsan
#
# SQLite: the client killed in the middle, the daemon killed in the middle; committed rows are there.
. "$(dirname "$0")/../lib/common.sh"

use_backing
vol_init
vol_mount
cat >"$T/writer.py" <<'PY'
# Commits rows one after the other and says each number after its commit.
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
db.execute(f"pragma journal_mode={sys.argv[2]}")
db.execute("pragma synchronous=full")
db.execute("create table if not exists t(n integer primary key, text blob)")
n = db.execute("select coalesce(max(n),0) from t").fetchone()[0]
while True:
    n += 1
    db.execute("insert into t values(?, ?)", (n, (b"%d " % n) * 300))
    db.execute("update t set text = text || 'x' where n % 17 = ?", (n % 17,))
    db.commit()
    print(n, flush=True)
PY
cat >"$T/check.py" <<'PY'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
ok = db.execute("pragma integrity_check").fetchone()[0]
last = db.execute("select max(n) from t").fetchone()[0]
count = db.execute("select count(*) from t").fetchone()[0]
assert ok == "ok", ok
assert count == last >= int(sys.argv[2]), (count, last, sys.argv[2])
PY
written()
{
	[ "$(wc -l <"$T/said")" -ge "$1" ]
}
rows=60
sanitized && rows=15
for mode in wal delete; do
	for victim in client daemon client daemon; do
		: >"$T/said"
		python3 "$T/writer.py" "$MNT/$mode.db" $mode >"$T/said" 2>>"$LOG/writer.log" &
		writer=$!
		until_true 40 written $rows || fail "the writer does not write: $(tail -n 3 "$LOG/writer.log")"
		if [ $victim = daemon ]; then
			kill -9 "$DAEMON"
			wait "$DAEMON" || true
		fi
		kill -9 $writer 2>/dev/null || true
		wait $writer || true
		if [ $victim = daemon ]; then
			umount -l "$MNT"
			vol_mount
		fi
		last=$(grep -xE '[0-9]+' "$T/said" | tail -n 1)
		python3 "$T/check.py" "$MNT/$mode.db" "$last" || fail "$mode, $victim killed after row $last"
	done
done
vol_umount
