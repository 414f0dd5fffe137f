/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign - RSA signatures of JSON Web Tokens by the FIPS provider: PS256, RFC 7518 section 3.5.
 *
 * The private key lives in OpenSSL's memory, which is locked and wiped (secret_hook_openssl).
 *
 * Threads: a struct sign_key may be used by several threads at once once it is made.
 */
#pragma once
#include "crypto/fips.h"
#include "crypto/secret.h"
#include <stddef.h>
#include <stdint.h>

#define SIGN_MAX       512 /* bytes of a signature: RSA of 4096 bits */
#define SIGN_CERTS_MAX 8

struct sign_key;

/*
 * sign_key_new - takes the private key and the certificates out of a PEM text.
 *
 * The text needs exactly one RSA key of 2048 to 4096 bits without a passphrase, and the certificate that belongs to it;
 * further certificates are its chain.  shown: the file's name for why.  ERR_CONFIG: anything that is wrong with it.
 */
enum err sign_key_new(const struct fips *f, const struct secret *pem, const char *shown, struct sign_key **out,
	struct err_why *why) MUST_CHECK;
void sign_key_free(struct sign_key *k); /* wipes; NULL is fine */

/* RSASSA-PSS with SHA-256, MGF1 with SHA-256 and 32 bytes of salt. */
enum err sign_ps256(
	const struct sign_key *k, const void *in, size_t len, uint8_t out[static SIGN_MAX], size_t *out_len) MUST_CHECK;

/* SHA-256 of the key's certificate (DER). */
const uint8_t *sign_key_thumbprint(const struct sign_key *k);
/* The n-th certificate in DER, from 0, the key's own first; NULL behind the last one. */
const uint8_t *sign_key_cert(const struct sign_key *k, size_t n, size_t *len);
