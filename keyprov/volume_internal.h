/* SPDX-License-Identifier: Apache-2.0 */
/* volume_internal - shared by volume.c, create.c, rekey.c and customer.c: raw volume keys never leave these files. */
#pragma once
#include "keyprov/descriptor.h"
#include "keyprov/volume.h"

/* For clean-up on the way out, where another error is being told already, or where the next run repeats it. */
static inline void best_effort(enum err e)
{
	(void)e;
}

struct keyring {
	struct keyprov *customer; /* the customer's key, if one is on */
	struct keyprov *provider; /* the managed key */
	json_t *managed_json;	  /* the managed envelope, which may have been inside of the customer's; owned */
	struct envelope managed;  /* the same */
	struct secret *volume_key;
	struct secret *inner_key; /* NULL in SUITE_GCM */
	struct volkeys *vk;
	struct keyprov_detail detail; /* what the customer's keeper said */
};

/* Wipes and frees all of it. */
void keyring_clear(struct keyring *k);
/* Opens a provider with the volume's id added to conf. */
enum err provider_open(const struct fips *f, const char *kind, const json_t *conf, const uint8_t id[static ID_BYTES],
	const struct keyprov *like, struct keyprov **out, struct err_why *why) MUST_CHECK;
/* volume_unlock without mending; the caller clears k.  v describes the copy that opened. */
enum err volume_unlock_keys(
	struct volume *v, const struct fips *f, const json_t *now, struct keyring *k, struct err_why *why) MUST_CHECK;
/* Describes v by d, both layers of it. */
void volume_adopt(struct volume *v, const struct descriptor *d, const struct envelope *managed);

/* Wraps key, and makes sure that it comes back. */
enum err wrap_checked(struct keyprov *p, const struct secret *key, struct wrapped *w, struct key_ref *ref,
	struct err_why *why) MUST_CHECK;
/* Asks p for the object to store, fills kind, source, provider and the times.  *conf: what out borrows, to be freed by
 * the caller. */
enum err envelope_finish(struct keyprov *p, struct envelope *out, json_t **conf, struct err_why *why) MUST_CHECK;
/* Wraps the keys under the managed provider's newest KEK, checks that they come back, and fills the envelope. */
enum err envelope_make(
	struct keyring *k, enum suite suite, struct envelope *out, json_t **conf, struct err_why *why) MUST_CHECK;

/* What shall happen to the envelope; each step is in PROVIDERS.md sections 5 and 8. */
enum step { STEP_REKEY, STEP_SET, STEP_ROTATE, STEP_OFF };
struct step_order {
	enum step step;
	const json_t *now;  /* where the managed key is, or NULL */
	const json_t *next; /* STEP_REKEY: provider object of the new one, or NULL */
	const json_t *conf; /* STEP_SET: provider object of the customer's key */
	bool changed;	    /* out */
};
/* Takes the lock for its duration if it isn't held. */
enum err volume_step(struct volume *v, const struct fips *f, struct step_order *o, struct err_why *why) MUST_CHECK;

/* ---- customer.c ---- */

/* Opens the customer's layer of d: fills k's customer, managed_json and managed.  identity: as in struct volume. */
enum err customer_open(const struct fips *f, const struct descriptor *d, const json_t *identity, struct keyring *k,
	struct err_why *why) MUST_CHECK;
/* A new layer key, wrapped by p.  out: all but sealed. */
enum err customer_wrap(const struct fips *f, struct keyprov *p, struct secret **layer, struct envelope *out,
	json_t **conf, struct err_why *why) MUST_CHECK;
/* Encrypts the managed envelope under the layer key into d->env.sealed, for which d must be complete else.  *text: what
 * d borrows, to be freed by the caller. */
enum err customer_seal(const struct fips *f, struct descriptor *d, const struct secret *layer, const json_t *managed,
	json_t **text, struct err_why *why) MUST_CHECK;

/* The first state: session 0, closed, both copies. */
enum err session_create(int dirfd, struct volkeys *vk, struct err_why *why) MUST_CHECK;
