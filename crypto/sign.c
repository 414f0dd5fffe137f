/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign - see sign.h.
 *
 * The blocks of the PEM text are looked at one by one, so that nothing ever asks for a passphrase on the terminal and a
 * file with a second key is not half understood.
 */
#include "crypto/sign.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define BITS_MIN 2048
#define BITS_MAX 4096

struct sign_key {
	const struct fips *fips;
	EVP_PKEY *pkey;
	struct {
		unsigned char *der;
		size_t len;
	} cert[SIGN_CERTS_MAX];
	size_t certs;
	uint8_t thumbprint[32];
};

static const char *props(const struct fips *f)
{
	return f->is_fips ? "fips=yes" : NULL;
}

static enum err add_cert(struct sign_key *k, unsigned char **der, size_t len, const char *shown, struct err_why *why)
{
	if (k->certs == SIGN_CERTS_MAX)
		return err_set(why, ERR_CONFIG, 0, "%.200s holds more than %d certificates", shown, SIGN_CERTS_MAX);
	k->cert[k->certs].der = *der;
	k->cert[k->certs++].len = len;
	*der = NULL;
	return ERR_OK;
}

static enum err add_key(
	struct sign_key *k, const unsigned char *der, size_t len, const char *shown, struct err_why *why)
{
	OSSL_DECODER_CTX *d;
	int bits;

	if (k->pkey)
		return err_set(why, ERR_CONFIG, 0, "%.200s holds more than one private key; leave one in it", shown);
	d = OSSL_DECODER_CTX_new_for_pkey(
		&k->pkey, "DER", NULL, "RSA", OSSL_KEYMGMT_SELECT_KEYPAIR, k->fips->libctx, props(k->fips));
	if (!d)
		return ERR_NOMEM;
	if (OSSL_DECODER_from_data(d, &der, &len) != 1) {
		EVP_PKEY_free(k->pkey);
		k->pkey = NULL;
	}
	OSSL_DECODER_CTX_free(d);
	if (!k->pkey)
		return err_set(why, ERR_CONFIG, 0,
			"the private key in %.200s is damaged or not of kind RSA; make an RSA key of 2048 bits or more",
			shown);
	bits = EVP_PKEY_get_bits(k->pkey);
	if (bits < BITS_MIN || bits > BITS_MAX)
		return err_set(why, ERR_CONFIG, 0, "the RSA key in %.200s has %d bits; %d to %d are allowed", shown,
			bits, BITS_MIN, BITS_MAX);
	return ERR_OK;
}

static enum err take_block(struct sign_key *k, const char *name, const char *header, unsigned char **der, size_t len,
	const char *shown, struct err_why *why)
{
	if (strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0)
		return add_cert(k, der, len, shown, why);
	/* The old form of encryption says so in the block's header. */
	if (strcmp(name, PEM_STRING_PKCS8) == 0 || header[0] != '\0')
		return err_set(why, ERR_CONFIG, 0,
			"the private key in %.200s is encrypted; remove its passphrase (openssl pkey) and keep the file"
			" at mode 0600, or use a systemd credential",
			shown);
	if (strcmp(name, PEM_STRING_PKCS8INF) == 0 || strcmp(name, PEM_STRING_RSA) == 0)
		return add_key(k, *der, len, shown, why);
	return err_set(why, ERR_CONFIG, 0,
		"%.200s has a block \"%.40s\"; it shall have an RSA private key and its certificate only", shown, name);
}

static enum err read_blocks(struct sign_key *k, const struct secret *pem, const char *shown, struct err_why *why)
{
	BIO *bio = BIO_new_mem_buf(secret_view(pem), (int)secret_len(pem));
	enum err e = bio ? ERR_OK : ERR_NOMEM;

	while (e == ERR_OK) {
		char *name = NULL, *header = NULL;
		unsigned char *der = NULL;
		long len = 0;

		if (PEM_read_bio(bio, &name, &header, &der, &len) != 1)
			break;
		e = len > 0 ? take_block(k, name, header, &der, (size_t)len, shown, why) : ERR_CONFIG;
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(der);
	}
	BIO_free(bio);
	if (e == ERR_OK && !k->pkey)
		return err_set(why, ERR_CONFIG, 0,
			"%.200s has no private key in PEM form (\"-----BEGIN PRIVATE KEY-----\")", shown);
	if (e == ERR_OK && k->certs == 0)
		return err_set(why, ERR_CONFIG, 0,
			"%.200s has no certificate in PEM form; put the certificate of the key into the same file",
			shown);
	return e;
}

/* Is it the certificate of our key? */
static bool belongs(const struct sign_key *k, size_t n)
{
	const unsigned char *p = k->cert[n].der;
	X509 *x = X509_new_ex(k->fips->libctx, props(k->fips)), *got = NULL;
	bool yes = false;

	if (x && k->cert[n].len <= LONG_MAX)
		got = d2i_X509(&x, &p, (long)k->cert[n].len); /* frees x on failure */
	if (got)
		yes = X509_check_private_key(got, k->pkey) == 1;
	X509_free(got);
	return yes;
}

/* Its own certificate comes first (RFC 7515 section 4.1.6), wherever the file has it. */
static enum err own_first(struct sign_key *k, const char *shown, struct err_why *why)
{
	for (size_t i = 0; i < k->certs; i++) {
		unsigned char *der = k->cert[i].der;
		size_t len = k->cert[i].len;

		if (!belongs(k, i))
			continue;
		memmove(&k->cert[1], &k->cert[0], i * sizeof(k->cert[0]));
		k->cert[0].der = der;
		k->cert[0].len = len;
		return fips_sha256(k->fips, der, len, k->thumbprint);
	}
	return err_set(why, ERR_CONFIG, 0,
		"no certificate in %.200s belongs to the private key in it; put both into it", shown);
}

enum err sign_key_new(
	const struct fips *f, const struct secret *pem, const char *shown, struct sign_key **out, struct err_why *why)
{
	struct sign_key *k = calloc(1, sizeof(*k));
	enum err e;

	*out = NULL;
	if (!k)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	k->fips = f;
	e = read_blocks(k, pem, shown, why);
	if (e == ERR_OK)
		e = own_first(k, shown, why);
	ERR_clear_error();
	if (e != ERR_OK) {
		sign_key_free(k);
		return e;
	}
	*out = k;
	return ERR_OK;
}

void sign_key_free(struct sign_key *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->pkey);
	for (size_t i = 0; i < k->certs; i++)
		OPENSSL_free(k->cert[i].der);
	free(k);
}

enum err sign_ps256(const struct sign_key *k, const void *in, size_t len, uint8_t out[static SIGN_MAX], size_t *out_len)
{
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, (char *)(uintptr_t) "pss", 0),
		OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, (char *)(uintptr_t) "digest", 0),
		OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, (char *)(uintptr_t) "SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_PKEY_CTX *p = NULL; /* belongs to c */
	size_t n = SIGN_MAX;
	enum err e = ERR_BUG;

	if (!c)
		return ERR_NOMEM;
	/* Parameters given to the init call would be applied before the digest, when a 3.0 module still assumes SHA-1.
	 */
	if (EVP_DigestSignInit_ex(c, &p, "SHA256", k->fips->libctx, props(k->fips), k->pkey, NULL) == 1 &&
		EVP_PKEY_CTX_set_params(p, params) == 1 && EVP_DigestSign(c, out, &n, in, len) == 1 && n <= SIGN_MAX)
		e = ERR_OK;
	ERR_clear_error();
	EVP_MD_CTX_free(c);
	if (e == ERR_OK)
		*out_len = n;
	else
		secret_wipe(out, SIGN_MAX);
	return e;
}

const uint8_t *sign_key_thumbprint(const struct sign_key *k)
{
	return k->thumbprint;
}

const uint8_t *sign_key_cert(const struct sign_key *k, size_t n, size_t *len)
{
	if (n >= k->certs)
		return NULL;
	*len = k->cert[n].len;
	return k->cert[n].der;
}
