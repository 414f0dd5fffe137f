# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Customer's keys in mount tests: source it after common.sh and vault.sh.

# key_set [OPTIONS] URI: puts VOL under it; expects success
key_set()
{
	expect 0 "$BCFS" key set --cloud emulator "$@" "$VOL"
}

# new_vault NAME [options of "vault create"]: with a key k1 and rights for the VM's identity
new_vault()
{
	emu vault create "$@" >/dev/null
	emu key create "$1" k1 >/dev/null
	emu grant "$1" vm >/dev/null
}

# descriptors: a digest of both copies of the descriptor
descriptors()
{
	cat "$VOL/blobcryptfs.json" "$VOL/blobcryptfs.json.bak" | sha256sum
}

# data: a digest of everything in the volume but its descriptor, state and lock
data()
{
	(cd "$VOL" && find . -type f ! -name 'blobcryptfs.*' -printf '%p %s %T@ %C@\n' -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
}

# key_field NAME [DIR]: one value of "key show --json"
key_field()
{
	"$BCFS" key show --json "${2:-$VOL}" | python3 -c '
import json, sys
value = json.load(sys.stdin)
for part in sys.argv[1].split("."):
    value = value[part]
print(json.dumps(value) if isinstance(value, (list, dict, bool)) else value)' "$1"
}

# one_envelope managed|customer: both copies of the descriptor are the same, with one envelope of that kind and no
# other wrapped key anywhere, and the key store has one version
one_envelope()
{
	local versions
	cmp -s "$VOL/blobcryptfs.json" "$VOL/blobcryptfs.json.bak" || fail "the descriptor's copies differ"
	python3 - "$1" "$VOL/blobcryptfs.json" <<'PY' || fail "not one $1 envelope"
import json, sys
kind, path = sys.argv[1:]
with open(path) as f:
    text = f.read()
d = json.loads(text)
e = d["envelope"]
want = {"managed": {"kind", "provider", "key", "version", "wrapped_at", "volume_key"},
        "customer": {"kind", "provider", "key", "version", "wrapped_at", "layer_key", "managed"}}[kind]
assert set(e) == want, set(e)
assert e["kind"] == {"managed": "managed", "customer": "azure-key-vault"}[kind], e["kind"]
assert text.count('"volume_key"') == (kind == "managed"), "a bare wrapped key"
PY
	versions=$(find "$KEYS" -name 'v*.key' | wc -l)
	[ "$versions" = 1 ] || fail "the key store has $versions versions"
}

# dry COMMAND...: succeeds, and neither the descriptor nor the keys are changed
dry()
{
	local before
	before=$(descriptors; find "$KEYS" -type f | sort)
	expect 0 "$@"
	[ "$before" = "$(descriptors; find "$KEYS" -type f | sort)" ] || fail "a dry run has changed something: $*"
	grep -q 'Dry run' <<<"$OUT" || fail "no word of a dry run: $OUT"
}
