#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# VARIANTS: release asan
#
# While a volume is locked, its daemon's memory has no key of it, no key schedule and no plaintext, though all of that
# is found before; nor does the kernel cache a page of it. For both suites and both transports.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/lock.sh"

mem_start
for suite in "" --infrastructure-encryption; do
	VOL=$T/vol$suite
	# shellcheck disable=SC2086
	vol_init $suite
	for transport in $transports; do
		vol_mount "$transport"
		mem_use
		mem_needles "$KEYS/$(status_field volume)/v1.key" >"$T/needles"
		mem_has content name name-mac name-enc content-0
		mem_open
		vol_lock
		mem_none "while locked ($suite $transport)"
		cached=$(mem_cached)
		[ "$cached" = 0 ] || fail "the kernel caches $cached pages"
		mem_refused
		mem_none "after refused requests ($suite $transport)"
		exec 5<&- 6<&-
		vol_unlock
		[ "$(grep -c . "$MNT/$name-40")" = 300 ] || fail "content is wrong after unlock"
		check_sound
		vol_umount
	done
done
