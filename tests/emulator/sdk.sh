#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
#
# The official Azure SDK for JavaScript against the emulator: what its clients accept is what our emulator has to be.
. "$SRC/tests/lib/common.sh"
. "$SRC/tests/lib/vault.sh"

need node
[ -e "$SRC/build/node/complete" ] || skip "the Azure SDK is not in build/node (make setup-tests gets it, if npm's registry can be reached)"
need_isolation

emu_start
emu vault create hsm1 --hsm >/dev/null
emu vault create v2 --no-purge-protection >/dev/null
emu vault set v1 page=3 >/dev/null
emu vault set v2 delete_seconds=0.2 >/dev/null
for vault in hsm1 v2; do
	emu grant $vault admin officer >/dev/null
done
emu grant v1 user1 reader >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=app1 -days 2 -keyout "$T/key.pem" -out "$T/cert.pem" 2>/dev/null
cat "$T/key.pem" "$T/cert.pem" >"$T/app1.pem"
emu identity certificate app1 "$T/app1.pem" >/dev/null
emu token service-account system:serviceaccount:default:app1 >"$T/federated"

for name in admin app1 user1 vm; do
	emu identity show $name >"$T/$name.json"
done
emu info >"$T/info.json"
env -u NODE_OPTIONS NODE_PATH="$SRC/build/node/node_modules" NODE_EXTRA_CA_CERTS="$EMU/ca.pem" \
	node "$SRC/tests/emulator/sdk/sdk.cjs" "$T" || fail "the SDK is not content (see above)"
[ "$(emu count --verdict broken)" = 0 ] || fail "connections broke"
