#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# BACKING: ext4 xfs
# VARIANTS: release asan
#
# git: init, add, commit, branches, clone, gc and fsck, inside of the mount.
. "$(dirname "$0")/../lib/common.sh"

need git
use_backing 2G
vol_init
vol_mount
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
run()
{
	git "$@" >"$T/git.out" 2>&1 || fail "git $*: $(tail -n 5 "$T/git.out")"
}
clean()
{
	[ -z "$(git status --porcelain)" ] || fail "git sees changes: $(git status --porcelain | head -n 5)"
}
run init -q "$MNT/repo"
cd "$MNT/repo"
python3 -c '
import random, os
r = random.Random(5)
for i in range(300):
    os.makedirs("d%d" % (i % 17), exist_ok=True)
    with open("d%d/f%d.txt" % (i % 17, i), "w") as f:
        f.write("\n".join("line %d" % r.randrange(1000) for _ in range(r.randrange(3, 400))))'
run add -A
run commit -q -m first
for i in 1 2 3 4 5; do
	run checkout -q -b "branch$i"
	echo "change $i" >>"d$i/f$i.txt"
	run mv "d$i" "moved$i"
	run commit -q -a -m "change $i"
done
run clone -q "$MNT/repo" "$MNT/clone"
run clone -q --no-hardlinks --branch branch3 "$MNT/repo" "$MNT/clone2"
cd "$T"
vol_remount
cd "$MNT/repo"
run gc -q --aggressive --prune=now
run fsck --full --strict
clean
run checkout -q branch1
clean
cd "$MNT/clone2"
run fsck --full --strict
run pull -q --no-rebase origin branch5
[ "$(git rev-parse HEAD)" = "$(git -C "$MNT/repo" rev-parse branch5)" ] || fail "the clone is not what was cloned"
run -C "$MNT/clone" fsck --full --strict
cd "$T"
check_sound
vol_umount
