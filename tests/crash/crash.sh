#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 180
# LONG: 1800
#
# What a power cut may leave of single files: many states, none of which may lose what was synced.
. "$(dirname "$0")/../lib/common.sh"

need cc
need_root
cc -O2 -D_GNU_SOURCE -shared -fPIC -o "$T/writelog.so" "$SRC/tests/crash/writelog.c"
mkdir "$T/crash"
python3 "$SRC/tests/crash/states.py" --program "$BCFS" --writelog "$T/writelog.so" --dir "$T/crash" \
	--states "${LONG:+1}800" --seed "${BCFS_SEED:-1}"
