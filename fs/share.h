/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share - one prober for a host and key, however many mounts: what one mount's probe said is left in a file for the
 * others of the same user whose volumes are under the same key, by the same identity.
 *
 * The file is in the directory of the control sockets (0700) and is named after the key.  Who wants to probe takes its
 * lock, looks whether somebody else has just done it, and if not probes and leaves the answer.  The others are woken by
 * inotify.  A record of another boot, from the future, torn or of another key is as good as none.
 *
 * Threads: one struct share belongs to one thread.
 */
#pragma once
#include "crypto/fips.h"
#include "fs/lease.h"
#include "keyprov/keyprov.h"
#include <stdbool.h>
#include <stdint.h>

struct share;

struct share_record {
	uint64_t began; /* CLOCK_BOOTTIME ns */
	enum probe_result result;
	struct keyprov_detail detail;
	char why[512];
};

/* key: text that two mounts have in common exactly if one may probe for the other.  NULL: no place for the file, or no
 * memory; then everybody probes for himself. */
struct share *share_open(const struct fips *f, const char *key);
void share_close(struct share *s); /* NULL is fine */
/* For poll(): readable when the record has changed; share_heard makes it quiet again. */
int share_fd(const struct share *s);
void share_heard(struct share *s);

/* Never waits; false: somebody has it, so he is probing right now. */
bool share_trylock(struct share *s) MUST_CHECK;
void share_unlock(struct share *s);
/* With or without the lock; false: nothing there that can be used. */
bool share_read(struct share *s, struct share_record *out) MUST_CHECK;
/* With the lock. */
void share_write(struct share *s, const struct share_record *r);
