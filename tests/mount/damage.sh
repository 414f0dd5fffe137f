#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 300
# LONG: 1500
# VARIANTS: release asan
#
# Whatever is changed below while the volume is not mounted: EIO or a refusal, never wrong bytes;
# status counts it, the audit log tells it, and all other files stay as they are.
. "$(dirname "$0")/../lib/common.sh"

need_root
turns=1
# Each kind of damage is a mount of its own: every third of them here, all in the long run.
step=3
[ -z "$LONG" ] || { turns=4 step=1; }
if sanitized; then step=7; fi
for suite in "" --infrastructure-encryption; do
	VOL=$T/vol$suite
	# shellcheck disable=SC2086
	vol_init $suite
	VOL2=$T/other$suite
	mkdir -p "$VOL2" "$T/mnt2"
	# shellcheck disable=SC2086
	"$BCFS" init --managed-key "store:$KEYS" $suite "$VOL2" >>"$LOG/init.log"
	python3 "$SRC/tests/lib/damage.py" "$BCFS" "$VOL" "$VOL2" "$MNT" "$T/work$suite" "$turns" "$step" || fail "see above"
	# In "make check" a third of it is enough for the second suite.
	[ -n "$LONG" ] || step=$((step * 3))
done
