#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 300
# LONG: 300
# LONG-ONLY
#
# "make demo-cmk" does not only show, it checks what it shows.
. "$SRC/tests/lib/common.sh"

need_isolation
/usr/bin/python3 -c 'import cryptography' 2>/dev/null || skip "python3-cryptography is not installed"
TMPDIR=$T "$SRC/tests/demo-cmk.sh"
