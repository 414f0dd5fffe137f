#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
# VARIANTS: release asan
#
# A mount of root's is open to everybody, and the rules are those of any filesystem: modes, groups,
# sticky directories, set-group-ID directories, ACLs, owners; and -o noallow_other closes it.
. "$(dirname "$0")/../lib/common.sh"

need_root
need setpriv setfacl
vol_init
vol_mount
chmod 755 "$MNT"
mkdir -m 1777 "$MNT/sticky"
mkdir -m 2770 "$MNT/team"
chown 0:500 "$MNT/team"

# in_group COMMAND...: uid 2001 with the group 500 besides its own
in_group()
{
	setpriv --reuid=2001 --regid=2001 --groups=500 --inh-caps=-all -- "$@"
}
refused()
{
	"$@" 2>/dev/null && fail "should be refused: $*"
	return 0
}

as_uid 2001 bash -c "umask 077; echo secret >$MNT/sticky/private"
[ "$(stat -c '%u %g %a' "$MNT/sticky/private")" = "2001 2001 600" ] || fail "owner and mode: $(stat -c '%u %g %a' "$MNT/sticky/private")"
refused as_uid 2002 cat "$MNT/sticky/private"
refused as_uid 2002 bash -c "echo x >>$MNT/sticky/private"
refused as_uid 2002 rm -f "$MNT/sticky/private"
refused as_uid 2002 mv "$MNT/sticky/private" "$MNT/sticky/mine"
refused as_uid 2002 chmod 666 "$MNT/sticky/private"
refused as_uid 2002 chown 2002 "$MNT/sticky/private"
refused as_uid 2002 touch -d yesterday "$MNT/sticky/private"
refused as_uid 2002 setfattr -n user.a -v b "$MNT/sticky/private"
refused as_uid 2002 getfattr -n user.a "$MNT/sticky/private"
[ "$(as_uid 2001 cat "$MNT/sticky/private")" = secret ] || fail "the owner can't read"
# The owner has just read it, so it is in the kernel's cache; that must not help others.
refused as_uid 2002 cat "$MNT/sticky/private"
[ "$(cat "$MNT/sticky/private")" = secret ] || fail "root can't read"

refused as_uid 2001 ls "$MNT/team"
in_group touch "$MNT/team/shared"
[ "$(stat -c '%u %g' "$MNT/team/shared")" = "2001 500" ] || fail "the group is not inherited: $(stat -c '%u %g' "$MNT/team/shared")"
in_group mkdir "$MNT/team/sub"
[ "$(stat -c '%g %A' "$MNT/team/sub" | cut -c 1-11)" = "500 drwxr-s" ] || fail "set-group-ID is not inherited: $(stat -c '%g %A' "$MNT/team/sub")"
refused as_uid 2002 touch "$MNT/new"

as_uid 2001 setfacl -m u:2002:r "$MNT/sticky/private"
[ "$(as_uid 2002 cat "$MNT/sticky/private")" = secret ] || fail "an ACL has no effect"
refused as_uid 2002 bash -c "echo x >>$MNT/sticky/private"
as_uid 2001 setfacl -b "$MNT/sticky/private"
refused as_uid 2002 cat "$MNT/sticky/private"
mkdir -m 755 "$MNT/default"
setfacl -d -m u:2002:rwx "$MNT/default"
(umask 077; mkdir "$MNT/default/sub"; echo a >"$MNT/default/file")
[ "$(as_uid 2002 cat "$MNT/default/file")" = a ] || fail "a default ACL has no effect"
[[ $(getfacl -c --absolute-names "$MNT/default/sub") == *"default:user:2002:rwx"* ]] || fail "a default ACL is not inherited"

cp /bin/true "$MNT/true"
chmod 4755 "$MNT/true"
as_uid 2001 "$MNT/true" || fail "can't be run"
as_uid 2001 bash -c "cp /bin/true $MNT/sticky/mine; chmod 6755 $MNT/sticky/mine; echo x >>$MNT/sticky/mine"
[ "$(stat -c %a "$MNT/sticky/mine")" = 755 ] || fail "a write by its owner leaves set-user-ID: $(stat -c %a "$MNT/sticky/mine")"
vol_remount
refused as_uid 2002 cat "$MNT/sticky/private"
[ "$(as_uid 2001 cat "$MNT/sticky/private")" = secret ] || fail "the owner can't read after a remount"
vol_umount

"$BCFS" mount -f -o noallow_other "$VOL" "$MNT" >>"$LOG/daemon.log" 2>&1 &
DAEMON=$!
DAEMON_PIDS+=("$DAEMON")
until_true 60 mounted_or_dead "$MNT" "$DAEMON"
[ "$(cat "$MNT/sticky/private")" = secret ] || fail "root can't read with noallow_other"
refused as_uid 2001 cat "$MNT/sticky/private"
refused as_uid 2001 ls "$MNT"
vol_umount
