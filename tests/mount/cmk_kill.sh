#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 240
# LONG: 3600
#
# The real command is killed with -9 before each system call that changes something on the disk, in each step of the life
# of a customer's key. Each time the volume opens with exactly one envelope, nothing bare is left once it was mounted,
# and the step can be finished. A sample of the places; all of them in the long run.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
need strace
emu_start
emu key create v1 k2 >/dev/null
vol_init
mkdir "$T/plain"
for i in 1 100 10000 100000; do
	head -c "$i" /dev/urandom >"$T/plain/$i"
done
vol_mount
cp -a "$T/plain" "$MNT/tree"
vol_umount
id=$(status_field volume "$VOL")
CALLS=write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,openat
tested=0

# traced STRACE-OPTIONS... -- COMMAND...: strace that looks at the volume and its keys alone
traced()
{
	local options=() files=() f
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	for f in "$VOL" "$VOL"/{,.}blobcryptfs.json{,.bak,.tmp,.bak.tmp} "$KEYS/$id" "$KEYS/$id"/{,.}v{1,2,3,4,5,6,7,8}.key{,.tmp}; do
		files+=(-P "$f")
	done
	strace -f -qq -o "$T/trace" "${files[@]}" "${options[@]}" -- "$@" >"$T/out" 2>&1 </dev/null
}

# places: the calls that change something, one a line; reading and the lock file do not
places()
{
	grep -v 'O_RDONLY\|O_PATH\|blobcryptfs.lock' "$T/trace" | sed -n 's/^[0-9]* *\([a-z0-9]*\)(.*/\1/p'
}

snapshot()
{
	rm -rf "$T/before"
	mkdir "$T/before"
	cp -a "$VOL" "$T/before/vol"
	cp -a "$KEYS" "$T/before/keys"
}

restore()
{
	rm -rf "$VOL" "$KEYS"
	cp -a "$T/before/vol" "$VOL"
	cp -a "$T/before/keys" "$KEYS"
}

# sound WHERE: opens, whole, and nothing bare beside a customer's envelope
sound()
{
	vol_mount
	diff -r "$T/plain" "$MNT/tree" || fail "$1: the files differ"
	vol_umount
	cmp -s "$VOL/blobcryptfs.json" "$VOL/blobcryptfs.json.bak" || fail "$1: the descriptor's copies differ"
	if grep -q '"layer_key"' "$VOL/blobcryptfs.json"; then
		! grep -rlF '"volume_key"' "$VOL" || fail "$1: a bare managed envelope"
	fi
	[ "$(find "$VOL" -maxdepth 1 -name '.*.tmp' | wc -l)" = 0 ] || fail "$1: a temporary file is left"
}

# step NAME KIND COMMAND...: KIND of envelope when it is done
step()
{
	local name=$1 kind=$2 call n count rc
	shift 2
	snapshot
	traced -e "trace=$CALLS" -- "$@" || fail "$name: $(cat "$T/out")"
	places | sort | uniq -c >"$T/counts.$name"
	grep -q renameat2 "$T/counts.$name" || fail "$name: strace saw no renameat2"
	one_envelope "$kind"
	while read -r count call; do
		for n in $(seq "$count"); do
			spot=$((spot + 1))
			# short: before the exchange in each step, and a few others
			[ -n "$LONG" ] || [ "$call $n" = "renameat2 1" ] || [ $((spot % 25)) = 0 ] || continue
			restore
			rc=0
			traced -e "trace=$call" -e "inject=$call:signal=KILL:when=$n" -- "$@" || rc=$?
			[ "$rc" != 0 ] || fail "$name: not killed at $call $n"
			tested=$((tested + 1))
			sound "$name, killed at $call $n"
			# Not done yet: do it. Off was done: what it left in the key store goes with the next rotation.
			if ! "$@" >"$T/out" 2>&1; then
				grep -q "No customer's key is on" "$T/out" || fail "$name again: $(cat "$T/out")"
				expect 0 "$BCFS" key rotate "$VOL"
			fi
			[ -z "$LONG" ] || sound "$name again after $call $n"
			one_envelope "$kind"
		done
	done <"$T/counts.$name"
	restore
	"$@" >"$T/out" 2>&1 || fail "$name: $(cat "$T/out")"
}

spot=0
uri=$(emu_uri)
step on customer "$BCFS" key set --cloud emulator "$uri" "$VOL"
emu key rotate v1 k1 >/dev/null
step version customer "$BCFS" key rotate "$VOL"
step other customer "$BCFS" key set --cloud emulator "$(emu_uri v1 k2)" "$VOL"
step managed customer "$BCFS" key rotate --managed "$VOL"
step off managed "$BCFS" key off "$VOL"
echo "$tested of $spot places"
