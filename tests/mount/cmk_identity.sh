#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# LONG: 300
#
# Each kind of identity turns a customer's key on and opens the volume again (long: as a mount, each of them). An identity that is removed, disabled or
# moved to another tenant ends access with that reason shown; given back, access is there again. Secrets are neither in
# the descriptor nor on the daemon's command line.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/cmk.sh"

need_root
need openssl
emu_start
tenant=$(emu -r tenants.T1 info)
app=$(emu -r client_id identity show app1)
user=$(emu -r client_id identity show user1)
vol_init
vol_mount
echo "$MARK" >"$MNT/file"
vol_umount

# opens NAME: the volume does, and nobody but NAME has asked the vault
opens()
{
	local mark
	mark=$(emu mark)
	if [ -n "$LONG" ]; then
		mounts
	else
		expect 0 "$BCFS" key verify "$VOL"
		grep -q 'opens the volume' <<<"$OUT" || fail "$1: $OUT"
	fi
	emu log --after "$mark" --op unwrapkey --status 200 | python3 -c '
import json, sys
who = {e["identity"] for e in json.load(sys.stdin)}
sys.exit(who != {sys.argv[1]})' "$1" || fail "the vault was asked by somebody else than $1"
}

mounts()
{
	vol_mount
	[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not there"
	vol_umount
}

# works NAME SPEC [OPTIONS]: sets and opens
works()
{
	expect 0 "$BCFS" key set --cloud emulator --identity "$2" "${@:3}" "$(emu_uri)" "$VOL"
	grep -qxF "identity:          $2" <<<"$OUT" || fail "$2 is not shown: $OUT"
	opens "$1"
}

(umask 077 && printf 'app1-secret\n' >"$T/app1.secret")
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$T/key.pem" -out "$T/cert.pem" -days 2 -subj /CN=app1 2>"$LOG/openssl.log" ||
	fail "openssl: $(cat "$LOG/openssl.log")"
(umask 077 && cat "$T/key.pem" "$T/cert.pem" >"$T/app1.pem")
emu identity certificate app1 "$T/cert.pem" >/dev/null

works vm auto
works vm vm
works user1 "vm:$user"
works app1 "secret:$tenant/$app:$T/app1.secret"
grep -q app1-secret "$VOL"/blobcryptfs.json* && fail "the secret is in the descriptor"
works app1 "certificate:$tenant/$app:$T/app1.pem"
mounts
mkdir -m 700 "$T/creds"
cp "$T/app1.secret" "$T/creds/app1"
export CREDENTIALS_DIRECTORY=$T/creds
works app1 "secret:$tenant/$app:credential:app1"
(umask 077 && emu token service-account system:serviceaccount:default:app1 >"$T/token")
export AZURE_CLIENT_ID=$app AZURE_TENANT_ID=$tenant AZURE_FEDERATED_TOKEN_FILE=$T/token
works app1 workload
IDENTITY_ENDPOINT=$(emu -r app_service.IDENTITY_ENDPOINT info)
IDENTITY_HEADER=$(emu -r app_service.IDENTITY_HEADER info)
export IDENTITY_ENDPOINT IDENTITY_HEADER
works vm app-service --region westeurope # it has no metadata service
works vm vm
unset CREDENTIALS_DIRECTORY AZURE_CLIENT_ID AZURE_TENANT_ID AZURE_FEDERATED_TOKEN_FILE IDENTITY_ENDPOINT IDENTITY_HEADER
works vm arc

# Secrets that others can read are refused, and so is one on the command line.
cp "$T/app1.secret" "$T/open.secret"
chmod 644 "$T/open.secret"
rc=0
"$BCFS" key set --cloud emulator --identity "secret:$tenant/$app:$T/open.secret" "$(emu_uri)" "$VOL" >"$T/out" 2>&1 || rc=$?
[ "$rc" != 0 ] || fail "a secret that is open to others is used"
grep -q "open.secret" "$T/out" || fail "no word of the secret's mode: $(cat "$T/out")"

# gone WHAT REASON UNDO...: access is, with that reason shown; then it is there again
gone()
{
	local what=$1 reason=$2
	shift 2
	expect 8 "$BCFS" key verify "$VOL"
	grep -qi "$reason" <<<"$OUT" || fail "$what: no reason: $OUT"
	if [ -n "$LONG" ] || [ "$what" = "taken off the machine" ]; then
		expect 8 "$BCFS" mount "$VOL" "$MNT"
		grep -qi "$reason" <<<"$OUT" || fail "$what: the mount tells no reason: $OUT"
		expect 8 "$BCFS" key off "$VOL"
	fi
	emu "$@" >/dev/null
	opens "$who"
}
expect 0 "$BCFS" key set --cloud emulator --identity "vm:$user" "$(emu_uri)" "$VOL"
who=user1
emu identity unassign user1 >/dev/null
gone "taken off the machine" "identity" identity assign user1
emu identity disable user1 >/dev/null
gone "disabled" "disabled\|unauthorized_client" identity enable user1
emu identity remove user1 >/dev/null
gone "removed" "identity" identity restore user1
emu identity move user1 T2 >/dev/null
gone "moved to another tenant" "tenant" identity move user1 T1
expect 0 "$BCFS" key set --cloud emulator --identity "secret:$tenant/$app:$T/app1.secret" "$(emu_uri)" "$VOL"
who=app1
emu identity disable app1 >/dev/null
gone "an app disabled" "disabled\|unauthorized_client" identity enable app1
emu identity secret app1 app1-secret --expires -1 >/dev/null
gone "a secret over" "secret\|invalid_client" identity secret app1 app1-secret --expires +3600
emu vault move v1 T2 >/dev/null
gone "the vault moved to another tenant" "tenant" vault move v1 T1

# Gone for good: another identity may take over, if the vault agrees.
emu identity remove app1 >/dev/null
expect 7 "$BCFS" key set --cloud emulator --identity "secret:$tenant/$app:$T/app1.secret" "$(emu_uri)" "$VOL"
emu revoke v1 user1 >/dev/null
expect 7 "$BCFS" key set --cloud emulator --identity "vm:$user" "$(emu_uri)" "$VOL"
emu grant v1 user1 >/dev/null
dry "$BCFS" key set --dry-run --cloud emulator --identity "vm:$user" "$(emu_uri)" "$VOL"
works user1 "vm:$user"
emu identity restore app1 >/dev/null
works app1 "secret:$tenant/$app:$T/app1.secret"

# A mounted volume, asked now: the token from before does not help the identity that is gone.
vol_mount
emu identity remove app1 >/dev/null
expect 8 "$BCFS" key verify "$MNT"
emu identity restore app1 >/dev/null
until_true 60 "$BCFS" key verify "$MNT" || fail "the mount does not get its key back"
until_true 60 grep -q "$MARK" "$MNT/file" || fail "the mount does not open again"
vol_umount
