#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Shows blobcryptfs at work on real files: what "make demo" runs after the build.
#
# Everything happens in a temporary directory of its own, key store included, and is removed at
# the end. It works without systemd and needs only coreutils, diffutils, findutils and grep.
#
#   DEMO_SOURCE=DIR  copy DIR instead of /usr/share/doc
#   DEMO_MIB=N       copy at most so many MiB of it (16)
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
program=$top/build/blobcryptfs
source_dir=${DEMO_SOURCE:-/usr/share/doc}
limit_kib=$((${DEMO_MIB:-16} * 1024))
limit_files=1500

work=
volume_id=
step=0

die() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

say() {
  printf '   %s\n' "$*"
}

heading() {
  step=$((step + 1))
  printf '\n[%d/10] %s\n' "$step" "$*"
}

# Shows a command of ours as a user would type it, and runs it.
run() {
  say "\$ blobcryptfs $*"
  "$program" "$@" | sed 's/^/     /'
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
    # The audit log of this volume is of no use to anybody once the volume is gone.
    if [[ -n $volume_id && $EUID == 0 ]]; then
      rm -f "/var/log/blobcryptfs/$volume_id.log"
      rmdir /var/log/blobcryptfs 2>/dev/null
    fi
    rm -rf --one-file-system "$work"
  fi
  ((rc == 0)) || printf 'demo: stopped; everything it made is removed.\n' >&2
  exit "$rc"
}

# Copies entries of the source, in order, as long as they fit the bounds.
copy_source() {
  local total
  (cd "$source_dir" && find . -mindepth 1 -printf '%P\t%s\n' 2>/dev/null) | LC_ALL=C sort |
    awk -F '\t' -v max_bytes=$((limit_kib * 1024)) -v max_files="$limit_files" '
      { split($1, part, "/"); top = part[1]
        if (!(top in n)) order[++tops] = top
        n[top]++; size[top] += $2 }
      END {
        for (k = 1; k <= tops; k++) {
          top = order[k]
          if (bytes + size[top] <= max_bytes && files + n[top] <= max_files) {
            bytes += size[top]; files += n[top]; print top
          } else {
            skipped++
          }
        }
        printf "%d files and directories, %d KiB%s\n", files, bytes / 1024,
          skipped ? sprintf(" (%d entries left out, to keep this short)", skipped) : "" >"/dev/stderr"
      }' >"$work/chosen" 2>"$work/total"
  total=$(cat "$work/total")
  [[ -s $work/chosen ]] ||
    die "$source_dir has nothing that fits into $((limit_kib / 1024)) MiB. Set DEMO_SOURCE to another directory."
  mkdir "$work/source"
  (cd "$source_dir" && tr '\n' '\0' <"$work/chosen" | xargs -0 cp -a -t "$work/source" --)
  say "from $source_dir: $total"
}

# What a tree consists of besides the contents of its files.
tree_facts() {
  (cd "$1" && find . -type d -printf '%p %y %m %U:%G %T@\n' -o -printf '%p %y %m %U:%G %T@ %s %n %l\n' | LC_ALL=C sort)
}

compare() {
  diff -r --no-dereference "$work/source" "$work/plain/source" || die "the contents differ (see above)"
  say "diff -r --no-dereference: the contents of all files are the same"
  tree_facts "$work/source" >"$work/facts.source"
  tree_facts "$work/plain/source" >"$work/facts.plain"
  diff "$work/facts.source" "$work/facts.plain" || die "the attributes differ (see above)"
  say "modes, owners, times, sizes, link counts and symlink targets of all $(wc -l <"$work/facts.source") entries: the same"
  if command -v rsync >/dev/null; then
    rsync -aHAXn --delete --itemize-changes "$work/source/" "$work/plain/source/" >"$work/rsync.out"
    [[ ! -s $work/rsync.out ]] || die "rsync -aHAX sees differences: $(sed -n 1,3p "$work/rsync.out")"
    say "rsync -aHAX, dry run: nothing to do"
  fi
}

started=$SECONDS
[[ -x $program ]] || die "there is no $program. Run: make setup && make"
[[ -c /dev/fuse ]] || die "there is no /dev/fuse here. Load the module (modprobe fuse), or give it to the container (--device /dev/fuse --cap-add SYS_ADMIN)."
[[ -d $source_dir ]] || die "there is no directory $source_dir. Set DEMO_SOURCE to another one."

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/blobcryptfs-demo.XXXXXX")
export XDG_STATE_HOME=$work/state
mkdir "$work/plain"

echo "blobcryptfs demo, in $work"

heading "Some real files"
copy_source

heading "Make a volume: an empty directory for the ciphertext, and a key apart from it"
run init --managed-key "store:$work/keys" "$work/cipher"
volume_id=$(sed -n 's/.*"volume": *"\([0-9a-f]*\)".*/\1/p' "$work/cipher/blobcryptfs.json")

heading "Mount it"
run mount "$work/cipher" "$work/plain"
say "\$ blobcryptfs status $work/plain    (the lines on cryptography and transport)"
"$program" status "$work/plain" | sed 's/^/     /' >"$work/status"
grep -E '^ *(suite|fips|provider|provider version|transport|transport reason|cache|key source|key version):' "$work/status"

heading "Copy the files into the mount with cp"
cp -a "$work/source" "$work/plain/"
say "done: $(find "$work/plain" | wc -l) names, $(du -sk --apparent-size "$work/plain" | cut -f1) KiB as seen through the mount"
sync -f "$work/plain"

heading "Compare the mount with the original"
compare

heading "What lies in the backing directory"
say "\$ ls cipher"
find "$work/cipher" -mindepth 1 -maxdepth 1 -printf '     %f\n' | LC_ALL=C sort
deep=$(find "$work/cipher" -mindepth 2 -maxdepth 2 -type d | LC_ALL=C sort | tail -n 1)
say "\$ ls cipher/...    (five names two directories further down)"
find "$deep" -mindepth 1 -maxdepth 1 -printf '     %f\n' | LC_ALL=C sort | sed -n 1,5p
plain_file=$(find "$work/source" -type f -size +1 -name copyright | LC_ALL=C sort | sed -n 1p)
[[ -n $plain_file ]] || plain_file=$(find "$work/source" -type f | LC_ALL=C sort | sed -n 1p)
mounted_file=$work/plain/source/${plain_file#"$work/source/"}
# The file below has the inode number that the mount shows.
cipher_file=$(find "$work/cipher" -inum "$(stat -c %i "$mounted_file")" -print -quit)
say "the file ${plain_file#"$work/source/"}, as the mount shows it:"
od -A x -t x1z -N 48 "$mounted_file" | sed 's/^/     /'
say "the same file below, behind its clear header (nonce, tag, format, file id: 160 bytes):"
od -A x -t x1z -j 160 -N 48 "$cipher_file" | sed 's/^/     /'

heading "Search the backing directory for anything readable"
find "$work/source" -mindepth 1 -printf '%f\n' | awk 'length($0) >= 8' | sort -u >"$work/names"
find "$work/cipher" -printf '%p %l\n' >"$work/names.below"
say "$(wc -l <"$work/names") names of 8 characters or more; found below: $(grep -cFf "$work/names" "$work/names.below" || true)"
say "files with the word \"Copyright\": original $(grep -rlaF Copyright "$work/source" | wc -l), below $(grep -rlaF Copyright "$work/cipher" | wc -l)"
if grep -qFf "$work/names" "$work/names.below" || grep -rqaF Copyright "$work/cipher"; then
  die "something readable was found below"
fi

heading "Unmount: the files are out of reach, only ciphertext is left"
run umount "$work/plain"
say "entries in the mount point now: $(find "$work/plain" -mindepth 1 | wc -l)"
[[ -z $(find "$work/plain" -mindepth 1) ]] || die "the mount point is not empty"
say "without its key the volume does not open:"
mv "$work/keys" "$work/keys.away"
if "$program" mount "$work/cipher" "$work/plain" 2>"$work/refused"; then
  die "the volume was mounted without its key"
fi
sed 's/^/     /' "$work/refused"
mv "$work/keys.away" "$work/keys"

heading "Mount again, with the key, and compare again"
run mount "$work/cipher" "$work/plain"
compare
"$program" status --json "$work/plain" >"$work/status.json"
grep -q '"damage": 0' "$work/status.json" || die "the daemon counts damage"

heading "Unmount and clean up"
run umount "$work/plain"
say "$((SECONDS - started)) seconds. What to read next: README.md"
