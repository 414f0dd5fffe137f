#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
#
# "key set" refuses: each check that can fail, failing alone and several together, is shown with its remedy, has its
# exit code, and nothing is changed. Unfit keys are refused by name, by "key list" too.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
emu_start
vol_init
before=$(descriptors)
NET= # what cuts off the network

# refused CODE "CHECK,CHECK" URI [OPTIONS]: exactly these checks fail, each with a remedy; others that could not be
# asked may be skipped. What keeps a key from working also fails the round trip.
refused()
{
	local code=$1 want=$2 uri=$3 rc=0 got
	shift 3
	$NET "$BCFS" key set --json --cloud emulator "$@" "$uri" "$VOL" >"$T/out" 2>"$T/err" || rc=$?
	[ "$rc" = "$code" ] || fail "exit code $rc, not $code, where [$want] should fail: $(cat "$T/out" "$T/err")"
	got=$(python3 - "$T/out" <<'PY'
import json, sys
a = json.load(open(sys.argv[1]))
assert len(a["checks"]) == 11, len(a["checks"])
assert not a["changed"]
failed = [c for c in a["checks"] if c["state"] == "failed"]
for c in failed:
    assert c.get("remedy"), c
    assert c["found"], c
print(",".join(c["name"] for c in failed))
PY
) || fail "[$want]: the report makes no sense: $(cat "$T/out")"
	[ "$got" = "$want" ] || fail "[$got] failed, not [$want]: $(cat "$T/out")"
	grep -q 'Nothing was changed' "$T/err" || fail "no clear end: $(cat "$T/err")"
	[ "$(descriptors)" = "$before" ] || fail "the descriptor was changed where [$want] failed"
}

uri=$(emu_uri)

# Mistakes on the command line: nobody is asked.
mark=$(emu mark)
for bad in http://v1.vault.localhost/keys/k1 https://v1.vault.azure.net/keys/k1 https://evil.example/keys/k1 \
	"${uri%/keys*}" "$uri/nonsense" "$uri?x=1" "https://user@${uri#https://}" https://v1.vault.localhost:1/keys/k1; do
	expect 2 "$BCFS" key set --cloud emulator "$bad" "$VOL"
done
expect 2 "$BCFS" key set --cloud nowhere "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --identity cli "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --identity nobody "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --identity secret:T/C:relative "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --probe-interval 0 "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --lease 86401 "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --api-version '7.4&x=y' "$uri" "$VOL"
expect 2 "$BCFS" key set --cloud emulator --region 'West Europe' "$uri" "$VOL"
expect 2 "$BCFS" key create --cloud emulator --type EC v1 k9
expect 2 "$BCFS" key create --cloud emulator --size 1024 v1 k9
expect 2 "$BCFS" key create --cloud emulator v1 k_9
[ "$(emu mark)" = "$mark" ] || fail "somebody was asked about a mistake"

# Each alone. The first one is tried again for some seconds before it is told, so it runs beside the others, on a volume
# of its own.
unreachable()
{
	local VOL=$T/vol2 T=$T/unreachable NET="unshare -n" before
	mkdir "$T"
	"$BCFS" init --managed-key "store:$T/keys" "$VOL"
	before=$(descriptors)
	refused 6 reachable "$uri"
}
(trap - EXIT; unreachable) >"$LOG/unreachable" 2>&1 &
unreachable=$!
emu identity disable vm >/dev/null
refused 7 authenticated "$uri"
emu identity enable vm >/dev/null
new_vault other --tenant T2
refused 19 tenant "$(emu_uri other)"
new_vault north --region northeurope
refused 19 region "$(emu_uri north)"
refused 19 region "$uri" --region eastus
new_vault soft --no-purge-protection
refused 19 "purge protection" "$(emu_uri soft)"
grep -q -- '--enable-purge-protection true' "$T/out" || fail "no az command: $(cat "$T/out")"
new_vault hard --no-purge-protection --no-soft-delete
refused 19 "soft delete,purge protection" "$(emu_uri hard)"
emu key create v1 off --disabled >/dev/null
refused 19 "enabled,round trip" "$(emu_uri v1 off)"
emu key create v1 later --nbf +3600 >/dev/null
refused 19 "validity,round trip" "$(emu_uri v1 later)"
emu key create v1 over --exp -60 >/dev/null
refused 19 "validity,round trip" "$(emu_uri v1 over)"
emu key create v1 sign --ops sign,verify >/dev/null
refused 19 "operations,round trip" "$(emu_uri v1 sign)"
emu key create v1 ec --kty EC >/dev/null
refused 19 kind "$(emu_uri v1 ec)"
emu fault add v1 unwrapkey wrong-value >/dev/null
refused 19 "round trip" "$uri"
emu fault clear

# Several together
new_vault bad --region northeurope --no-purge-protection
emu key create bad k2 --disabled --exp -60 >/dev/null
refused 19 "region,purge protection,enabled,validity,round trip" "$(emu_uri bad k2)"
"$BCFS" key set --cloud emulator "$(emu_uri bad k2)" "$VOL" >"$T/out" 2>&1 || true
[ "$(grep -c '^FAILED' "$T/out")" = 5 ] || fail "in words: $(cat "$T/out")"
[ "$(grep -c 'remedy: ' "$T/out")" -ge 5 ] || fail "remedies in words: $(cat "$T/out")"

# No role
emu revoke v1 vm >/dev/null
rc=0
"$BCFS" key set --cloud emulator "$uri" "$VOL" >"$T/out" 2>&1 || rc=$?
[ "$rc" = 7 ] || fail "without the role: exit code $rc: $(cat "$T/out")"
grep -q 'az role assignment create' "$T/out" || fail "no word of the role: $(cat "$T/out")"
emu grant v1 vm >/dev/null

# list: by the administrator, since the machine's role has none
emu_secret()
{
	(umask 077 && emu -r tenants.T1 info >"$T/t1" && printf 'admin-secret\n' >"$T/admin.secret")
	ADMIN=secret:$(cat "$T/t1")/$(emu -r client_id identity show admin):$T/admin.secret
}
emu_secret
expect 7 "$BCFS" key list --cloud emulator v1
"$BCFS" key list --cloud emulator --identity "$ADMIN" --json v1 >"$T/list" || fail "key list: exit code $?"
python3 - "$T/list" <<'PY' || fail "key list: $(cat "$T/list")"
import json, sys
keys = {k["uri"].rsplit("/", 1)[1]: k for k in json.load(open(sys.argv[1]))["keys"]}
assert keys["k1"]["fit"] and not keys["k1"]["reason"], keys["k1"]
for name in ("off", "later", "over", "sign", "ec"):
    assert not keys[name]["fit"] and keys[name]["reason"], keys[name]
assert keys["ec"]["type"] == "EC", keys["ec"]
assert keys["k1"]["bits"] == 2048, keys["k1"]
PY
expect 0 "$BCFS" key list --cloud emulator --identity "$ADMIN" v1
grep -q '^unfit  EC' <<<"$OUT" || fail "key list in words: $OUT"

# create, and identity with the commands that grant
expect 7 "$BCFS" key create --cloud emulator v1 mine
expect 0 "$BCFS" key create --cloud emulator --identity "$ADMIN" --dry-run v1 mine
expect 0 "$BCFS" key create --cloud emulator --identity "$ADMIN" v1 mine
[ "$(emu -r kty key show v1 mine)" = RSA ] || fail "key create made $(emu key show v1 mine)"
expect 0 "$BCFS" key identity --cloud emulator v1
grep -q "$(emu -r oid identity show vm)" <<<"$OUT" || fail "key identity: $OUT"
grep -q 'az role assignment create.*Key Vault Crypto Service Encryption User' <<<"${OUT//$'\n'/ }" ||
	fail "key identity has no command: $OUT"
[ "$(descriptors)" = "$before" ] || fail "something has changed the descriptor"

# What may be overridden, and the fit kinds of a Managed HSM
key_set "$(emu_uri v1 mine)"
key_set --allow-other-region "$(emu_uri north)"
# A key that ends later on counts as revoked, unless that was allowed before.
key_set "$(emu_uri v1 k1)"
emu key update v1 k1 --exp -60 >/dev/null
expect 8 "$BCFS" key verify "$VOL"
emu key update v1 k1 --exp none >/dev/null
key_set --allow-expired "$(emu_uri v1 k1)"
emu key update v1 k1 --exp -60 >/dev/null
expect 0 "$BCFS" key verify "$VOL"
new_vault hsm1 --hsm
for kty in RSA-HSM oct-HSM; do
	emu key create hsm1 "$kty" --kty "$kty" >/dev/null
	key_set "$(emu_uri hsm1 "$kty")"
	expect 0 "$BCFS" key verify "$VOL"
done
[ "$(key_field customer.algorithm)" = A256KW ] || fail "an oct-HSM key wraps with $(key_field customer.algorithm)"
vol_mount
echo x >"$MNT/x"
vol_remount
[ "$(cat "$MNT/x")" = x ] || fail "the file is gone"
vol_umount
wait "$unreachable" || fail "without a network: $(cat "$LOG/unreachable")"
