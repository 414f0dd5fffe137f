/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptor - blobcryptfs.json as JSON and as a struct, and its two copies.  crypto/FORMAT.md section 7; the envelope
 * is specified in PROVIDERS.md section 3.  Internal to keyprov/.  Threads: as struct volume.
 */
#pragma once
#include "keyprov/volume.h"

#define DESCRIPTOR_VERSION 1
#define DESCRIPTOR_BACKUP  VOLUME_DESCRIPTOR ".bak"
#define STATE_BACKUP	   VOLUME_STATE ".bak"
#define ROTATE_DAYS_MAX	   36500

struct descriptor {
	uint8_t id[ID_BYTES];
	enum suite suite;
	char created[32];
	char kind[32]; /* of the envelope: the provider */
	char source[32];
	const json_t *provider; /* borrowed from the JSON */
	struct key_ref key;
	time_t wrapped_at;
	struct wrapped volume_key;
	struct wrapped inner_key; /* len 0 in SUITE_GCM */
	unsigned rotate_days;
};

/* Checks every member strictly.  Nothing of it is authenticated.  ERR_CORRUPT, ERR_UNSUPPORTED with a sentence. */
enum err descriptor_parse(const json_t *j, struct descriptor *out, struct err_why *why) MUST_CHECK;
/* The JSON of d, without its MAC. */
enum err descriptor_build(const struct descriptor *d, json_t **out) MUST_CHECK;
/* Reads both copies into v; see volume_open for the errors. */
enum err descriptor_load(struct volume *v, struct err_why *why) MUST_CHECK;
/* Fills v's plain members from d. */
void descriptor_adopt(struct volume *v, const struct descriptor *d);
/* Both copies, the first one first.  *replaced: the first one is in place. */
enum err descriptor_write(int dirfd, const json_t *j, bool *replaced, struct err_why *why) MUST_CHECK;

/* "2026-11-22T12:00:00Z"; UTC, whole seconds */
void utc_format(time_t t, char out[static 32]);
enum err utc_parse(const char *text, time_t *out) MUST_CHECK;
