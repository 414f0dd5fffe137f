#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 180
#
# PostgreSQL with page checksums, as a user of its own: initdb, pgbench, the postmaster killed, then
# the daemon; every transaction whose commit was reported is there and no page is damaged.
. "$(dirname "$0")/../lib/common.sh"

need_root
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] && [ -x "$bin/initdb" ] || skip "PostgreSQL is not installed"
need pgbench
user=$(id -u postgres 2>/dev/null) || skip "there is no account postgres" # initdb wants an account
use_backing 4G
vol_init
vol_mount
mkdir -m 700 "$MNT/data" "$T/socket" "$T/home.$user"
chown "$user:$user" "$MNT/data" "$T/socket" "$T/home.$user"
pg()
{
	as_uid "$user" "$@" </dev/null
}
cd "$T"
pg "$bin/initdb" -D "$MNT/data" --data-checksums -A trust -U pg >"$T/initdb.out" 2>&1 || fail "initdb: $(tail -n 5 "$T/initdb.out")"
cat >>"$MNT/data/postgresql.conf" <<C
listen_addresses = ''
unix_socket_directories = '$T/socket'
shared_buffers = 16MB
max_wal_size = 64MB
C
start()
{
	pg "$bin/pg_ctl" -D "$MNT/data" -l "$LOG/postgres.log" -w -t 60 start >"$T/ctl.out" 2>&1 ||
		fail "start: $(tail -n 5 "$T/ctl.out" "$LOG/postgres.log")"
}
sql()
{
	pg psql -h "$T/socket" -U pg -d postgres -X -A -t -c "$1" 2>>"$T/psql.err" || fail "$1: $(tail -n 3 "$T/psql.err" "$LOG/postgres.log")"
}
# TPC-B moves money only: the sums over all three tables stay equal.
sums_agree()
{
	[ "$(sql 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
		and (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches)
		and (select coalesce(sum(delta), 0) from pgbench_history) = (select sum(bbalance) from pgbench_branches)')" = t ] ||
		fail "$1: the sums differ"
}
bench()
{
	pg pgbench -h "$T/socket" -U pg -c 4 -j 2 -T "$1" -n postgres >"$T/bench.out" 2>&1
}
start
pg pgbench -h "$T/socket" -U pg -i -s 2 -q postgres >"$T/bench.out" 2>&1 || fail "pgbench -i: $(tail -n 5 "$T/bench.out")"
bench 4 || fail "pgbench: $(tail -n 5 "$T/bench.out")"
sums_agree "after pgbench"
sql checkpoint >/dev/null
history()
{
	sql 'select count(*) from pgbench_history'
}
for victim in postmaster daemon; do
	before=$(history)
	bench 30 &
	client=$!
	moved()
	{
		[ "$(history)" -gt $((before + 50)) ]
	}
	until_true 30 moved || fail "pgbench makes no progress"
	committed=$(history)
	master=$(head -n 1 "$MNT/data/postmaster.pid")
	pgrep -P "$master" >"$T/servers"
	if [ "$victim" = postmaster ]; then
		kill -9 "$master"
	else
		kill -9 "$DAEMON"
		kill -9 "$master"
	fi
	# Most see that the postmaster is gone and end; one that waits for a lock of a dead one does not.
	while read -r pid; do
		kill -9 "$pid" 2>/dev/null || true
	done <"$T/servers"
	wait "$client" || true
	none_left()
	{
		local pid
		while read -r pid; do
			! kill -0 "$pid" 2>/dev/null || return 1
		done <"$T/servers"
	}
	until_true 30 none_left || fail "processes of PostgreSQL are left"
	if [ "$victim" = daemon ]; then
		wait "$DAEMON" || true
		umount -l "$MNT"
		vol_mount
	fi
	start
	[ "$(history)" -ge "$committed" ] || fail "$victim killed: committed transactions are gone"
	sums_agree "$victim killed"
done
pg "$bin/pg_ctl" -D "$MNT/data" -m fast -w stop >"$T/ctl.out" 2>&1 || fail "stop: $(tail -n 5 "$T/ctl.out")"
pg "$bin/pg_checksums" -c -D "$MNT/data" >"$T/sums.out" 2>&1 || fail "checksums: $(tail -n 5 "$T/sums.out")"
check_sound
vol_umount
