#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 150
# LONG: 1200
# VARIANTS: release tsan
#
# The vault says yes and no in turn, every second (30 s; ten minutes in the long form), while writers append, create,
# rename and sync. What was acknowledged is there at the end, and each byte is right. The daemon survives.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
use_backing 1G
emu_start
cmk_mount
seconds=30
[ -z "$LONG" ] || seconds=600

writers=()
for i in 1 2 3; do
	python3 "$SRC/tests/lib/flapping.py" write "$MNT" "$T/journal.$i" "$i" "$T/stop" >>"$LOG/writer.$i.log" 2>&1 &
	writers+=($!)
done
end=$((SECONDS + seconds))
while [ "$SECONDS" -lt "$end" ]; do
	emu key disable v1 k1 >/dev/null
	sleep 1
	emu key enable v1 k1 >/dev/null
	sleep 1
	kill -0 "$DAEMON" || fail "the daemon is gone"
done
until_true 90 gate_is OPEN none || fail "it does not open any more: $(show_gate)"
touch "$T/stop"
for i in "${writers[@]}"; do
	wait "$i" || fail "a writer failed: $(tail -n 5 "$LOG"/writer.*.log)"
done
locks=$(status_field access.locks)
[ "$locks" -ge $((seconds / 15)) ] || fail "it has locked $locks times only"
echo "$locks locks"
check()
{
	local i
	for i in 1 2 3; do
		python3 "$SRC/tests/lib/flapping.py" check "$MNT" "$T/journal.$i" "$i" || fail "writer $i"
	done
}
check
[ "$(status_field access.undrained)" = 0 ] || fail "undrained: $(show_gate)"
check_sound
exec 9<&-
vol_umount
vol_mount
check
check_sound
vol_umount
