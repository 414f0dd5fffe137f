#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
# VARIANTS: release asan tsan
#
# lock, unlock, lock --all with managed keys: who may, exit codes, what the status, the metrics, the report, the audit
# log and the program of on_state_change say. What is locked stays locked over a restart's unmount, and nothing is lost.
. "$(dirname "$0")/../lib/common.sh"

need_root
users_have_fips || skip "users can't read the FIPS provider of this checkout"

cat >"$T/hook" <<'HOOK'
#!/bin/sh
echo "$1 $2 $3 $4 $(umask) $(pwd) ${HOME-none}" >>"$(dirname "$0")/hook.log"
[ ! -e "$(dirname "$0")/hang" ] || sleep 1000
HOOK
chmod 755 "$T" "$T/hook"
: >"$T/hook.log"
chmod 666 "$T/hook.log"

# Programs that others could change, or that are none, are refused.
vol_init
id=$(status_field volume "$VOL")
for program in hook "$T/missing" "$T" /etc/passwd; do
	expect 2 "$BCFS" mount -o "on_state_change=$program" "$VOL" "$MNT"
done
cp "$T/hook" "$T/open"
chmod 777 "$T/open"
expect 2 "$BCFS" mount -o "on_state_change=$T/open" "$VOL" "$MNT"
grep -q 'could be changed by others' <<<"$OUT" || fail "$OUT"
chmod 755 "$T/open"
chown 4711 "$T/open"
expect 2 "$BCFS" mount -o "on_state_change=$T/open" "$VOL" "$MNT"

vol_mount "on_state_change=$T/hook"
echo "$MARK" >"$MNT/file"
mkdir "$MNT/dir"
exec 7<>"$MNT/file" 8>>"$MNT/grows"
expect 0 "$BCFS" status "$MNT"
[ "$(status_field access.state)" = OPEN ] || fail "state $(status_field access.state)"

is_locked()
{
	[ "$(status_field gate "$1")" = LOCKED ]
}

refused()
{
	OUT=$("$@" 2>&1) && fail "not refused: $*"
	grep -q 'Required key not available' <<<"$OUT" || fail "$*: $OUT"
}

printf more >&8
expect 0 "$BCFS" lock "$MNT"
[ "$(status_field access.state) $(status_field access.reason)" = "LOCKED manual" ] || fail "status: $("$BCFS" status "$MNT")"
refused cat "$MNT/file"
refused ls "$MNT"
refused ls "$MNT/dir"
refused touch "$MNT/new"
refused cat <&7
refused mkdir "$MNT/dir2"
stat "$MNT" >/dev/null || fail "stat of the root fails"
df "$MNT" >/dev/null || fail "statfs fails"
# Twice is the same as once.
expect 0 "$BCFS" lock "$MNT"
"$BCFS" metrics "$MNT" >"$LOG/metrics.txt"
grep -q 'blobcryptfs_gate{.*="LOCKED"} 1' "$LOG/metrics.txt" || fail "metrics: $(grep gate "$LOG/metrics.txt")"
grep -q 'blobcryptfs_gate_reason{.*="manual"} 1' "$LOG/metrics.txt" || fail "metrics: $(grep gate "$LOG/metrics.txt")"
[ "$(tail -n 1 "$LOG/metrics.txt")" = '# EOF' ] || fail "the metrics have no end"
expect 0 "$BCFS" revocation-report --json "$MNT"
python3 -c '
import json, sys
r = json.load(sys.stdin)
lock = r["lock"]
assert lock["reason"] == "manual" and lock["verified"] and lock["undrained"] == 0 and lock["refused"] >= 5, r
steps = [lock[k + "_ms"] for k in ("started", "closed", "drained", "wiped", "purged", "done")]
assert steps == sorted(steps), r
assert r["first_denial"] is None, r' <<<"$OUT" || fail "report: $OUT"
# While locked, its key can't be rotated.
expect 6 "$BCFS" key rotate "$VOL"
# Somebody else may neither see nor do anything.
expect 13 as_user "$BCFS" unlock "$MNT"
expect 13 as_user "$BCFS" lock "$MNT"
expect 17 as_user "$BCFS" unlock --all
is_locked "$MNT" || fail "it is not locked any more"

expect 0 "$BCFS" unlock "$MNT"
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
[ "$(cat <&7)" = "$MARK" ] || fail "the open file is not what it was"
printf ' and more' >&8
[ "$(cat "$MNT/grows")" = 'more and more' ] || fail "the file that grows is $(cat "$MNT/grows")"
expect 0 "$BCFS" unlock "$MNT"

# Every mount of root's, and of users'.
home=$T/home.12345
mkdir -p "$home/mnt"
chown -R 12345:12345 "$home"
as_user "$BCFS" init --managed-key "store:$home/keys" "$home/vol" >/dev/null || fail "init as a user"
user_mounts=
if as_user test -w /dev/fuse && as_user "$BCFS" mount "$home/vol" "$home/mnt"; then
	user_mounts=1
	on_exit "umount -l '$home/mnt' 2>/dev/null"
	as_user sh -c "echo '$MARK' >'$home/mnt/file'"
	expect 0 as_user "$BCFS" lock --all
	is_locked "$MNT" && fail "a user has locked root's mount"
	expect 0 as_user "$BCFS" unlock "$home/mnt"
fi
expect 0 "$BCFS" lock --all
is_locked "$MNT" || fail "lock --all has left $MNT open"
[ -z "$user_mounts" ] || as_user is_locked "$home/mnt" 2>/dev/null || is_locked "$home/mnt" || fail "lock --all has left the user's mount open"
expect 0 "$BCFS" unlock --all
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
if [ -n "$user_mounts" ]; then
	[ "$(as_user cat "$home/mnt/file")" = "$MARK" ] || fail "the user's file is not what it was"
	expect 0 as_user "$BCFS" umount "$home/mnt"
fi

# The keeper of the managed key is away: locked for the same reason as before, and the sentence says what is wrong.
expect 0 "$BCFS" lock "$MNT"
mv "$KEYS" "$KEYS.away"
expect 6 "$BCFS" unlock "$MNT"
[ "$(status_field access.reason)" = manual ] || fail "reason $(status_field access.reason)"
mv "$KEYS.away" "$KEYS"
expect 0 "$BCFS" unlock "$MNT"

# A program that hangs delays neither lock nor unlock nor the end.
: >"$T/hang"
for _ in 1 2 3; do
	expect 0 "$BCFS" lock "$MNT"
	expect 0 "$BCFS" unlock "$MNT"
done

# Unmounted while locked: everything that was written is there.
printf last >&8
exec 7>&- 8>&-
expect 0 "$BCFS" lock "$MNT"
vol_umount
rm "$T/hang"
want="LOCKED manual $id $MNT 0022 / none
OPEN none $id $MNT 0022 / none"
[ "$(head -n 2 "$T/hook.log")" = "$want" ] || fail "the program was told: $(cat "$T/hook.log")"
until_true 30 grep -q '"event":"locked"' "/var/log/blobcryptfs/$id.log" || fail "the audit log has no lock"
until_true 30 grep -q '"event":"unlocked"' "/var/log/blobcryptfs/$id.log" || fail "the audit log has no unlock"
expect 17 "$BCFS" lock "$MNT"
expect 17 "$BCFS" lock --all
vol_mount
[ "$(cat "$MNT/grows")" = 'more and morelast' ] || fail "the file that grows is $(cat "$MNT/grows")"
expect 2 "$BCFS" revocation-report "$MNT"
check_sound
vol_umount
