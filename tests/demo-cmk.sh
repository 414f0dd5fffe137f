#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A customer's key in Azure Key Vault, its whole life on this machine: what "make demo-cmk" runs after the build.
#
# There is no Azure here: the vault, Entra and the machine's identity are those of the emulator in tests/emulator, on
# loopback. What blobcryptfs does is all real. Everything happens in a temporary directory of its own and is removed at
# the end. Each step is checked: the demo stops where something is not as it says.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
program=${BCFS:-$top/build/blobcryptfs}
python=/usr/bin/python3
steps=13

work=
volume_id=
emulator=
step=0

die() {
  printf 'demo-cmk: %s\n' "$*" >&2
  exit 1
}

say() {
  printf '   %s\n' "$*"
}

heading() {
  step=$((step + 1))
  printf '\n[%d/%d] %s\n' "$step" "$steps" "$*"
}

# What a user types, without the name of our temporary directory.
show_command() {
  local text="$*"
  say "\$ blobcryptfs ${text//"$work/"/}"
}

# Shows a command of ours, and runs it; its output goes to $work/out, too.
run() {
  show_command "$@"
  "$program" "$@" >"$work/out" 2>&1 || die "it failed with exit code $?: $(cat "$work/out")"
  sed "s,$work/,,g; s/^/     /" "$work/out" | cut -c "1-${width:-1000}"
}

# The same; of its output only the first N lines are shown.
run_first() {
  local n=$1
  shift
  show_command "$@"
  "$program" "$@" >"$work/out" 2>&1 || die "it failed with exit code $?: $(cat "$work/out")"
  sed "s,$work/,,g; s/^/     /; $((n + 1)) s/.*/     .../; $((n + 1)) q" "$work/out"
}

# refused CODE WORD COMMAND...: it has to fail with that exit code and say that word
refused() {
  local want=$1 word=$2 rc=0
  shift 2
  show_command "$@"
  "$program" "$@" >"$work/out" 2>&1 </dev/null || rc=$?
  sed "s,$work/,,g; s/^/     /" "$work/out"
  say "exit code $rc"
  [[ $rc == "$want" ]] || die "the exit code should be $want"
  grep -qi -- "$word" "$work/out" || die "there is no word of \"$word\""
}

# The administrator of the vault, who in real life would use az or the portal.
admin() {
  say "(in the vault) $*"
  ctl "$@" >/dev/null
}

ctl() {
  "$top/tests/emulator/ctl" --dir "$work/azure" "$@" || die "the emulator does not do: $*"
}

# A value of the program's JSON on stdin: json .member.member
json() {
  "$python" -c '
import json, sys
value = json.load(sys.stdin)
for part in sys.argv[1].strip(".").split("."):
    value = value[int(part) if isinstance(value, list) else part]
print(json.dumps(value) if isinstance(value, (list, dict, bool)) else value)' "$1"
}

field() {
  "$program" status --json "$work/plain" | json "$1"
}

# until_true SECONDS COMMAND...
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

cleanup() {
  local rc=$?
  trap - EXIT
  set +e
  cd /
  if [[ -n $work ]]; then
    if grep -qF " $work/plain fuse" /proc/self/mounts; then
      "$program" umount "$work/plain" 2>/dev/null || umount -l "$work/plain"
    fi
    if [[ -n $emulator ]]; then
      kill "$emulator" 2>/dev/null
      wait "$emulator" 2>/dev/null
    fi
    # The audit log of this volume is of no use to anybody once the volume is gone.
    if [[ -n $volume_id && $EUID == 0 ]]; then
      rm -rf "/var/log/blobcryptfs/$volume_id".*
      rmdir /var/log/blobcryptfs 2>/dev/null
    fi
    rm -rf --one-file-system "$work"
  fi
  ((rc == 0)) || printf 'demo-cmk: stopped; everything it made is removed.\n' >&2
  exit "$rc"
}

start_azure() {
  "$top/tests/emulator/emulator" --dir "$work/azure" --empty >"$work/emulator.log" 2>&1 &
  emulator=$!
  until_true 60 test -e "$work/azure/ready" || die "the emulator does not start: $(tail -n 3 "$work/emulator.log")"
  mkdir -p "$XDG_CONFIG_HOME/blobcryptfs/clouds"
  install -m 644 "$work/azure/cloud.json" "$XDG_CONFIG_HOME/blobcryptfs/clouds/demo.json"
  {
    ctl identity create vm --kind system
    ctl identity create olga --kind app
    ctl vault create contoso
    ctl grant contoso olga officer
    ctl key create contoso old-curve --kty EC
    ctl key create contoso last-year --exp -86400
    ctl vault create careless --no-purge-protection
    ctl key create careless data
    ctl grant careless vm
  } >/dev/null
  (umask 077 && echo olga-secret >"$work/olga")
  olga=secret:$(ctl -r tenants.T1 info)/$(ctl -r client_id identity show olga):$work/olga
}

# Every file of the volume but its descriptor, state and lock.
data() {
  (cd "$work/cipher" && find . -type f ! -name 'blobcryptfs.*' -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
}

compare() {
  diff -r "$work/source" "$work/plain/source" || die "the contents differ (see above)"
  say "diff -r: all $(find "$work/source" -type f | wc -l) files are readable through the mount, and the same"
}

reads() {
  cat "$work/plain/source/$sample" >/dev/null
}

reads_shown() {
  { cat "$work/plain/source/$sample" 2>&1 || true; } | sed "s,$work/,,g; s/^/     /" | sed -n 1,3p
}

no_reads() {
  ! reads
}

envelope() {
  "$python" - "$work/cipher/blobcryptfs.json" <<'PY'
import json, sys
def brief(x):
    if isinstance(x, dict):
        return {k: brief(v) for k, v in x.items()}
    return x[:40] + "..." if isinstance(x, str) and len(x) > 90 and not x.startswith("https") else x
with open(sys.argv[1]) as f:
    print(json.dumps(brief(json.load(f)["envelope"]), indent=2))
PY
}

# In a mount namespace of its own, where that can be had: a namespace that some other program makes meanwhile would hold
# on to our mount.
if [[ $EUID == 0 && -z ${DEMO_NAMESPACE-} ]] && unshare --mount --propagation private true 2>/dev/null; then
  DEMO_NAMESPACE=own exec unshare --mount --propagation private "$0" "$@"
fi

started=$SECONDS
[[ -x $program ]] || die "there is no $program. Run: make setup && make"
[[ -c /dev/fuse ]] || die "there is no /dev/fuse here. Load the module (modprobe fuse), or give it to the container (--device /dev/fuse --cap-add SYS_ADMIN)."
"$python" -c 'import cryptography' 2>/dev/null || die "the emulator needs Debian's python3-cryptography. Run: .ci/get-packages demo"

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/blobcryptfs-demo.XXXXXX")
work=$(realpath "$work")
export XDG_STATE_HOME=$work/state XDG_CONFIG_HOME=$work/config
mkdir "$work/plain" "$work/source"

echo "blobcryptfs demo of customer-managed keys, in $work"

heading "A cloud on this machine: vaults contoso and careless, and an identity for this VM"
start_azure
say "emulator: $(ctl -r authority info), vaults at *.vault.localhost"
say "contoso: region $(ctl -r region vault show contoso), $(ctl -r recovery_level vault show contoso)"

heading "A volume, mounted, with files in it: it starts with the managed key"
run init --managed-key "store:$work/keys" "$work/cipher"
volume_id=$(json .volume <"$work/cipher/blobcryptfs.json")
run mount "$work/cipher" "$work/plain"
find /usr/share/doc -name copyright -type f -size -60k | LC_ALL=C sort | sed -n 1,200p >"$work/list"
xargs -a "$work/list" cp --parents -t "$work/source"
cp -a "$work/source" "$work/plain/"
sync -f "$work/plain"
sample=$(cd "$work/source" && find . -type f | LC_ALL=C sort | sed -n 1p)
compare
before=$(data)
cp "$work/cipher/blobcryptfs.json" "$work/descriptor.managed"
envelope | sed 's/^/     /'

heading "A key for it: Olga, who may manage the vault, looks what is there and makes one"
run key create --cloud demo --identity "$olga" contoso data
run key list --cloud demo --identity "$olga" contoso
uri=$(ctl -r uri key show contoso data)
grep -q 'unfit' "$work/out" || die "the curve and the expired key should be unfit"

heading "Who this machine is to the vault, and what it still lacks"
run key identity --cloud demo contoso
refused 7 ForbiddenByRbac key set --cloud demo --dry-run "$uri" "$work/plain"
admin grant contoso vm
say "a vault without purge protection will not do either, since the key could be destroyed at once:"
refused 19 'purge protection' key set --cloud demo --dry-run "$(ctl -r uri key show careless data)" "$work/plain"

heading "Turn it on, while the volume is mounted"
run key set --cloud demo --dry-run "$uri" "$work/plain"
cmp -s "$work/cipher/blobcryptfs.json" "$work/descriptor.managed" || die "the dry run has changed the descriptor"
run key set --cloud demo --probe-interval 1 --lease 600 "$uri" "$work/plain"
compare
[[ $(data) == "$before" ]] || die "data were touched"
say "not a byte of the files below has changed"

heading "What lies on the disk now: the managed envelope inside of the customer's"
envelope | tee "$work/envelope" | sed 's/^/     /'
grep -q layer_key "$work/envelope" || die "there is no layer key"
bare=$(json .envelope.volume_key <"$work/descriptor.managed")
if grep -rqF -- "$bare" "$work/cipher" || grep -q '"volume_key"' "$work"/cipher/blobcryptfs.json*; then
  die "the bare managed envelope is still there"
fi
say "the wrapped volume key from before: in no file below any more"
run_first 1 key verify "$work/plain"

heading "Rotate: a new version in the vault, and the volume follows"
old_kid=$(ctl -r kid key show contoso data)
admin key rotate contoso data
run_first 1 key rotate "$work/plain"
kid=$(ctl -r kid key show contoso data)
[[ $kid != "$old_kid" ]] || die "there is no new version"
[[ $("$program" key show --json "$work/plain" | json .id) == "$kid" ]] || die "the volume is not on the new version"
compare
[[ $(data) == "$before" ]] || die "data were touched"
say "now under version ${kid##*/}; not a byte of the files below has changed"

heading "Either key alone opens nothing"
run umount "$work/plain"
say "the vault without the managed key:"
mv "$work/keys" "$work/keys.away"
refused 6 key mount "$work/cipher" "$work/plain"
mv "$work/keys.away" "$work/keys"
say "the managed key without the vault, which nobody can reach:"
ctl port close vault >/dev/null
refused 6 contoso mount "$work/cipher" "$work/plain"
ctl port open vault >/dev/null
say "the managed key with a vault that says no:"
admin revoke contoso vm
refused 8 ForbiddenByRbac mount "$work/cipher" "$work/plain"
admin grant contoso vm
say "both:"
run mount "$work/cipher" "$work/plain"
compare

heading "Revoke: the key is disabled in the vault, and nobody tells the mount"
mark=$(ctl mark)
reads || die "nothing can be read"
admin key disable contoso data
until_true 60 no_reads || die "files are still readable after a minute"
say "\$ cat plain/source/..."
cat "$work/plain/source/$sample" >"$work/out" 2>&1 && die "the file is readable again"
sed "s,$work/,,g; s/^/     /" "$work/out"
grep -q 'Key has been revoked' "$work/out" || die "that is not EKEYREVOKED"
until_true 60 "$program" revocation-report "$work/plain" >"$work/out" || die "there is no report"
denied=$(ctl log --target contoso --after "$mark" --status 403 | "$python" -c 'import json, sys; print(len(json.load(sys.stdin)))')
say "the vault has said no $denied times since"
run_first 13 status "$work/plain"
run revocation-report "$work/plain"
width=160 run audit show --last 3 "$work/plain"
grep -q ' locked: revoked' "$work/out" || die "the audit log does not have it"
refused 8 revoked key off "$work/plain"

heading "Give it back: the key is enabled, and the mount opens by itself"
admin key enable contoso data
until_true 120 reads || die "the mount does not open again"
compare

heading "Lock and unlock by hand, without the vault's doing"
run lock "$work/plain"
no_reads 2>/dev/null || die "files are readable in a locked volume"
reads_shown
run unlock "$work/plain"
compare

heading "Back to the managed key alone"
run key off "$work/plain"
envelope >"$work/envelope"
grep -q layer_key "$work/envelope" && die "the customer's key is still on"
ctl port close vault >/dev/null
run umount "$work/plain"
run mount "$work/cipher" "$work/plain"
compare
[[ $(data) == "$before" ]] || die "data were touched"
say "without a vault to be asked; not a byte of the files below has changed since the beginning"

heading "The audit log: one line for every event of the keys, in a chain"
width=160 run audit show "$work/plain"
for event in customer_key_on customer_key_rotated locked unlocked customer_key_off; do
  grep -q "$event" "$work/out" || die "the log has no event $event"
done
run audit verify "$work/plain"
run umount "$work/plain"
log=$XDG_STATE_HOME/blobcryptfs/$volume_id.log
((EUID != 0)) || log=/var/log/blobcryptfs/$volume_id.log
line=$(grep -n '"event":"locked"' "$log" | sed 's/:.*//; q')
say "(somebody removes line $line, the first lock, from the log)"
sed -i "${line}d" "$log"
refused 4 "line $line" audit verify "$work/cipher"
say "$((SECONDS - started)) seconds. What to read next: README.md, keyprov/PROVIDERS.md"
