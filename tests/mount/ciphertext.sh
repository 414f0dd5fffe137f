#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 60
#
# Nothing of a name, target, attribute or content is to be found below; once encrypted and twice.
. "$(dirname "$0")/../lib/common.sh"

plant()
{
	local i d="$1/$MARK-dir"
	mkdir "$d"
	for i in 1 2 3; do
		yes "$MARK-content" | head -c 200000 >"$d/$MARK-file$i"
		ln -s "$MARK-target$i" "$d/$MARK-link$i"
		setfattr -n "user.$MARK-attr" -v "$MARK-value" "$d/$MARK-file$i"
		setfattr -n "trusted.$MARK-attr" -v "$MARK-value" "$d/$MARK-file$i"
	done
	echo "$MARK" >"$d/$MARK$(printf 'x%.0s' {1..220})"
	ln -s "$(printf "$MARK%.0s" {1..200})" "$d/long"
	setfattr -n "user.$MARK$(printf 'y%.0s' {1..200})" -v "$MARK" "$d"
}

# Everything the backing directory shows: contents, names, targets, attributes.
everything()
{
	find "$1" -type f -exec cat {} +
	find "$1" -printf '%p %l\n'
	getfattr -R -h -d -m - --absolute-names "$1"
}

need getfattr setfattr
plant "$T"
everything "$T/$MARK-dir" >"$T/control"
[ "$(grep -ac "$MARK" "$T/control")" -gt 20 ] || fail "the search itself finds nothing"
for twice in "" --infrastructure-encryption; do
	VOL=$T/vol${twice:+2}
	# shellcheck disable=SC2086
	vol_init $twice
	vol_mount
	plant "$MNT"
	vol_umount
	everything "$VOL" >"$T/below"
	if grep -aiq -e "$MARK" -e "$(printf %s "$MARK" | base64 | cut -c1-14)" "$T/below"; then
		fail "plaintext below $twice"
	fi
	find "$VOL" -type f ! -name 'blobcryptfs*' -exec cat {} + >"$T/contents"
	# Ciphertext does not compress; holes behind the last sector do.
	tr -d '\0' <"$T/contents" >"$T/dense"
	[ "$(gzip -c "$T/dense" | wc -c)" -gt $(($(wc -c <"$T/dense") * 95 / 100)) ] || fail "content compresses"
	vol_mount
	grep -rq "$MARK-content" "$MNT/$MARK-dir/$MARK-file2" || fail "content is not there"
	vol_umount
done
