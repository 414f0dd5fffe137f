#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 150
# BACKING: ext4
#
# PostgreSQL on the mount: initdb, pgbench, restart, crash of the daemon below it.
. "$(dirname "$0")/../lib/common.sh"

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || skip "postgresql is not installed"
[ -x "$bin/pgbench" ] || command -v pgbench >/dev/null || skip "pgbench is not installed"
[ "$(id -u)" = 0 ] || skip "the server must not run as root, so root has to start it"
PATH=$bin:$PATH
user=$(id -u postgres 2>/dev/null) || skip "there is no user postgres"
use_backing
vol_init
vol_mount
mkdir "$MNT/pg" "$T/sock"
chown "$user" "$MNT/pg" "$T/sock"
as()
{
	(cd /; HOME=$T/sock setpriv --reuid="$user" --regid="$(id -g postgres)" --clear-groups -- "$@")
}
pg_start()
{
	as pg_ctl -s -w -t 60 -D "$MNT/pg/db" -l "$T/sock/server.log" \
		-o "-c listen_addresses='' -c unix_socket_directories=$T/sock -c shared_buffers=16MB" start >/dev/null ||
		fail "the server does not start: $(tail -n 5 "$T/sock/server.log")"
}
sql()
{
	as psql -h "$T/sock" -d postgres -qAtX -v ON_ERROR_STOP=1 -c "$1"
}
as initdb -D "$MNT/pg/db" --data-checksums -A trust -N >"$T/initdb" 2>&1 || fail "initdb: $(tail -n 5 "$T/initdb")"
pg_start
as pgbench -h "$T/sock" -i -q -s 2 postgres >"$T/bench" 2>&1 || fail "pgbench -i: $(tail -n 5 "$T/bench")"
as pgbench -h "$T/sock" -c 4 -j 2 -T "${LONG:+6}4" postgres >"$T/bench" 2>&1 || fail "pgbench: $(tail -n 5 "$T/bench")"
consistent()
{
	[ "$(sql 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)')" = t ]
}
consistent || fail "balances do not add up"
as pg_ctl -s -w -D "$MNT/pg/db" -m fast stop
as pg_checksums -c -D "$MNT/pg/db" >"$T/sums" || fail "pg_checksums: $(tail -n 3 "$T/sums")"
vol_remount
pg_start
consistent || fail "balances do not add up after a restart"
before=$(sql 'select count(*) from pgbench_history')
as pgbench -h "$T/sock" -c 2 -T 2 postgres >"$T/bench" 2>&1
after=$(sql 'select count(*) from pgbench_history')
[ "$after" -gt "$before" ] || fail "pgbench did nothing"
server=$(head -n 1 "$MNT/pg/db/postmaster.pid")
kill -9 "$DAEMON" # with the server at work; it notices soon
wait "$DAEMON" || true
kill -9 "$server" 2>/dev/null || true
gone()
{
	! kill -0 "$server"
}
until_true 20 gone || true
umount -l "$MNT"
vol_mount
rm -f "$MNT/pg/db/postmaster.pid"
pg_start
consistent || fail "balances do not add up after the crash"
[ "$(sql 'select count(*) from pgbench_history')" -ge "$after" ] || fail "committed rows are lost"
as pg_ctl -s -w -D "$MNT/pg/db" -m fast stop
vol_umount
