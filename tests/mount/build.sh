#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 120
# BACKING: ext4
#
# A C project is built, run and rebuilt in the mount.
. "$(dirname "$0")/../lib/common.sh"

need make cc
use_backing
vol_init
vol_mount
mkdir "$MNT/project"
cd "$MNT/project"
for i in $(seq 40); do
	printf '#include "all.h"\nint f%d(int x) { return x * %d + 1; }\n' "$i" "$i" >"f$i.c"
	echo "int f$i(int);" >>all.h
done
{
	echo '#include "all.h"'
	echo 'int main(void) { int x = 1;'
	for i in $(seq 40); do echo "x = f$i(x) % 1009;"; done
	echo 'return x % 100; }'
} >main.c
cat >Makefile <<'MK'
OBJ = $(patsubst %.c,%.o,$(wildcard *.c))
program: libf.a main.o
	$(CC) -o $@ main.o libf.a
libf.a: $(filter-out main.o,$(OBJ))
	$(AR) rcs $@ $^
%.o: %.c all.h
	$(CC) -O1 -g -c -o $@ $<
MK
make -s -j4
rc=0
./program || rc=$?
[ "$(make -s -q && echo "done")" = "done" ] || fail "make would build again: times are wrong"
touch f7.c
if make -s -q; then fail "make does not see the touched file"; fi
make -s
rc2=0
./program || rc2=$?
[ $rc = $rc2 ] || fail "the rebuilt program gives $rc2, not $rc"
cd "$T"
vol_remount
rc2=0
"$MNT/project/program" || rc2=$?
[ $rc = $rc2 ] || fail "after a remount the program gives $rc2, not $rc"
make -s -q -C "$MNT/project" || fail "make would build again after a remount"
vol_umount
