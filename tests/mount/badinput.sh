#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# Whatever is wrong at "init" or "mount": the documented exit code, one clear sentence that names the
# thing, and nothing is changed below.
. "$(dirname "$0")/../lib/common.sh"

need_root
vol_init
vol_mount
echo text >"$MNT/file"
vol_umount
cp -a "$VOL" "$T/good"
id=$(status_field volume "$VOL")
failures=0

wrong()
{
	echo "FAIL: $*"
	failures=$((failures + 1))
}

# All there is below, but not the name in the lock file.
below()
{
	[ ! -d "$1" ] || (cd "$1" && find . -mindepth 1 ! -name blobcryptfs.lock -printf '%p %y %m %s %T@ %l\n' \
		-type f -exec sha256sum {} + | LC_ALL=C sort)
}

# case NAME CODE PATTERN COMMAND...: PATTERN has to be in the sentence
case_()
{
	local name=$1 code=$2 pattern=$3 rc=0 before store
	shift 3
	before=$(below "$VOL")
	store=$(below "$KEYS")
	"$@" >"$T/out" 2>"$T/err" </dev/null || rc=$?
	[ "$rc" = "$code" ] || wrong "$name: exit code $rc, not $code: $(cat "$T/err")"
	[ "$(wc -l <"$T/err")" = 1 ] || wrong "$name: not one line on standard error: $(cat "$T/err")"
	grep -q '^blobcryptfs: ' "$T/err" || wrong "$name: does not start with blobcryptfs: $(cat "$T/err")"
	grep -q -e "$pattern" "$T/err" || wrong "$name: \"$pattern\" is not in: $(cat "$T/err")"
	[ ! -s "$T/out" ] || wrong "$name: output: $(cat "$T/out")"
	[ "$(below "$VOL")" = "$before" ] || wrong "$name: something changed below: $(diff <(echo "$before") <(below "$VOL") | head -n 5)"
	[ "$(below "$KEYS")" = "$store" ] || wrong "$name: something changed in the key store"
	! grep -q " $MNT " /proc/self/mounts || { wrong "$name: mounted"; umount -l "$MNT"; }
}

fresh()
{
	rm -rf "$VOL"
	cp -a "$T/good" "$VOL"
}

mount_()
{
	"$BCFS" mount "$@" "$VOL" "$MNT"
}

# edit EXPRESSION: changes both copies of the descriptor; j is the object
edit()
{
	python3 -c '
import json, sys
for name in ("blobcryptfs.json", "blobcryptfs.json.bak"):
    path = sys.argv[1] + "/" + name
    j = json.load(open(path))
    exec(sys.argv[2])
    json.dump(j, open(path, "w"))' "$VOL" "$1"
}

both()
{
	local copy
	for copy in blobcryptfs.json blobcryptfs.json.bak; do
		"$@" "$VOL/$copy"
	done
}

# The directory.
mkdir "$T/empty"
case_ "an empty directory" 3 "$T/empty" "$BCFS" mount "$T/empty" "$MNT"
[ -z "$(ls -A "$T/empty")" ] || wrong "an empty directory: something was made in it"
case_ "a missing directory" 3 "$T/missing" "$BCFS" mount "$T/missing" "$MNT"
[ ! -e "$T/missing" ] || wrong "a missing directory was made"
case_ "a file instead of the directory" 3 "$T/good/blobcryptfs.json" "$BCFS" mount "$T/good/blobcryptfs.json" "$MNT"
mkdir "$T/foreign"
echo '{"Creator": "somebody else"}' >"$T/foreign/other.conf"
case_ "somebody else's directory" 3 "$T/foreign" "$BCFS" mount "$T/foreign" "$MNT"

# The descriptor, in both copies.
fresh; both truncate -s 0
case_ "an empty descriptor" 4 "$VOL" mount_
fresh; both cp /bin/true
case_ "a descriptor of rubbish" 4 "$VOL" mount_
fresh; both cp "$T/foreign/other.conf"
case_ "foreign JSON" 4 blobcryptfs.json mount_
fresh; both truncate -s 300
case_ "half a descriptor" 4 blobcryptfs.json mount_
fresh; both truncate -s 10M
case_ "a descriptor of 10 MiB" 4 blobcryptfs.json mount_
fresh; edit 'j["blobcryptfs"] = 2'
case_ "a newer version" 5 'version 2' mount_
fresh; edit 'j["suite"] = 77'
case_ "an unknown suite" 5 'suite 77' mount_
fresh; edit 'j["news"] = 1'
case_ "an unknown member" 5 news mount_
fresh; edit 'j["envelope"]["kind"] = "moon"'
case_ "an unknown kind of key" 5 moon mount_
fresh; edit 'j["policy"]["rotate_days"] = 5'
case_ "a changed policy" 4 'MAC is wrong' mount_
fresh; edit 'j["suite"] = 2'
case_ "another suite" 4 inner_key mount_
fresh; edit 'j["volume"] = "0" * 32'
case_ "another id" 6 "$KEYS" mount_
fresh; edit 'k = j["envelope"]["volume_key"]; j["envelope"]["volume_key"] = ("B" if k[0] == "A" else "A") + k[1:]'
case_ "a damaged wrapped key" 7 '.' mount_
fresh; rm "$VOL"/blobcryptfs.json*
case_ "no descriptor any more" 3 "$VOL" mount_
fresh; rm "$VOL"/blobcryptfs.state*
case_ "no session state" 4 reset_state mount_
fresh; flip "$VOL/blobcryptfs.state" 15; flip "$VOL/blobcryptfs.state.bak" 15
case_ "a damaged session state" 4 reset_state mount_
fresh; rm "$VOL/blobcryptfs.lock"; mkdir "$VOL/blobcryptfs.lock"
case_ "a directory as lock file" 12 'lock' mount_

# One damaged copy is mended from the other one.
for copy in blobcryptfs.json blobcryptfs.json.bak blobcryptfs.state blobcryptfs.state.bak; do
	fresh
	case $copy in
	*.bak) rm "$VOL/$copy" ;;
	*) flip "$VOL/$copy" 40 ;;
	esac
	vol_mount
	[ "$(cat "$MNT/file")" = text ] || wrong "damaged $copy: wrong content"
	vol_umount
	cmp -s "$VOL/${copy%.bak}" "$VOL/${copy%.bak}.bak" || wrong "damaged $copy: not mended"
done
fresh

# The key.
mv "$KEYS/$id" "$T/away"
case_ "a missing key directory" 6 "$KEYS" mount_
mkdir -m 700 "$KEYS/$id"
case_ "a missing key file" 6 "$KEYS/$id/v1.key" mount_
rmdir "$KEYS/$id"
mv "$T/away" "$KEYS/$id"
chmod 640 "$KEYS/$id/v1.key"
case_ "a key file open to others" 6 "$KEYS/$id/v1.key" mount_
chmod 600 "$KEYS/$id/v1.key"
chmod 755 "$KEYS/$id"
case_ "a key directory open to others" 6 "$KEYS/$id" mount_
chmod 700 "$KEYS/$id"
chown 4711 "$KEYS/$id/v1.key"
case_ "a key file of somebody else" 6 4711 mount_
chown 0 "$KEYS/$id/v1.key"
cp -a "$KEYS/$id/v1.key" "$T/key"
echo zz >"$KEYS/$id/v1.key"
case_ "a damaged key file" 4 "$KEYS/$id/v1.key" mount_
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$KEYS/$id/v1.key"
case_ "another key" 7 "." mount_
cp -a "$T/key" "$KEYS/$id/v1.key"
case_ "an unknown key source" 2 moon mount_ --managed-key moon:1
case_ "a missing key file, given" 6 "$T/nokey" mount_ --managed-key "file:$T/nokey"

# A passphrase.
VOL=$T/vol2
echo "the right words, long" >"$T/right"
echo "the wrong words, long" >"$T/wrong"
chmod 600 "$T/right" "$T/wrong"
expect 0 "$BCFS" init --managed-key "passphrase:$T/right" "$VOL"
case_ "a wrong passphrase" 7 passphrase mount_ --managed-key "passphrase:$T/wrong"
VOL=$T/vol

# The FIPS provider.
case_ "no FIPS provider" 9 "$T/empty" "$BCFS" --fips-dir "$T/empty" mount "$VOL" "$MNT"
case_ "no FIPS provider, as a mount option" 9 "$T/empty" mount_ -o "fips_dir=$T/empty"
mkdir "$T/badfips"
first=${FIPS_DIRS%% *}
cp "$first"/* "$T/badfips/"
flip "$T/badfips/fips.so" $(($(stat -c %s "$T/badfips/fips.so") / 2))
case_ "a damaged FIPS provider" 9 "$T/badfips" "$BCFS" --fips-dir "$T/badfips" mount "$VOL" "$MNT"
case_ "init without a FIPS provider" 9 "$T/empty" "$BCFS" --fips-dir "$T/empty" init --managed-key "store:$KEYS" "$T/vol3"
[ ! -e "$T/vol3" ] || wrong "init without a FIPS provider has left a directory"

# The mount point.
case_ "a missing mount point" 10 "$T/nomnt" "$BCFS" mount "$VOL" "$T/nomnt"
touch "$T/file"
case_ "a file as mount point" 10 "$T/file" "$BCFS" mount "$VOL" "$T/file"
mkdir "$T/full"
touch "$T/full/x"
case_ "a mount point that is not empty" 10 "$T/full" "$BCFS" mount "$VOL" "$T/full"
case_ "the volume as mount point" 10 "$VOL" "$BCFS" mount "$VOL" "$VOL"
mkdir "$VOL/.inside"
case_ "a mount point inside of the volume" 10 "$VOL/.inside" "$BCFS" mount "$VOL" "$VOL/.inside"
rmdir "$VOL/.inside"
case_ "a mount point above the volume" 10 "$T" "$BCFS" mount -o nonempty "$VOL" "$T"
case_ "an unknown option" 2 '"nonsense"' mount_ -o nonsense
case_ "a bad value" 2 attr_timeout mount_ -o attr_timeout=often
case_ "too few arguments" 2 mount "$BCFS" mount "$VOL"
case_ "an unknown switch" 2 --nonsense "$BCFS" mount --nonsense "$VOL" "$MNT"

# init.
case_ "init of a volume" 16 "$VOL" "$BCFS" init --managed-key "store:$KEYS" "$VOL"
case_ "init inside of a volume" 16 "$VOL" "$BCFS" init --managed-key "store:$KEYS" "$VOL/.inner"
[ ! -e "$VOL/.inner" ] || wrong "init inside of a volume has left a directory"
case_ "init of a full directory" 16 "$T/full" "$BCFS" init --managed-key "store:$KEYS" "$T/full"
[ "$(ls -A "$T/full")" = x ] || wrong "init of a full directory has changed it"
case_ "init of a file" 16 "$T/file" "$BCFS" init --managed-key "store:$KEYS" "$T/file"
case_ "init below a missing directory" 16 "$T/no" "$BCFS" init --managed-key "store:$KEYS" "$T/no/where"
vol_mount
case_2()
{
	expect "$1" "${@:3}"
	[[ $OUT == "blobcryptfs: "*$2* ]] || wrong "${*:3}: $OUT"
}
case_2 16 "$MNT" "$BCFS" init --managed-key "store:$KEYS" "$MNT/sub"
[ ! -e "$MNT/sub" ] || wrong "init inside of a mount has left a directory"
mkdir "$T/mnt2"
case_2 11 "$MNT" "$BCFS" mount "$VOL" "$T/mnt2"
vol_umount

# The disk below: full, read-only.
mkdir "$T/small"
mount -t tmpfs -o size=64k small "$T/small"
mkdir "$T/small/vol"
expect 0 "$BCFS" init --managed-key "store:$KEYS" "$T/small/vol"
fill()
{
	head -c 1M /dev/zero >"$T/small/filler" 2>/dev/null || true
	for i in 1 2 3 4 5 6 7 8; do head -c 4096 /dev/zero >"$T/small/filler$i" 2>/dev/null || true; done
}
fill
VOL=$T/small/vol
# A full disk can be mounted, since that is how to make room.
expect 0 mount_
head -c 100000 /dev/zero >"$MNT/more" 2>"$T/err" && wrong "a write on a full disk succeeded"
grep -q 'No space left' "$T/err" || wrong "a write on a full disk: $(cat "$T/err")"
rm -f "$MNT/more"
expect 0 "$BCFS" umount "$MNT"
mkdir "$T/small/vol2"
files=$(ls -A "$KEYS")
case_ "init on a full disk" 12 "$T/small/vol2" "$BCFS" init --managed-key "store:$KEYS" "$T/small/vol2"
[ -z "$(ls -A "$T/small/vol2")" ] || wrong "init on a full disk has left $(ls -A "$T/small/vol2")"
[ "$(ls -A "$KEYS")" = "$files" ] || wrong "init on a full disk has left a key"
rm "$T"/small/filler*
expect 0 "$BCFS" mount "$VOL" "$MNT"
expect 0 "$BCFS" umount "$MNT"
mount -o remount,ro "$T/small"
case_ "mount on a read-only disk" 12 "$VOL" mount_
case_ "init on a read-only disk" 12 "$T/small/vol2" "$BCFS" init --managed-key "store:$KEYS" "$T/small/vol2"
umount "$T/small"
VOL=$T/vol

# As a user.
if { [ -w /dev/fuse ] || as_user test -w /dev/fuse; } && users_have_fips; then
	fresh
	case_ "a user, a volume of root" 13 "$VOL" as_user "$BCFS" mount "$VOL" "$MNT"
fi
vol_mount
[ "$(cat "$MNT/file")" = text ] || wrong "after all this the content is gone"
vol_umount
[ "$failures" = 0 ] || fail "$failures cases"
