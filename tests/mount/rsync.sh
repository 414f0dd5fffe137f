#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# rsync into the mount and out of it, with changes in place, deletions and appends.
. "$(dirname "$0")/../lib/common.sh"

need_root
need rsync
vol_init
mkdir "$T/source"
python3 "$SRC/tests/lib/make_tree.py" "$T/source" 300 9
vol_mount
rsync -aHAX "$T/source/" "$MNT/copy/"
same_tree "$T/source" "$MNT/copy"
python3 - "$T/source" <<'P'
import os, sys
files = sorted(os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs)
files = [f for f in files if os.path.isfile(f) and not os.path.islink(f)]
for i, path in enumerate(files):
    if i % 5 == 0:
        os.unlink(path)
    elif i % 5 == 1:
        with open(path, "ab") as f:
            f.write(b"appended" * (i + 1))
    elif i % 5 == 2 and os.path.getsize(path) > 20:
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            f.write(b"changed")
    elif i % 5 == 3:
        os.truncate(path, os.path.getsize(path) // 3)
P
rsync -aHAX --inplace --no-whole-file --delete --checksum "$T/source/" "$MNT/copy/"
vol_remount
same_tree "$T/source" "$MNT/copy"
rsync -aHAXS "$MNT/copy/" "$T/back/"
same_tree "$T/source" "$T/back"
check_sound
vol_umount
