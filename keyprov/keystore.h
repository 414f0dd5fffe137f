/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keystore - the managed key store of this host: DIR/VOLUME-ID/vN.key, one directory per volume, one file per version.
 * Threads: any; one process at a time changes one volume's keys (it holds the volume's lock).
 */
#pragma once
#include "crypto/err.h"
#include "crypto/secret.h"
#include <limits.h>
#include <stdbool.h>
#include <time.h>

#define KEYSTORE_ROOT_DIR    "/var/lib/blobcryptfs/keys"
#define KEYSTORE_VERSION_MAX 2147483647u

struct keystore {
	char path[PATH_MAX]; /* DIR/VOLUME-ID, for messages and for opening */
	char dir[PATH_MAX];  /* DIR */
	char volume[33];     /* hex id */
};

/* dir: absolute, or NULL for the place of this user.  Opens nothing. */
enum err keystore_init(struct keystore *s, const char *dir, const char *volume, struct err_why *why) MUST_CHECK;
/* Newest version and its time.  ERR_KEY_UNAVAILABLE: no store, no directory of this volume, or no key in it. */
enum err keystore_newest(const struct keystore *s, unsigned *version, time_t *created, struct err_why *why) MUST_CHECK;
enum err keystore_load(const struct keystore *s, unsigned version, struct secret **out, time_t *created,
	struct err_why *why) MUST_CHECK;
/* Makes version newest + 1 (1 if none), and the directories where missing.  Durable on return. */
enum err keystore_add(
	const struct keystore *s, const struct secret *key, unsigned *version, struct err_why *why) MUST_CHECK;
/* Removes one version; with the last one the volume's directory goes too. */
enum err keystore_remove(const struct keystore *s, unsigned version, struct err_why *why) MUST_CHECK;
/* Removes all versions but keep. */
enum err keystore_prune(const struct keystore *s, unsigned keep, struct err_why *why) MUST_CHECK;
