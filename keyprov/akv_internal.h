/* SPDX-License-Identifier: Apache-2.0 */
/* akv_internal - shared by the akv_*.c files. */
#pragma once
#include "crypto/secret.h"
#include "keyprov/akv.h"

struct akv {
	const struct fips *fips;
	struct azure_cloud cloud;
	struct azure_key_id id;
	struct azid *identity;
	struct http *http;
	int stop; /* eventfd: readable once aborted */
	char api_version[32];
	char tenant[AZURE_GUID]; /* empty until known */
	bool contacted;		 /* a challenge was seen, whether it had a tenant or not */
	bool tenant_pinned;	 /* the descriptor says it: another one is a denial */
	char region[64];	 /* empty until told */
	unsigned deadline_ms, attempts, backoff_ms;
	struct keyprov_detail detail;
};

struct akv_call {
	const char *method, *url;
	const void *body; /* JSON, locked memory if it is secret */
	size_t body_len;
	bool fresh;
	const char *what; /* for sentences: "unwrap the key" */
};

/* One call with token, challenges and retries.  ERR_OK: out is a good answer, to be cleared by the caller. */
enum err akv_do(struct akv *a, const struct akv_call *c, struct http_answer *out, struct err_why *why) MUST_CHECK;

/* ---- akv_why.c ---- */

/* "KeyDisabled", "timeout", "http 503", ...: what the detail and the sentences call it. */
void akv_reason(const struct akv_answer *said, char out[static 64]);
/* The error of a class, with the sentence. */
enum err akv_refused(const struct akv *a, enum akv_class cls, const struct akv_answer *said, const char *text,
	const char *what, struct err_why *why);

/* ---- akv_parse.c: hostile input; ERR_CORRUPT, ERR_NOMEM ---- */

#define AKV_NEXT_MAX 2048

/* A key bundle of the key wanted (in its version, if it has one). */
enum err akv_bundle_parse(const struct azure_cloud *c, const struct azure_key_id *want, const char *body, size_t len,
	struct akv_key *out) MUST_CHECK;
/* One page of a list of vault's keys: up to max of them.  next: path and query of the next page, empty if this was the
 * last.  ERR_RANGE: more than max. */
enum err akv_list_parse(const struct azure_cloud *c, const struct azure_key_id *vault, const char *body, size_t len,
	struct akv_key *out, size_t max, size_t *n, char next[static AKV_NEXT_MAX]) MUST_CHECK;
/* The answer to wrap and unwrap: kid has to be of the key wanted, with a version (the wanted one, if there is one). */
enum err akv_value_parse(const struct azure_cloud *c, const struct azure_key_id *want, const char *body, size_t len,
	char kid[static AZURE_URI_MAX], uint8_t *out, size_t cap, size_t *out_len) MUST_CHECK;
