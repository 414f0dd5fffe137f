#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# No plaintext of contents, names, link targets, xattr names or values is found below the mount, in
# names or in bytes, with either suite; the same search finds it all in a plain copy.
. "$(dirname "$0")/../lib/common.sh"

need_root

plant()
{
	local long
	long=$MARK-long-$(printf 'n%.0s' {1..200})
	mkdir -p "$1/$MARK-dir"
	for i in 1 2 3 100 5000; do
		yes "$MARK-content-$i" | head -n "$i" >"$1/$MARK-dir/$MARK-name-$i"
	done
	printf '%s' "$MARK-tiny" >"$1/$MARK-dir/tiny"
	ln -s "/where/$MARK-target" "$1/link"
	ln -s "$MARK-$(printf 't%.0s' {1..500})" "$1/longlink"
	ln -s "$(yes "$MARK/" | head -n 100 | tr -d '\n')" "$1/longerlink"
	echo "$MARK-in-long" >"$1/$long"
	setfattr -n "user.$MARK-attr" -v "$MARK-value" "$1/$long" "$1/$MARK-dir"
	setfattr -n "trusted.$MARK-attr" -v "$MARK-value" "$1/link" -h
	setfattr -n user.plain -v "$(yes "$MARK-v" | head -n 100)" "$1/$MARK-dir/tiny"
}

# search DIR WHERE: what of the plaintext is seen in DIR's names, link targets, xattrs and bytes
search()
{
	local text=$1
	{
		(cd "$2" && grep -r -a -l -e "$text" . | sed 's/^/content of /')
		(cd "$2" && find . -printf '%P -> %l\n' | grep -a -e "$text" | sed 's/^/name or target /')
		(cd "$2" && getfattr -R -h -d -m - -e text . 2>/dev/null | grep -a -e "$text" | sed 's/^/xattr /')
		(cd "$2" && getfattr -R -h -d -m - -e hex . 2>/dev/null |
			grep -a -i -e "$(printf '%s' "$text" | od -An -tx1 | tr -d ' \n')" | sed 's/^/xattr /')
	} || true
}

plant_and_search()
{
	local base64 text found
	vol_init "$@"
	vol_mount
	plant "$MNT"
	mv "$MNT/$MARK-dir/$MARK-name-3" "$MNT/$MARK-dir/$MARK-renamed"
	sync -f "$MNT"
	base64=$(printf '%s' "$MARK" | base64 -w 0)
	# The three ways a text may lie in base64, without the characters at the edges.
	for text in "$MARK" "${base64:0:18}" "$(printf 'x%s' "$MARK" | base64 -w 0 | cut -c 3-18)" \
		"$(printf 'xx%s' "$MARK" | base64 -w 0 | cut -c 4-18)"; do
		found=$(search "$text" "$VOL")
		[ -z "$found" ] || fail "\"$text\" below, mounted: $(head -n 5 <<<"$found")"
	done
	vol_umount
	found=$(search "$MARK" "$VOL")
	[ -z "$found" ] || fail "below, unmounted: $(head -n 5 <<<"$found")"
	find "$VOL" -mindepth 1 -printf '%f\n' | grep -v -x -E '[A-Za-z0-9_-]+|[LNS]\.[A-Za-z0-9_-]+|bcfs\.id|blobcryptfs\.[a-z.]+' &&
		fail "a name that the format does not know"
	# The audit log is outside of the volume, but it must not tell names either.
	! grep -r -a -e "$MARK" /var/log/blobcryptfs "$LOG/daemon.log" 2>/dev/null || fail "plaintext in a log"
}

mkdir "$T/plain"
plant "$T/plain"
kinds=$(search "$MARK" "$T/plain" | awk '{print $1}' | sort -u | tr '\n' ' ')
[ "$kinds" = "content name xattr " ] || fail "the search itself finds only: $kinds"
plant_and_search
VOL=$T/vol2
plant_and_search --infrastructure-encryption
