/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime - a place for sockets and shared records that is the test's own, for the tests of the daemon's side: a new
 * XDG_RUNTIME_DIR, which root has to become somebody else for.
 */
#pragma once
#include "tests/unit/testlib.h"

#include <stdlib.h>
#include <unistd.h>

#define RUNTIME_USER 12345

static char runtime_dir[] = "/tmp/bcfs-unit.XXXXXX";

/* First thing in main(). */
static inline void runtime_start(void)
{
	if (!mkdtemp(runtime_dir) || setenv("XDG_RUNTIME_DIR", runtime_dir, 1) != 0 ||
		(geteuid() == 0 && (chown(runtime_dir, RUNTIME_USER, RUNTIME_USER) != 0 || setegid(RUNTIME_USER) != 0 ||
					   seteuid(RUNTIME_USER) != 0))) {
		perror("runtime_start");
		exit(1);
	}
}

/* Removes it. */
static inline int runtime_end(int failed)
{
	char command[128];

	if (getuid() == 0 && (seteuid(0) != 0 || setegid(0) != 0))
		return 1;
	snprintf(command, sizeof(command), "rm -rf %s", runtime_dir);
	return system(command) != 0 ? 1 : failed; /* NOLINT(cert-env33-c): the path is mkdtemp's */
}
