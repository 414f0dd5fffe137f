#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
# BACKING: ext4 xfs
# SANITIZERS: asan
#
# git: init, add, commit, clone, fsck, gc.
. "$(dirname "$0")/../lib/common.sh"

need git
use_backing
vol_init
vol_mount
export GIT_CONFIG_GLOBAL=$T/gitconfig
git config --global user.name Somebody
git config --global user.email somebody@example.org
git config --global init.defaultBranch main
git init -q "$MNT/repo"
cp -r "$SRC/fs" "$SRC/crypto" "$SRC/tests" "$MNT/repo"
cd "$MNT/repo"
for i in 1 2 3 4 5; do
	echo "change $i" >>fs/CHANGED
	git add -A
	git commit -qm "commit $i"
done
git clone -q "$MNT/repo" "$MNT/clone"
git -C "$MNT/clone" checkout -qb other HEAD~2
git fsck --full --strict
git gc -q --aggressive
git fsck --full --strict
cd "$T"
vol_remount
git -C "$MNT/clone" fsck --full
[ -z "$(git -C "$MNT/repo" status --porcelain)" ] || fail "git sees changes after a remount"
git -C "$MNT/repo" archive HEAD | tar x -C "$T" fs
diff -r "$T/fs" "$MNT/repo/fs"
vol_umount
