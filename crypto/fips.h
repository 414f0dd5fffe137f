/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fips - an OSSL_LIB_CTX of our own with the FIPS provider in it, and the algorithms, fetched once.  Fails closed.
 *
 * struct fips is immutable after fips_open: share it between threads freely.
 */
#pragma once
#include "crypto/err.h"
#include <openssl/evp.h>
#include <stdbool.h>

struct fips_config {
	const char *dir;     /* directory with fips.so, fipsmodule.cnf, openssl-fips.cnf; NULL: try the usual places:
			      * the installed one, the build tree's, the system's (Debian's openssl-provider-fips) */
	bool allow_non_fips; /* fall back to the default provider; explicit, loud */
};

struct fips {
	OSSL_LIB_CTX *libctx;
	EVP_CIPHER *gcm, *xts, *ctr, *kwp, *kw; /* AES-256 -GCM, -XTS, -CTR, -WRAP-PAD, -WRAP */
	EVP_MAC *hmac;
	EVP_MD *sha256;
	EVP_KDF *kbkdf, *pbkdf2;
	EVP_RAND_CTX *rand; /* unused by callers; see rng.h */
	bool is_fips;	    /* false only with allow_non_fips */
	char name[64];	    /* provider's own name, e.g. "OpenSSL FIPS Provider" */
	char version[32];   /* provider's own version, e.g. "3.5.4" */
	char module[4096];  /* path of the module used, empty without one */
};

/* Loads the provider, lets it run its self-tests, fetches everything with fips=yes.  ERR_FIPS: why tells how to get
 * one. */
enum err fips_open(const struct fips_config *cfg, struct fips **out, struct err_why *why) MUST_CHECK;
void fips_close(struct fips *f);

/* Random bytes from the provider's DRBG.  SP 800-90A. */
enum err fips_random(const struct fips *f, void *out, size_t len) MUST_CHECK;

/* KBKDF, counter mode, HMAC-SHA-256: SP 800-108 (see FORMAT.md section 3).  out is zeroed on failure. */
enum err fips_kbkdf(const struct fips *f, const uint8_t *key, size_t key_len, const char *label, const void *ctx,
	size_t ctx_len, uint8_t *out, size_t out_len) MUST_CHECK;

/* PBKDF2-HMAC-SHA-256: SP 800-132.  The provider refuses salts under 16 bytes, under 1000 rounds, under 14 byte keys.
 */
enum err fips_pbkdf2(const struct fips *f, const char *pass, size_t pass_len, const uint8_t *salt, size_t salt_len,
	unsigned rounds, uint8_t *out, size_t out_len) MUST_CHECK;

/* HMAC-SHA-256 of the concatenation of n pieces. */
struct piece {
	const void *p;
	size_t len;
};
enum err fips_hmac(const struct fips *f, const uint8_t *key, size_t key_len, const struct piece *in, size_t n,
	uint8_t out[static 32]) MUST_CHECK;
enum err fips_sha256(const struct fips *f, const void *in, size_t len, uint8_t out[static 32]) MUST_CHECK;

/* AES-256 key wrap with padding, SP 800-38F KWP / RFC 5649.  out holds len rounded up to 8, plus 8.
 * Unwrap: ERR_CORRUPT if the integrity check fails (wrong KEK or damaged); the secret is new, caller frees. */
struct secret;
enum err fips_wrap(const struct fips *f, const struct secret *kek, const struct secret *in, uint8_t *out, size_t cap,
	size_t *out_len) MUST_CHECK;
enum err fips_unwrap(
	const struct fips *f, const struct secret *kek, const uint8_t *in, size_t len, struct secret **out) MUST_CHECK;

/*
 * AES-256-GCM, once: SP 800-38D.  The module makes the IV: 32 bits drawn from its DRBG by us, 64 inside the cipher
 * (section 8.2.2).  Layout of what is sealed: iv 12 | tag 16 | ciphertext; so out of fips_gcm_seal holds len +
 * GCM_OVERHEAD bytes, that of fips_gcm_open len - GCM_OVERHEAD.  len may be 0 in the plaintext, aad_len too.  out is
 * wiped on failure. Open: ERR_CORRUPT if it was not sealed with this key and these additional data.
 */
#define GCM_IV_BYTES  12u
#define GCM_TAG_BYTES 16u
#define GCM_OVERHEAD  (GCM_IV_BYTES + GCM_TAG_BYTES)
enum err fips_gcm_seal(const struct fips *f, const struct secret *key, const void *aad, size_t aad_len, const void *in,
	size_t len, uint8_t *out) MUST_CHECK;
enum err fips_gcm_open(const struct fips *f, const struct secret *key, const void *aad, size_t aad_len,
	const uint8_t *in, size_t len, uint8_t *out) MUST_CHECK;
