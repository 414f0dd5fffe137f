/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name - synthetic-IV encryption (FORMAT.md section 3) and what is made of it: names, directory ids, blobs, names of
 * extended attributes.  All of it is read back from hostile storage: lengths first, then the tag, then the content.
 */
#include <limits.h>
#include <openssl/err.h>
#include <sodium.h>
#include <string.h>

#include "crypto/volkeys_internal.h"

#define PURPOSE_NAME	   1
#define PURPOSE_XATTR_NAME 3

#define BLOCK		 16u
#define PADDED_MAX	 256u /* a name of 255 bytes, padded */
#define SHORT_PADDED_MAX 160u /* more would not fit a component of 255 characters */
#define XATTR_TEXT_MAX	 200u
#define HASH_TEXT	 44u /* base64url of 32 bytes, with NUL */
#define BLOB_MAX	 ((size_t)1 << 24)

struct siv_job {
	uint8_t purpose;
	struct piece context[2];
	const uint8_t *in;
	size_t len;
	uint8_t *out;
};

size_t b64_len(size_t len)
{
	return len / 3 * 4 + (len % 3 * 8 + 5) / 6;
}

void b64_encode(const void *in, size_t len, char *out)
{
	sodium_bin2base64(out, b64_len(len) + 1, in, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

enum err b64_decode(const char *in, size_t len, uint8_t *out, size_t cap, size_t *out_len)
{
	size_t n = 0;
	bool clean = true;

	/* libsodium 1.0.18 takes bytes of 0x80 and above for characters of the alphabet where char is signed. */
	for (size_t i = 0; i < len; i++)
		clean = clean && (in[i] & 0x80) == 0;
	/* Fails on foreign characters, surplus bits and a full buffer; no end pointer: all of it has to be used. */
	if (!clean ||
		sodium_base642bin(out, cap, in, len, NULL, &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0) {
		secret_wipe(out, cap);
		return ERR_CORRUPT;
	}
	*out_len = n;
	return ERR_OK;
}

/* iv = first 16 bytes of HMAC(u8 purpose | u16 context length | context | plaintext) */
static enum err siv_iv(struct siv *k, const struct siv_job *j, const uint8_t *plain, uint8_t iv[static IV_BYTES])
{
	size_t ctx_len = j->context[0].len + j->context[1].len, n = 0;
	uint8_t head[3 + ID_BYTES] = {j->purpose, (uint8_t)(ctx_len >> 8), (uint8_t)ctx_len};
	size_t head_len = 3;
	uint8_t mac[MAC_BYTES];
	bool ok;

	if (ctx_len > UINT16_MAX)
		return ERR_RANGE;
	if (j->context[0].len == ID_BYTES) { /* one call instead of two */
		memcpy(head + 3, j->context[0].p, ID_BYTES);
		head_len += ID_BYTES;
	}
	ok = EVP_MAC_init(k->mac, NULL, 0, NULL) == 1 && EVP_MAC_update(k->mac, head, head_len) == 1;
	if (head_len == 3 && j->context[0].len > 0)
		ok = ok && EVP_MAC_update(k->mac, j->context[0].p, j->context[0].len) == 1;
	if (j->context[1].len > 0)
		ok = ok && EVP_MAC_update(k->mac, j->context[1].p, j->context[1].len) == 1;
	if (j->len > 0)
		ok = ok && EVP_MAC_update(k->mac, plain, j->len) == 1;
	ok = ok && EVP_MAC_final(k->mac, mac, &n, sizeof(mac)) == 1 && n == sizeof(mac);
	if (!ok)
		return ERR_BUG;
	memcpy(iv, mac, IV_BYTES);
	return ERR_OK;
}

static enum err ctr_run(EVP_CIPHER_CTX *c, const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out)
{
	int n = 0;

	if (len == 0)
		return ERR_OK;
	if (EVP_EncryptInit_ex2(c, NULL, NULL, iv, NULL) != 1 || EVP_EncryptUpdate(c, out, &n, in, (int)len) != 1 ||
		(size_t)n != len)
		return ERR_BUG;
	return ERR_OK;
}

/* The key stream(s): encrypts and decrypts. */
static enum err siv_stream(struct siv *k, const struct siv_job *j, const uint8_t *iv)
{
	enum err e = ctr_run(k->enc, iv, j->in, j->len, j->out);

	if (e == ERR_OK && k->inner)
		e = ctr_run(k->inner, iv, j->out, j->len, j->out);
	return e;
}

static enum err siv_seal(struct siv *k, const struct siv_job *j, uint8_t iv[static IV_BYTES])
{
	enum err e = siv_iv(k, j, j->in, iv);

	if (e == ERR_OK)
		e = siv_stream(k, j, iv);
	if (e != ERR_OK) {
		secret_wipe(j->out, j->len);
		ERR_clear_error();
	}
	return e;
}

static enum err siv_open(struct siv *k, const struct siv_job *j, const uint8_t iv[static IV_BYTES])
{
	uint8_t expected[IV_BYTES];
	enum err e = siv_stream(k, j, iv);

	if (e == ERR_OK)
		e = siv_iv(k, j, j->out, expected);
	if (e == ERR_OK && !secret_equal(expected, iv, IV_BYTES))
		e = ERR_CORRUPT;
	if (e != ERR_OK) {
		secret_wipe(j->out, j->len);
		ERR_clear_error();
	}
	return e;
}

/* raw: room for IV_BYTES + PADDED_MAX; gets iv | ciphertext of the padded name. */
static enum err padded_seal(struct volkeys *vk, uint8_t purpose, const uint8_t *dir_id, const char *name, size_t len,
	uint8_t *raw, size_t *raw_len)
{
	uint8_t plain[PADDED_MAX];
	size_t padded = (len + BLOCK - 1) / BLOCK * BLOCK;
	const struct siv_job job = {
		.purpose = purpose,
		.context = {{dir_id, dir_id ? ID_BYTES : 0}},
		.in = plain,
		.len = padded,
		.out = raw + IV_BYTES,
	};
	struct bench *b = NULL;
	enum err e = bench_get(vk, &b);

	if (e != ERR_OK)
		return e;
	memcpy(plain, name, len);
	memset(plain + len, 0, padded - len);
	e = siv_seal(&b->name, &job, raw);
	bench_put(b);
	secret_wipe(plain, padded);
	if (e == ERR_OK)
		*raw_len = IV_BYTES + padded;
	return e;
}

/* Length of a padded name; 0 if it is none: padding is less than a block of zeros, and no zero is before it. */
static size_t padded_length(const uint8_t *plain, size_t padded)
{
	size_t len = strnlen((const char *)plain, padded);

	if (len == 0 || len > NAME_MAX_PLAIN || padded - len >= BLOCK)
		return 0;
	for (size_t i = len; i < padded; i++) {
		if (plain[i] != 0)
			return 0;
	}
	return len;
}

/* out: at least 256 bytes. */
static enum err padded_open(struct volkeys *vk, uint8_t purpose, const uint8_t *dir_id, const char *enc, size_t enc_len,
	char *out, size_t *out_len)
{
	uint8_t raw[IV_BYTES + PADDED_MAX], plain[PADDED_MAX];
	struct siv_job job = {
		.purpose = purpose,
		.context = {{dir_id, dir_id ? ID_BYTES : 0}},
		.in = raw + IV_BYTES,
		.out = plain,
	};
	struct bench *b = NULL;
	size_t raw_len = 0, len;
	enum err e = b64_decode(enc, enc_len, raw, sizeof(raw), &raw_len);

	if (e != ERR_OK)
		return e;
	if (raw_len < IV_BYTES + BLOCK || raw_len % BLOCK != 0)
		return ERR_CORRUPT;
	job.len = raw_len - IV_BYTES;
	e = bench_get(vk, &b);
	if (e != ERR_OK)
		return e;
	e = siv_open(&b->name, &job, raw);
	bench_put(b);
	if (e != ERR_OK)
		return e;
	len = padded_length(plain, job.len);
	if (len == 0 || (purpose == PURPOSE_NAME && memchr(plain, '/', len))) {
		e = ERR_CORRUPT;
	} else {
		memcpy(out, plain, len);
		out[len] = '\0';
		*out_len = len;
	}
	secret_wipe(plain, sizeof(plain));
	return e;
}

/* "X." and the base64url of SHA-256 of raw. */
static enum err hash_text(struct volkeys *vk, char letter, const uint8_t *raw, size_t len, char *out)
{
	uint8_t hash[32];
	enum err e = fips_sha256(vk->fips, raw, len, hash);

	if (e != ERR_OK)
		return e;
	out[0] = letter;
	out[1] = '.';
	b64_encode(hash, sizeof(hash), out + 2);
	return ERR_OK;
}

enum err name_seal(
	struct volkeys *vk, const uint8_t dir_id[static ID_BYTES], const char *name, size_t len, struct enc_name *out)
{
	uint8_t raw[IV_BYTES + PADDED_MAX];
	size_t raw_len = 0;
	enum err e;

	if (len == 0 || len > NAME_MAX_PLAIN || memchr(name, '\0', len) || memchr(name, '/', len))
		return ERR_RANGE;
	e = padded_seal(vk, PURPOSE_NAME, dir_id, name, len, raw, &raw_len);
	if (e != ERR_OK)
		return e;
	out->is_long = raw_len > IV_BYTES + SHORT_PADDED_MAX;
	if (!out->is_long) {
		b64_encode(raw, raw_len, out->text);
		return ERR_OK;
	}
	b64_encode(raw, raw_len, out->side_target);
	e = hash_text(vk, 'L', raw, raw_len, out->text);
	if (e != ERR_OK)
		return e;
	memcpy(out->side, out->text, 2 + HASH_TEXT);
	out->side[0] = 'N';
	return ERR_OK;
}

enum err name_open(struct volkeys *vk, const uint8_t dir_id[static ID_BYTES], const char *enc, size_t enc_len,
	char *out, size_t *out_len)
{
	enum err e = padded_open(vk, PURPOSE_NAME, dir_id, enc, enc_len, out, out_len);

	if (e != ERR_OK)
		out[0] = '\0';
	return e;
}

enum err name_long_matches(struct volkeys *vk, const char *entry, const char *side_target, size_t len)
{
	uint8_t raw[IV_BYTES + PADDED_MAX];
	char text[2 + HASH_TEXT];
	size_t raw_len = 0;
	enum err e = b64_decode(side_target, len, raw, sizeof(raw), &raw_len);

	if (e == ERR_OK)
		e = hash_text(vk, 'L', raw, raw_len, text);
	if (e != ERR_OK)
		return e;
	return strcmp(entry, text) == 0 ? ERR_OK : ERR_CORRUPT; /* nothing secret here */
}

/* id | first 16 bytes of HMAC(id) */
static enum err dirid_raw(struct volkeys *vk, const uint8_t *id, uint8_t out[static 2 * ID_BYTES])
{
	const struct piece piece = {id, ID_BYTES};
	uint8_t mac[MAC_BYTES];
	struct bench *b = NULL;
	enum err e = bench_get(vk, &b);

	if (e != ERR_OK)
		return e;
	e = fips_hmac(vk->fips, vk->fixed->dirid, KEY_BYTES, &piece, 1, mac);
	bench_put(b);
	if (e != ERR_OK)
		return e;
	memcpy(out, id, ID_BYTES);
	memcpy(out + ID_BYTES, mac, ID_BYTES);
	return ERR_OK;
}

enum err dirid_encode(struct volkeys *vk, const uint8_t id[static ID_BYTES], char out[static DIRID_TEXT])
{
	uint8_t raw[2 * ID_BYTES];
	enum err e = dirid_raw(vk, id, raw);

	if (e == ERR_OK)
		b64_encode(raw, sizeof(raw), out);
	return e;
}

enum err dirid_decode(struct volkeys *vk, const char *text, size_t len, uint8_t id[static ID_BYTES])
{
	uint8_t raw[2 * ID_BYTES], expected[2 * ID_BYTES];
	size_t raw_len = 0;
	enum err e = b64_decode(text, len, raw, sizeof(raw), &raw_len);

	if (e == ERR_OK && raw_len != sizeof(raw))
		e = ERR_CORRUPT;
	if (e == ERR_OK)
		e = dirid_raw(vk, raw, expected);
	if (e != ERR_OK)
		return e;
	if (!secret_equal(raw, expected, sizeof(raw)))
		return ERR_CORRUPT;
	memcpy(id, raw, ID_BYTES);
	return ERR_OK;
}

enum err blob_seal(struct volkeys *vk, enum blob_purpose purpose, const void *ctx, size_t ctx_len, const void *in,
	size_t len, uint8_t *out)
{
	const struct siv_job job = {
		.purpose = (uint8_t)purpose,
		.context = {{out, ID_BYTES}, {ctx, ctx_len}},
		.in = in,
		.len = len,
		.out = out + BLOB_OVERHEAD,
	};
	struct bench *b = NULL;
	enum err e;

	if (len > BLOB_MAX || ctx_len > UINT16_MAX - ID_BYTES)
		return ERR_RANGE;
	e = volkeys_random_id(vk, out); /* the salt */
	if (e == ERR_OK)
		e = bench_get(vk, &b);
	if (e != ERR_OK)
		return e;
	e = siv_seal(&b->blob, &job, out + ID_BYTES);
	bench_put(b);
	return e;
}

enum err blob_open(struct volkeys *vk, enum blob_purpose purpose, const void *ctx, size_t ctx_len, const uint8_t *in,
	size_t len, void *out)
{
	struct siv_job job = {
		.purpose = (uint8_t)purpose,
		.context = {{in, ID_BYTES}, {ctx, ctx_len}},
		.in = in + BLOB_OVERHEAD,
		.out = out,
	};
	struct bench *b = NULL;
	enum err e;

	if (len < BLOB_OVERHEAD || len - BLOB_OVERHEAD > BLOB_MAX)
		return ERR_CORRUPT;
	job.len = len - BLOB_OVERHEAD;
	if (ctx_len > UINT16_MAX - ID_BYTES)
		e = ERR_RANGE;
	else
		e = bench_get(vk, &b);
	if (e != ERR_OK) {
		secret_wipe(out, job.len);
		return e;
	}
	e = siv_open(&b->blob, &job, in + ID_BYTES);
	bench_put(b);
	return e;
}

enum err xattr_name_seal(struct volkeys *vk, const char *name, char text[static NAME_ENC_MAX])
{
	uint8_t raw[IV_BYTES + PADDED_MAX];
	size_t raw_len = 0, len = strnlen(name, NAME_MAX_PLAIN + 1);
	enum err e;

	if (len == 0 || len > NAME_MAX_PLAIN)
		return ERR_RANGE;
	e = padded_seal(vk, PURPOSE_XATTR_NAME, NULL, name, len, raw, &raw_len);
	if (e != ERR_OK)
		return e;
	if (b64_len(raw_len) > XATTR_TEXT_MAX)
		return hash_text(vk, 'L', raw, raw_len, text);
	b64_encode(raw, raw_len, text);
	return ERR_OK;
}

enum err xattr_name_open(struct volkeys *vk, const char *text, size_t len, char *out)
{
	size_t out_len = 0;
	enum err e = padded_open(vk, PURPOSE_XATTR_NAME, NULL, text, len, out, &out_len);

	if (e != ERR_OK)
		out[0] = '\0';
	return e;
}
