#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# Each FIPS provider reads what the other one wrote, in both suites.
. "$(dirname "$0")/../lib/common.sh"

need_root
present=()
for dir in $FIPS_DIRS; do
	[ -e "$dir/fips.so" ] && present+=("$dir")
done
[ "${#present[@]}" -ge 2 ] || skip "only one FIPS provider is built; make setup-tests gets the other"
mkdir "$T/source"
python3 "$SRC/tests/lib/make_tree.py" "$T/source" 200 3
number=0
for first in "${present[@]}"; do
	for suite in "" --infrastructure-encryption; do
		number=$((number + 1))
		VOL=$T/vol$number
		# shellcheck disable=SC2086
		vol_init --fips-dir "$first" $suite
		vol_mount "fips_dir=$first"
		module=$(status_field fips.module)
		[ "$module" = "$first/fips.so" ] || fail "the module in use is $module, not $first/fips.so"
		[ "$(status_field fips.approved)" = true ] || fail "not approved"
		cp -a "$T/source" "$MNT/tree"
		same_tree "$T/source" "$MNT/tree"
		vol_umount
		for second in "${present[@]}"; do
			[ "$second" != "$first" ] || continue
			vol_mount "fips_dir=$second"
			[ "$(status_field fips.version)" != "" ] || fail "no version"
			same_tree "$T/source" "$MNT/tree"
			echo more >"$MNT/by-the-other"
			check_sound
			vol_umount
		done
		vol_mount "fips_dir=$first"
		[ "$(cat "$MNT/by-the-other")" = more ] || fail "$first does not read what another provider wrote"
		check_sound
		vol_umount
	done
done
