/* SPDX-License-Identifier: Apache-2.0 */
/*
 * akv - Azure Key Vault and Managed HSM: the data plane's key operations.
 *
 * "Azure Key Vault REST API reference", keys, api-version 7.4 and later; RFC 7518 (algorithms), RFC 3394 (A256KW).
 * The audience is the cloud's, never the challenge's; a challenge for another resource is refused; no redirects.  Every
 * call carries x-ms-client-request-id.
 *
 * Threads: one struct akv belongs to one thread at a time.  Calls block up to the deadline, retries included.
 */
#pragma once
#include "keyprov/azid.h"
#include "keyprov/azure.h"
#include "keyprov/http.h"
#include <time.h>

/* What an answer, or its absence, means.  The table is in PROVIDERS.md section 9 and in akv_classify.c. */
enum akv_class {
	AKV_OK,
	AKV_DENIED,	    /* reachable, and the answer is no: revoked */
	AKV_DENIED_NETWORK, /* the same, by the vault's firewall: the customer's doing as well */
	AKV_TRANSIENT,	    /* unreachable, throttled, broken: says nothing about the key */
	AKV_REAUTH,	    /* 401: once more with a new token; never comes out of akv_* calls but akv_classify */
	AKV_MISTAKE,	    /* 400, 409: our request can't be right, or a name is taken */
};

struct akv_answer { /* what akv_classify looks at; pure */
	enum http_outcome outcome;
	int status;
	char code[64], inner[64]; /* error.code and the innermost innererror.code; empty if none */
	bool audience;		  /* the message starts with AKV10022: a token for something else */
	bool issuer;		  /* AKV10032: a token of another tenant */
	bool signing_key;	  /* the message has AKV10046, or says that the token is not valid yet */
	bool again;		  /* the token was new: got because of a 401 */
};
enum akv_class akv_classify(const struct akv_answer *a);
/* Fills code, inner and the flags from an error body; hostile input, never fails. */
void akv_answer_parse(const char *body, size_t len, struct akv_answer *a);

struct akv_config {
	const struct fips *fips;
	const struct azure_cloud *cloud;
	const struct azure_key_id *id; /* copied; the vault, for key calls the key too */
	struct azid *identity;	       /* borrowed; may be NULL if akv_contact is all that is called */
	const char *api_version;       /* NULL: "7.4" */
	const char *tenant;	       /* what the descriptor says, or NULL: from the challenge */
	unsigned deadline_ms;	       /* one call, retries included; 0: 30000 */
	unsigned attempts;	       /* 0: 5; 1 for a prober, which has a rhythm of its own */
	unsigned backoff_ms;	       /* the first wait, doubled each time; 0: 1000 */
};
struct akv;
/* No I/O. */
enum err akv_open(const struct akv_config *cfg, struct akv **out, struct err_why *why) MUST_CHECK;
void akv_close(struct akv *a);
void akv_abort(struct akv *a); /* from any thread: calls end soon */
/* As attempts and deadline_ms of the configuration, from the next call on. */
void akv_set_limits(struct akv *a, unsigned attempts, unsigned deadline_ms);

enum akv_kind { AKV_KIND_OTHER, AKV_RSA, AKV_RSA_HSM, AKV_OCT_HSM };
struct akv_key {		 /* a key bundle or an item of a list */
	char kid[AZURE_URI_MAX]; /* versioned if the answer was */
	enum akv_kind kind;
	char kty[32];  /* as told */
	unsigned bits; /* of an RSA modulus, from "n"; oct-HSM: 256 if told by key_size, else 0 */
	bool enabled, can_wrap, can_unwrap, has_ops;
	time_t not_before, expires, created; /* 0: none */
	char recovery_level[64];
	bool soft_delete, purge_protection;
};

/* All calls: ERR_OK; ERR_KEY_REVOKED (AKV_DENIED*), ERR_KEY_UNAVAILABLE (AKV_TRANSIENT), ERR_CONFIG (AKV_MISTAKE);
 * ERR_CORRUPT: the answer makes no sense, or is a challenge for another resource; and what azid_token may say.  why
 * names vault, reason and remedy. */

/* First contact, without a token: tenant of the vault and its region ("" if not told). */
enum err akv_contact(
	struct akv *a, char tenant[static AZURE_GUID], char region[static 64], struct err_why *why) MUST_CHECK;
/* id.version empty: the newest version. */
enum err akv_get(struct akv *a, struct akv_key *out, struct err_why *why) MUST_CHECK;
/* version instead of id.version; empty: the newest */
enum err akv_get_version(struct akv *a, const char *version, struct akv_key *out, struct err_why *why) MUST_CHECK;
/* alg "RSA-OAEP-256" or "A256KW"; kid: the versioned identifier the vault says it used. */
enum err akv_wrap(struct akv *a, const char *alg, const struct secret *in, struct wrapped *out,
	char kid[static AZURE_URI_MAX], struct err_why *why) MUST_CHECK;
/* version: of the kid that wrap told; never empty.  fresh: on a new connection, token from the cache. */
enum err akv_unwrap(struct akv *a, const char *version, const char *alg, const struct wrapped *in, bool fresh,
	struct secret **out, struct err_why *why) MUST_CHECK;
/* Newest versions of all keys of the vault, up to max; ERR_RANGE with the first max filled if there are more.  One call
 * for each key; of a key that may not be looked at, kty is empty. */
enum err akv_list(struct akv *a, struct akv_key *out, size_t max, size_t *n, struct err_why *why) MUST_CHECK;
/* A new key (or a new version of it): kind, bits, key_ops wrapKey and unwrapKey. */
enum err akv_create(
	struct akv *a, enum akv_kind kind, unsigned bits, struct akv_key *out, struct err_why *why) MUST_CHECK;

/* Of the last call: reason, ids, status; never NULL. */
const struct keyprov_detail *akv_detail(const struct akv *a);
/* "RSA-OAEP-256" or "A256KW"; NULL if the key can't be used for wrapping here. */
const char *akv_algorithm(const struct akv_key *k);
/* Does it look like an api-version?  "7.4", "2025-07-01". */
bool akv_api_version(const char *s);
