/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptor - blobcryptfs.json as JSON and as a struct, and its two copies.  crypto/FORMAT.md section 7; the envelope
 * is specified in PROVIDERS.md section 3.  Internal to keyprov/.  Threads: as struct volume.
 */
#pragma once
#include "keyprov/volume.h"
#include <string.h>

#define DESCRIPTOR_VERSION 1
#define DESCRIPTOR_BACKUP  VOLUME_DESCRIPTOR ".bak"
#define STATE_BACKUP	   VOLUME_STATE ".bak"
#define ROTATE_DAYS_MAX	   36500

/* Either the managed envelope, or the one of a customer's key with the managed one inside (PROVIDERS.md section 3). */
struct envelope {
	char kind[32]; /* the provider */
	char source[32];
	const json_t *provider; /* borrowed from the JSON */
	struct key_ref key;
	time_t wrapped_at;
	/* managed */
	struct wrapped volume_key;
	struct wrapped inner_key; /* len 0 in SUITE_GCM */
	/* a customer's */
	struct wrapped layer_key;
	const json_t *sealed; /* the text of "managed"; borrowed from the JSON */
};

struct descriptor {
	uint8_t id[ID_BYTES];
	enum suite suite;
	char created[32];
	struct envelope env;
	unsigned rotate_days;
};

#define ENVELOPE_MAX 32768u /* bytes of a managed envelope's text */

static inline bool kind_is_managed(const char *kind)
{
	return strcmp(kind, managed_ops.name) == 0;
}

/* The "envelope" object alone.  managed_only: no other kind will do. */
enum err envelope_parse(
	const json_t *env, enum suite suite, bool managed_only, struct envelope *out, struct err_why *why) MUST_CHECK;
/* New reference, or NULL if out of memory. */
json_t *envelope_build(const struct envelope *e, enum suite suite);
/* Checks every member strictly.  Nothing of it is authenticated.  ERR_CORRUPT, ERR_UNSUPPORTED with a sentence. */
enum err descriptor_parse(const json_t *j, struct descriptor *out, struct err_why *why) MUST_CHECK;
/* The JSON of d, without its MAC. */
enum err descriptor_build(const struct descriptor *d, json_t **out) MUST_CHECK;
/* Reads both copies into v; see volume_open for the errors. */
enum err descriptor_load(struct volume *v, struct err_why *why) MUST_CHECK;
/* Fills v's plain members from d. */
void descriptor_adopt(struct volume *v, const struct descriptor *d);
/*
 * descriptor_write - both copies, the first one first.
 *
 * @alone: old and new must never be there side by side: the second copy is scrubbed before the first is replaced.
 * The caller has seen to it that the first copy is good (descriptor_settle).
 * *replaced: the first one is in place.  If it is not, the second one may be missing.
 */
enum err descriptor_write(int dirfd, const json_t *j, bool alone, bool *replaced, struct err_why *why) MUST_CHECK;
/* Scrubs what a crash left under temporary names, which nothing ever opens.  Only under the exclusive lock. */
enum err descriptor_sweep(const struct volume *v, struct err_why *why) MUST_CHECK;
/* The same, and makes the other copy equal to v->descriptor, if it is not, once that is authenticated. */
enum err descriptor_settle(struct volume *v, struct err_why *why) MUST_CHECK;

/* "2026-11-22T12:00:00Z"; UTC, whole seconds */
void utc_format(time_t t, char out[static 32]);
enum err utc_parse(const char *text, time_t *out) MUST_CHECK;
