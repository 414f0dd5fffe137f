# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A Key Vault for mount tests: source it after common.sh. See tests/emulator/README.md.
#
#   emu_start [options of the emulator]   starts it; it ends with the test
#   emu WORD...                           tests/emulator/ctl: emu key disable v1 k1
#   emu_uri [VAULT KEY]                   the key's identifier without version (v1 k1)
#
# There is the cloud "emulator" then, with the vault v1 in tenant T1 and region westeurope, purge protection on, its RSA
# key k1, and the VM's identity "vm", which may get, wrap and unwrap.

EMU=$T/emu

emu_start()
{
	local clouds=/etc/blobcryptfs/clouds
	/usr/bin/python3 -c 'import cryptography' 2>/dev/null ||
		skip "python3-cryptography is not installed"
	if [ "$(id -u)" = 0 ]; then
		need_isolation
	else
		clouds=$HOME/.config/blobcryptfs/clouds
	fi
	"$SRC/tests/emulator/emulator" --dir "$EMU" "$@" >>"$LOG/emulator.log" 2>&1 &
	EMU_PID=$!
	on_exit "kill $EMU_PID 2>/dev/null; wait $EMU_PID 2>/dev/null"
	until_true 60 emu_ready_or_dead || fail "the emulator does not start"
	[ -e "$EMU/ready" ] || fail "emulator: $(tail -n 3 "$LOG/emulator.log")"
	mkdir -p "$clouds"
	install -m 644 "$EMU/cloud.json" "$clouds/emulator.json"
}

emu_ready_or_dead()
{
	[ -e "$EMU/ready" ] || ! kill -0 "$EMU_PID"
}

emu()
{
	"$SRC/tests/emulator/ctl" --dir "$EMU" "$@" || fail "ctl $*"
}

emu_uri()
{
	emu -r uri key show "${1:-v1}" "${2:-k1}"
}
