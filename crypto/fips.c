/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fips - the provider, loaded into a library context of our own, and the primitives built on it.
 *
 * The provider is configured from a text made here, which includes the module's fipsmodule.cnf: so a tree that was
 * copied or installed elsewhere works, and neither openssl.cnf nor the default library context plays any part.
 */
#include "crypto/fips.h"

#include <limits.h>
#include <openssl/conf.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/fips_internal.h"
#include "crypto/secret.h"

#ifndef BLOBCRYPTFS_FIPS_DIR_INSTALL
#define BLOBCRYPTFS_FIPS_DIR_INSTALL ""
#endif
#ifndef BLOBCRYPTFS_FIPS_DIR_BUILD
#define BLOBCRYPTFS_FIPS_DIR_BUILD ""
#endif

#define REMEDY                                                                                                         \
	"run \"make setup\", or give --fips-dir DIR with a fips.so and the fipsmodule.cnf that \"openssl "             \
	"fipsinstall\" makes"
#define PATH_BYTES 4096
#define PROPS_FIPS "fips=yes"

struct place {
	char module[PATH_BYTES]; /* .../fips.so */
	char conf[PATH_BYTES];	 /* .../fipsmodule.cnf: the module's checksum */
};

/* OpenSSL's reason for its last error; the queue is emptied. */
static const char *openssl_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return text ? text : "no reason given";
}

static bool place_is_there(const struct place *p)
{
	return access(p->module, R_OK) == 0 && access(p->conf, R_OK) == 0;
}

static bool place_set(struct place *p, const char *module_dir, const char *conf_dir)
{
	int m, c;

	if (!module_dir || !conf_dir || module_dir[0] == '\0' || conf_dir[0] == '\0')
		return false;
	m = snprintf(p->module, sizeof(p->module), "%s/fips.so", module_dir);
	c = snprintf(p->conf, sizeof(p->conf), "%s/fipsmodule.cnf", conf_dir);
	return m > 0 && m < PATH_BYTES && c > 0 && c < PATH_BYTES;
}

/* What OPENSSL_info() tells comes as "/usr/lib/ssl"; NULL if this libcrypto has none. */
static bool place_system(struct place *p)
{
	const char *modules = OPENSSL_info(OPENSSL_INFO_MODULES_DIR);
	const char *conf = OPENSSL_info(OPENSSL_INFO_CONFIG_DIR);

	if (place_set(p, modules, conf) && place_is_there(p))
		return true;
	if (place_set(p, modules, "/etc/ssl") && place_is_there(p))
		return true;
	return place_set(p, modules, modules) && place_is_there(p);
}

static enum err place_find(const char *dir, struct place *p, struct err_why *why)
{
	if (dir) {
		if (place_set(p, dir, dir) && place_is_there(p))
			return ERR_OK;
		return err_set(why, ERR_FIPS, 0, "no fips.so with its fipsmodule.cnf in %.200s: " REMEDY, dir);
	}
	if (place_set(p, BLOBCRYPTFS_FIPS_DIR_INSTALL, BLOBCRYPTFS_FIPS_DIR_INSTALL) && place_is_there(p))
		return ERR_OK;
	if (place_set(p, BLOBCRYPTFS_FIPS_DIR_BUILD, BLOBCRYPTFS_FIPS_DIR_BUILD) && place_is_there(p))
		return ERR_OK;
	if (place_system(p))
		return ERR_OK;
	return err_set(why, ERR_FIPS, 0, "no FIPS provider found: " REMEDY);
}

/* The path goes into a configuration text: nothing that means something there may be in it. */
static bool path_is_plain(const char *path)
{
	return path[0] == '/' && strpbrk(path, "$#\\\"'`;\n\r") == NULL;
}

static enum err load_module(struct fips *f, const struct place *p, struct err_why *why)
{
	char text[3 * PATH_BYTES];
	long line = 0;
	CONF *conf = NULL;
	BIO *bio = NULL;
	enum err e = ERR_FIPS;
	int n;

	if (!path_is_plain(p->module) || !path_is_plain(p->conf))
		return err_set(
			why, ERR_FIPS, 0, "the FIPS directory must be an absolute path without quotes, $, #, ; or \\");
	n = snprintf(text, sizeof(text),
		"config_diagnostics = 1\nopenssl_conf = init\n.include = %s\n"
		"[fips_sect]\nmodule = %s\n[base_sect]\nactivate = 1\n"
		"[providers]\nfips = fips_sect\nbase = base_sect\n"
		"[algorithms]\ndefault_properties = fips=yes\n"
		"[init]\nproviders = providers\nalg_section = algorithms\n",
		p->conf, p->module);
	if (n < 0 || (size_t)n >= sizeof(text))
		return ERR_BUG;
	bio = BIO_new_mem_buf(text, n);
	conf = NCONF_new_ex(f->libctx, NULL);
	if (!bio || !conf)
		e = ERR_NOMEM;
	else if (NCONF_load_bio(conf, bio, &line) == 1 && CONF_modules_load(conf, NULL, 0) == 1 &&
		 OSSL_PROVIDER_available(f->libctx, "fips") == 1 &&
		 EVP_default_properties_is_fips_enabled(f->libctx) == 1)
		e = ERR_OK;
	if (e != ERR_OK)
		err_set(why, e, 0, "the FIPS provider %.150s could not be started (%.80s): " REMEDY, p->module,
			openssl_reason());
	NCONF_free(conf);
	BIO_free(bio);
	return e;
}

static enum err fetch_all(struct fips *f, struct err_why *why)
{
	const char *props = f->is_fips ? PROPS_FIPS : NULL;

	f->gcm = EVP_CIPHER_fetch(f->libctx, "AES-256-GCM", props);
	f->xts = EVP_CIPHER_fetch(f->libctx, "AES-256-XTS", props);
	f->ctr = EVP_CIPHER_fetch(f->libctx, "AES-256-CTR", props);
	f->kwp = EVP_CIPHER_fetch(f->libctx, "AES-256-WRAP-PAD", props);
	f->kw = EVP_CIPHER_fetch(f->libctx, "AES-256-WRAP", props);
	f->hmac = EVP_MAC_fetch(f->libctx, "HMAC", props);
	f->sha256 = EVP_MD_fetch(f->libctx, "SHA256", props);
	f->kbkdf = EVP_KDF_fetch(f->libctx, "KBKDF", props);
	f->pbkdf2 = EVP_KDF_fetch(f->libctx, "PBKDF2", props);
	if (f->gcm && f->xts && f->ctr && f->kwp && f->kw && f->hmac && f->sha256 && f->kbkdf && f->pbkdf2)
		return ERR_OK;
	return err_set(why, ERR_FIPS, 0, "the FIPS provider lacks an algorithm (%.80s): " REMEDY, openssl_reason());
}

/* The self-test was run at loading; this asks for its outcome and for who is speaking. */
static enum err examine(struct fips *f, struct err_why *why)
{
	const OSSL_PROVIDER *p = EVP_CIPHER_get0_provider(f->gcm);
	char *name = NULL, *version = NULL;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_NAME, &name, 0),
		OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_VERSION, &version, 0),
		OSSL_PARAM_construct_end(),
	};

	if (OSSL_PROVIDER_get_params(p, params) == 1) {
		snprintf(f->name, sizeof(f->name), "%s", name ? name : "");
		snprintf(f->version, sizeof(f->version), "%s", version ? version : "");
	}
	if (f->is_fips && strcmp(OSSL_PROVIDER_get0_name(p), "fips") != 0)
		return err_set(why, ERR_FIPS, 0, "AES-256-GCM does not come from the FIPS provider: " REMEDY);
	if (f->is_fips && OSSL_PROVIDER_self_test(p) != 1)
		return err_set(why, ERR_FIPS, 0, "the self-test of the FIPS provider failed (%.80s): " REMEDY,
			openssl_reason());
	return ERR_OK;
}

static enum err open_one(const struct place *place, struct fips **out, struct err_why *why)
{
	struct fips *f = calloc(1, sizeof(*f));
	enum err e = ERR_OK;

	if (!f)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	f->libctx = OSSL_LIB_CTX_new();
	f->is_fips = place != NULL;
	if (!f->libctx)
		e = err_set(why, ERR_NOMEM, 0, "out of (locked) memory");
	else if (place)
		e = load_module(f, place, why);
	else if (!OSSL_PROVIDER_load(f->libctx, "default"))
		e = err_set(why, ERR_FIPS, 0, "OpenSSL's default provider can't be loaded");
	if (e == ERR_OK)
		e = fetch_all(f, why);
	if (e == ERR_OK)
		e = examine(f, why);
	if (e == ERR_OK && place)
		memcpy(f->module, place->module, sizeof(f->module));
	if (e != ERR_OK) {
		fips_close(f);
		return e;
	}
	*out = f;
	return ERR_OK;
}

enum err fips_open(const struct fips_config *cfg, struct fips **out, struct err_why *why)
{
	struct place *place = calloc(1, sizeof(*place));
	enum err e;

	if (!place)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	e = place_find(cfg->dir, place, why);
	if (e == ERR_OK)
		e = open_one(place, out, why);
	free(place);
	/* A directory given by the user is what he wants: its failure is not papered over. */
	if (e != ERR_OK && cfg->allow_non_fips && !cfg->dir)
		e = open_one(NULL, out, why);
	return e;
}

void fips_close(struct fips *f)
{
	if (!f)
		return;
	EVP_CIPHER_free(f->gcm);
	EVP_CIPHER_free(f->xts);
	EVP_CIPHER_free(f->ctr);
	EVP_CIPHER_free(f->kwp);
	EVP_CIPHER_free(f->kw);
	EVP_MAC_free(f->hmac);
	EVP_MD_free(f->sha256);
	EVP_KDF_free(f->kbkdf);
	EVP_KDF_free(f->pbkdf2);
	OSSL_LIB_CTX_free(f->libctx);
	free(f);
}

enum err fips_random(const struct fips *f, void *out, size_t len)
{
	if (RAND_priv_bytes_ex(f->libctx, out, len, 0) == 1)
		return ERR_OK;
	secret_wipe(out, len);
	return ERR_FIPS;
}

/* OSSL_PARAM wants pointers to non-const data which it then only reads. */
static OSSL_PARAM octets(const char *name, const void *p, size_t len)
{
	static const char none[1] = "";

	return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)(p ? p : none), len);
}

static OSSL_PARAM text(const char *name, const char *value)
{
	return OSSL_PARAM_construct_utf8_string(name, (char *)(uintptr_t)value, 0);
}

enum err fips_kbkdf_new(const struct fips *f, const uint8_t *key, size_t key_len, const char *label, EVP_KDF_CTX **out)
{
	EVP_KDF_CTX *k = EVP_KDF_CTX_new(f->kbkdf);
	const OSSL_PARAM params[] = {
		text(OSSL_KDF_PARAM_MODE, "counter"),
		text(OSSL_KDF_PARAM_MAC, "HMAC"),
		text(OSSL_KDF_PARAM_DIGEST, "SHA256"),
		/* The MAC is fetched by name inside the call; without this a non-FIPS one could be taken. */
		text(OSSL_KDF_PARAM_PROPERTIES, f->is_fips ? PROPS_FIPS : ""),
		octets(OSSL_KDF_PARAM_KEY, key, key_len),
		octets(OSSL_KDF_PARAM_SALT, label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	if (!k)
		return ERR_NOMEM;
	if (EVP_KDF_CTX_set_params(k, params) != 1) {
		EVP_KDF_CTX_free(k);
		return ERR_BUG;
	}
	*out = k;
	return ERR_OK;
}

enum err fips_kbkdf_derive(EVP_KDF_CTX *k, const void *ctx, size_t ctx_len, uint8_t *out, size_t out_len)
{
	const OSSL_PARAM params[] = {
		octets(OSSL_KDF_PARAM_INFO, ctx, ctx_len),
		OSSL_PARAM_construct_end(),
	};

	if (EVP_KDF_derive(k, out, out_len, params) == 1)
		return ERR_OK;
	secret_wipe(out, out_len);
	return ERR_BUG;
}

enum err fips_kbkdf(const struct fips *f, const uint8_t *key, size_t key_len, const char *label, const void *ctx,
	size_t ctx_len, uint8_t *out, size_t out_len)
{
	EVP_KDF_CTX *k = NULL;
	enum err e = fips_kbkdf_new(f, key, key_len, label, &k);

	if (e != ERR_OK) {
		secret_wipe(out, out_len);
		return e;
	}
	e = fips_kbkdf_derive(k, ctx, ctx_len, out, out_len);
	EVP_KDF_CTX_free(k);
	return e;
}

enum err fips_pbkdf2(const struct fips *f, const char *pass, size_t pass_len, const uint8_t *salt, size_t salt_len,
	unsigned rounds, uint8_t *out, size_t out_len)
{
	EVP_KDF_CTX *k = EVP_KDF_CTX_new(f->pbkdf2);
	const OSSL_PARAM params[] = {
		text(OSSL_KDF_PARAM_DIGEST, "SHA256"),
		text(OSSL_KDF_PARAM_PROPERTIES, f->is_fips ? PROPS_FIPS : ""),
		octets(OSSL_KDF_PARAM_PASSWORD, pass, pass_len),
		octets(OSSL_KDF_PARAM_SALT, salt, salt_len),
		OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_ITER, &rounds),
		OSSL_PARAM_construct_end(),
	};
	enum err e = ERR_NOMEM;

	if (k)
		e = EVP_KDF_derive(k, out, out_len, params) == 1 ? ERR_OK : ERR_RANGE;
	if (e != ERR_OK)
		secret_wipe(out, out_len);
	EVP_KDF_CTX_free(k);
	return e;
}

enum err fips_hmac_new(const struct fips *f, const uint8_t *key, size_t key_len, EVP_MAC_CTX **out)
{
	EVP_MAC_CTX *m = EVP_MAC_CTX_new(f->hmac);
	const OSSL_PARAM params[] = {
		text(OSSL_MAC_PARAM_DIGEST, "SHA256"),
		text(OSSL_MAC_PARAM_PROPERTIES, f->is_fips ? PROPS_FIPS : ""),
		OSSL_PARAM_construct_end(),
	};

	if (!m)
		return ERR_NOMEM;
	if (EVP_MAC_init(m, key, key_len, params) != 1) {
		EVP_MAC_CTX_free(m);
		return ERR_BUG;
	}
	*out = m;
	return ERR_OK;
}

enum err fips_hmac(const struct fips *f, const uint8_t *key, size_t key_len, const struct piece *in, size_t n,
	uint8_t out[static 32])
{
	EVP_MAC_CTX *m = NULL;
	size_t len = 0;
	enum err e = fips_hmac_new(f, key, key_len, &m);

	for (size_t i = 0; i < n && e == ERR_OK; i++) {
		if (EVP_MAC_update(m, in[i].p, in[i].len) != 1)
			e = ERR_BUG;
	}
	if (e == ERR_OK && (EVP_MAC_final(m, out, &len, 32) != 1 || len != 32))
		e = ERR_BUG;
	EVP_MAC_CTX_free(m);
	if (e != ERR_OK)
		secret_wipe(out, 32);
	return e;
}

enum err fips_sha256(const struct fips *f, const void *in, size_t len, uint8_t out[static 32])
{
	if (EVP_Digest(in, len, out, NULL, f->sha256, NULL) == 1)
		return ERR_OK;
	secret_wipe(out, 32);
	return ERR_BUG;
}

enum err fips_wrap(const struct fips *f, const struct secret *kek, const struct secret *in, uint8_t *out, size_t cap,
	size_t *out_len)
{
	size_t need = (secret_len(in) + 7) / 8 * 8 + 8;
	EVP_CIPHER_CTX *c;
	enum err e = ERR_BUG;
	int n = 0;

	if (secret_len(kek) != 32 || secret_len(in) == 0 || secret_len(in) > INT_MAX / 2 || cap < need)
		return ERR_RANGE;
	c = EVP_CIPHER_CTX_new();
	if (!c)
		return ERR_NOMEM;
	if (EVP_EncryptInit_ex2(c, f->kwp, secret_view(kek), NULL, NULL) == 1 &&
		EVP_EncryptUpdate(c, out, &n, secret_view(in), (int)secret_len(in)) == 1 && (size_t)n == need)
		e = ERR_OK;
	EVP_CIPHER_CTX_free(c);
	if (e == ERR_OK)
		*out_len = need;
	else
		secret_wipe(out, cap);
	return e;
}

enum err fips_unwrap(const struct fips *f, const struct secret *kek, const uint8_t *in, size_t len, struct secret **out)
{
	struct secret *whole = NULL, *s = NULL;
	EVP_CIPHER_CTX *c = NULL;
	enum err e;
	int n = 0;

	if (secret_len(kek) != 32)
		return ERR_RANGE;
	if (len < 16 || len % 8 != 0 || len > INT_MAX / 2)
		return ERR_CORRUPT;
	e = secret_new(len, &whole); /* the plaintext's length is known afterwards only */
	if (e != ERR_OK)
		return e;
	c = EVP_CIPHER_CTX_new();
	if (!c)
		e = ERR_NOMEM;
	else if (EVP_DecryptInit_ex2(c, f->kwp, secret_view(kek), NULL, NULL) != 1)
		e = ERR_BUG;
	else if (EVP_DecryptUpdate(c, secret_bytes(whole), &n, in, (int)len) != 1 || n <= 0 || (size_t)n > len - 8)
		e = ERR_CORRUPT;
	ERR_clear_error();
	EVP_CIPHER_CTX_free(c);
	if (e == ERR_OK)
		e = secret_take(secret_bytes(whole), (size_t)n, &s);
	secret_free(whole);
	if (e == ERR_OK)
		*out = s;
	return e;
}

/* ---- AES-256-GCM ---- */

#define GCM_FIXED_BYTES 4u /* of the IV; the module draws the rest */

static enum err gcm_begin(const struct fips *f, const struct secret *key, bool enc, EVP_CIPHER_CTX **out)
{
	EVP_CIPHER_CTX *c;

	if (secret_len(key) != 32)
		return ERR_RANGE;
	c = EVP_CIPHER_CTX_new();
	if (!c)
		return ERR_NOMEM;
	if (EVP_CipherInit_ex2(c, f->gcm, secret_view(key), NULL, enc, NULL) != 1) {
		EVP_CIPHER_CTX_free(c);
		return ERR_NOMEM; /* a valid key and cipher: only memory can be lacking */
	}
	*out = c;
	return ERR_OK;
}

/* Lets the module make the IV, and arms the context with it. */
static enum err gcm_iv(const struct fips *f, EVP_CIPHER_CTX *c, uint8_t iv[static GCM_IV_BYTES])
{
	uint8_t fixed[GCM_FIXED_BYTES];
	const OSSL_PARAM set[] = {
		octets(OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED, fixed, sizeof(fixed)),
		OSSL_PARAM_construct_end(),
	};
	OSSL_PARAM get[] = {
		OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_GET_IV_GEN, iv, GCM_IV_BYTES),
		OSSL_PARAM_construct_end(),
	};
	enum err e = fips_random(f, fixed, sizeof(fixed));

	if (e == ERR_OK && EVP_CIPHER_CTX_set_params(c, set) != 1)
		e = ERR_FIPS; /* the DRBG */
	if (e == ERR_OK && EVP_CIPHER_CTX_get_params(c, get) != 1)
		e = ERR_BUG;
	return e;
}

static bool gcm_update(EVP_CIPHER_CTX *c, uint8_t *out, const void *in, size_t len)
{
	int n = 0;

	return len == 0 || (EVP_CipherUpdate(c, out, &n, in, (int)len) == 1 && (size_t)n == len);
}

enum err fips_gcm_seal(const struct fips *f, const struct secret *key, const void *aad, size_t aad_len, const void *in,
	size_t len, uint8_t *out)
{
	uint8_t *tag = out + GCM_IV_BYTES, *body = out + GCM_OVERHEAD;
	EVP_CIPHER_CTX *c = NULL;
	enum err e;
	int n = 0;

	if (len > INT_MAX || aad_len > INT_MAX)
		return ERR_RANGE;
	e = gcm_begin(f, key, true, &c);
	if (e == ERR_OK)
		e = gcm_iv(f, c, out);
	if (e == ERR_OK && (!gcm_update(c, NULL, aad, aad_len) || !gcm_update(c, body, in, len) ||
				   EVP_EncryptFinal_ex(c, body + len, &n) != 1 || n != 0 ||
				   EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, (int)GCM_TAG_BYTES, tag) != 1))
		e = ERR_BUG;
	EVP_CIPHER_CTX_free(c);
	if (e != ERR_OK) {
		ERR_clear_error();
		secret_wipe(out, len + GCM_OVERHEAD);
	}
	return e;
}

enum err fips_gcm_open(const struct fips *f, const struct secret *key, const void *aad, size_t aad_len,
	const uint8_t *in, size_t len, uint8_t *out)
{
	size_t body = len - GCM_OVERHEAD;
	uint8_t tag[GCM_TAG_BYTES];
	EVP_CIPHER_CTX *c = NULL;
	enum err e;
	int n = 0;

	if (len < GCM_OVERHEAD)
		return ERR_CORRUPT;
	if (body > INT_MAX || aad_len > INT_MAX)
		return ERR_RANGE;
	e = gcm_begin(f, key, false, &c);
	memcpy(tag, in + GCM_IV_BYTES, sizeof(tag));
	if (e == ERR_OK && (EVP_DecryptInit_ex2(c, NULL, NULL, in, NULL) != 1 ||
				   EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, (int)sizeof(tag), tag) != 1 ||
				   !gcm_update(c, NULL, aad, aad_len) || !gcm_update(c, out, in + GCM_OVERHEAD, body)))
		e = ERR_BUG;
	if (e == ERR_OK && EVP_DecryptFinal_ex(c, out + body, &n) != 1)
		e = ERR_CORRUPT;
	EVP_CIPHER_CTX_free(c);
	if (e != ERR_OK) {
		ERR_clear_error();
		secret_wipe(out, body);
	}
	return e;
}
