/* SPDX-License-Identifier: Apache-2.0 */
/* fips, inside crypto/ - pre-keyed contexts, for callers that use one key many times. */
#pragma once
#include "crypto/fips.h"
#include <openssl/kdf.h>

/* A KBKDF context that holds key and label; derive as often as you like, one thread at a time.  EVP_KDF_CTX_free. */
enum err fips_kbkdf_new(
	const struct fips *f, const uint8_t *key, size_t key_len, const char *label, EVP_KDF_CTX **out) MUST_CHECK;
enum err fips_kbkdf_derive(EVP_KDF_CTX *k, const void *ctx, size_t ctx_len, uint8_t *out, size_t out_len) MUST_CHECK;

/* A keyed HMAC-SHA-256 context, ready for EVP_MAC_update; EVP_MAC_init(m, NULL, 0, NULL) starts over. EVP_MAC_CTX_free.
 */
enum err fips_hmac_new(const struct fips *f, const uint8_t *key, size_t key_len, EVP_MAC_CTX **out) MUST_CHECK;
