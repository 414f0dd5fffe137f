#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# No plaintext of contents, names, link targets, xattr names or values is found below the mount, in
# names or in bytes, with either suite; the same search finds it all in a plain copy.
. "$(dirname "$0")/../lib/common.sh"

need_root
need getfattr setfattr

# repeat N TEXT
repeat()
{
	local i
	for ((i = 0; i < $1; i++)); do
		printf '%b' "$2"
	done
}

plant()
{
	local i long
	long=$MARK-long-$(repeat 200 n)
	mkdir -p "$1/$MARK-dir"
	for i in 1 2 3 100 5000; do
		repeat "$i" "$MARK-content-$i\n" >"$1/$MARK-dir/$MARK-name-$i"
	done
	printf '%s' "$MARK-tiny" >"$1/$MARK-dir/tiny"
	ln -s "/where/$MARK-target" "$1/link"
	ln -s "$MARK-$(repeat 500 t)" "$1/longlink"
	ln -s "$(repeat 100 "$MARK/")" "$1/longerlink"
	echo "$MARK-in-long" >"$1/$long"
	setfattr -n "user.$MARK-attr" -v "$MARK-value" "$1/$long" "$1/$MARK-dir"
	setfattr -n "user.$MARK-$(repeat 200 a)" -v "$MARK" "$1/$MARK-dir"
	setfattr -n "trusted.$MARK-attr" -v "$MARK-value" "$1/link" -h
	setfattr -n user.plain -v "$(repeat 100 "$MARK-v ")" "$1/$MARK-dir/tiny"
}

# search DIR TEXT: where TEXT is seen in DIR: bytes, names, link targets, xattrs
search()
{
	local text=$2 hex
	hex=$(printf '%s' "$text" | od -An -tx1 | tr -d ' \n')
	(
		cd "$1"
		grep -r -a -l -e "$text" . | sed 's/^/content of /'
		find . -printf '%P -> %l\n' | grep -a -e "$text" | sed 's/^/name or target /'
		getfattr -R -P -h -d -m - -e text . 2>/dev/null | grep -a -e "$text" | sed 's/^/xattr /'
		getfattr -R -P -h -d -m - -e hex . 2>/dev/null | grep -a -i -e "$hex" | sed 's/^/xattr /'
	) || true
}

plant_and_search()
{
	local text found base64
	vol_init "$@"
	vol_mount
	plant "$MNT"
	mv "$MNT/$MARK-dir/$MARK-name-3" "$MNT/$MARK-dir/$MARK-renamed"
	sync -f "$MNT"
	base64=$(printf '%s' "$MARK" | base64 -w 0)
	# The three ways a text may lie in base64, without the characters at the edges.
	for text in "$MARK" "${base64:0:18}" "$(printf 'x%s' "$MARK" | base64 -w 0 | cut -c 3-18)" \
		"$(printf 'xx%s' "$MARK" | base64 -w 0 | cut -c 4-18)"; do
		found=$(search "$VOL" "$text")
		[ -z "$found" ] || fail "\"$text\" below, mounted: $(head -n 5 <<<"$found")"
	done
	vol_remount
	grep -q "$MARK-content" "$MNT/$MARK-dir/$MARK-name-5000" || fail "the content is not there"
	vol_umount
	found=$(search "$VOL" "$MARK")
	[ -z "$found" ] || fail "below, unmounted: $(head -n 5 <<<"$found")"
	found=$(find "$VOL" -mindepth 1 -printf '%f\n' |
		grep -v -x -E '[A-Za-z0-9_-]+|[LNS]\.[A-Za-z0-9_-]+(\.[0-9]+)?|bcfs\.id|blobcryptfs\.[a-z.]+') || true
	[ -z "$found" ] || fail "names that the format does not know: $found"
	# Ciphertext does not compress; holes behind the last sector do.
	find "$VOL" -type f ! -name 'blobcryptfs.*' -exec cat {} + | tr -d '\0' >"$T/dense"
	[ "$(gzip -c "$T/dense" | wc -c)" -gt $(($(wc -c <"$T/dense") * 95 / 100)) ] || fail "the ciphertext compresses"
	# The logs are outside of the volume, but must not tell names either.
	! grep -r -a -e "$MARK" /var/log/blobcryptfs "$LOG/daemon.log" 2>/dev/null || fail "plaintext in a log"
}

mkdir "$T/plain"
plant "$T/plain"
kinds=$(search "$T/plain" "$MARK" | awk '{ print $1 }' | sort -u | tr '\n' ' ')
[ "$kinds" = "content name xattr " ] || fail "the search itself finds only: $kinds"
plant_and_search
VOL=$T/vol2
plant_and_search --infrastructure-encryption
