/* SPDX-License-Identifier: Apache-2.0 */
/* volume_internal - shared by volume.c, create.c and rekey.c: raw volume keys never leave these files. */
#pragma once
#include "keyprov/descriptor.h"
#include "keyprov/volume.h"

/* For clean-up on the way out, where another error is being told already, or where the next run repeats it. */
static inline void best_effort(enum err e)
{
	(void)e;
}

struct keyring {
	struct keyprov *provider;
	struct secret *volume_key;
	struct secret *inner_key; /* NULL in SUITE_GCM */
	struct volkeys *vk;
};

/* Wipes and frees all of it. */
void keyring_clear(struct keyring *k);
/* Opens a provider with the volume's id added to conf. */
enum err provider_open(const struct fips *f, const char *kind, const json_t *conf, const uint8_t id[static ID_BYTES],
	const struct keyprov *like, struct keyprov **out, struct err_why *why) MUST_CHECK;
/* volume_unlock without mending; the caller clears k.  v describes the copy that opened. */
enum err volume_unlock_keys(
	struct volume *v, const struct fips *f, const json_t *now, struct keyring *k, struct err_why *why) MUST_CHECK;
/* Wraps the keys under the provider's newest KEK, checks that they come back, and fills d's envelope.  *conf: the
 * provider object d borrows, to be freed by the caller. */
enum err envelope_make(struct keyring *k, struct descriptor *d, json_t **conf, struct err_why *why) MUST_CHECK;
/* The first state: session 0, closed, both copies. */
enum err session_create(int dirfd, struct volkeys *vk, struct err_why *why) MUST_CHECK;
