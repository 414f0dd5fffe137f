/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyfile - 256-bit keys in files: 64 hexadecimal digits and a newline (printable, for escrow), or 32 raw bytes.
 * The bytes go by read(2) straight into locked memory.  Threads: any.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/secret.h"
#include <stddef.h>
#include <time.h>

#define KEYFILE_KEY_BYTES 32

enum keyfile_kind {
	KEYFILE_STORE,	    /* ours: mode 0600 or stricter, hexadecimal only */
	KEYFILE_GIVEN,	    /* the user's: the same, or raw */
	KEYFILE_CREDENTIAL, /* systemd's: it grants the service access by an ACL, whose mask shows as group read */
};

/* shown: the name for messages.  ERR_KEY_UNAVAILABLE: missing.  ERR_CONFIG: symbolic link, not regular, foreign owner,
 * open to others, permission denied.  ERR_CORRUPT: wrong length or contents.  created (may be NULL): the file's time.
 */
enum err keyfile_read(int dirfd, const char *name, const char *shown, enum keyfile_kind kind, struct secret **out,
	time_t *created, struct err_why *why) MUST_CHECK;
/* Makes a store's key file, durably and never over an existing one. */
enum err keyfile_create(int dirfd, const char *name, const struct secret *key, struct err_why *why) MUST_CHECK;
/* Opens a file with secrets under the same rules; for the passphrase file. */
enum err keyfile_open(int dirfd, const char *name, const char *shown, enum keyfile_kind kind, int *out, time_t *created,
	struct err_why *why) MUST_CHECK;
