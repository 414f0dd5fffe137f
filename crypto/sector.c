/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sector - headers, sealers and sectors.
 *
 * GCM nonces (SP 800-38D section 8.2.2): the module's DRBG gives the 96-bit start, 64 bits of it inside the cipher
 * context (the "fixed IV" call), and the context counts the low 64 bits up by one for each further sector.  Before they
 * wrap a new start is drawn.  Contexts that seal never open: opening would set the IV from which sealing goes on.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <string.h>

#include "crypto/fips_internal.h"
#include "crypto/volkeys_internal.h"

#define NONCE_BYTES	  12u
#define NONCE_FIXED_BYTES 4u
#define TAG_BYTES	  16u
#define META_OFFSET	  (NONCE_BYTES + TAG_BYTES)
#define META_RESERVED	  0xe000u
#define AAD_BYTES	  (2u + 2u + ID_BYTES + 8u + 4u)
#define HEADER_MAGIC	  "BCF1"
#define HEADER_KNOWN	  (HEADER_HOLES | HEADER_TRUNC)

static void put16(uint8_t *out, uint16_t v)
{
	out[0] = (uint8_t)(v >> 8);
	out[1] = (uint8_t)v;
}

static void put32(uint8_t *out, uint32_t v)
{
	put16(out, (uint16_t)(v >> 16));
	put16(out + 2, (uint16_t)v);
}

static void put64(uint8_t *out, uint64_t v)
{
	put32(out, (uint32_t)(v >> 32));
	put32(out + 4, (uint32_t)v);
}

static uint16_t get16(const uint8_t *in)
{
	return (uint16_t)(in[0] << 8 | in[1]);
}

static uint32_t get32(const uint8_t *in)
{
	return (uint32_t)get16(in) << 16 | get16(in + 2);
}

static uint64_t get64(const uint8_t *in)
{
	return (uint64_t)get32(in) << 32 | get32(in + 4);
}

void header_encode(const struct file_header *h, uint8_t out[static HEADER_BYTES])
{
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): four bytes of a binary header */
	memcpy(out, HEADER_MAGIC, 4);
	put16(out + 4, h->version);
	put16(out + 6, h->suite);
	put16(out + 8, h->incompat);
	out[10] = h->ro_compat;
	out[11] = h->compat;
	put32(out + 12, 0);
	memcpy(out + 16, h->file_id, ID_BYTES);
	put64(out + 32, h->trunc_length);
	memcpy(out + 40, h->kept, sizeof(h->kept));
}

enum err header_decode(const uint8_t in[static HEADER_BYTES], struct file_header *out)
{
	struct file_header h = {
		.version = get16(in + 4),
		.suite = get16(in + 6),
		.incompat = get16(in + 8),
		.ro_compat = in[10],
		.compat = in[11],
		.trunc_length = get64(in + 32),
	};

	if (memcmp(in, HEADER_MAGIC, 4) != 0)
		return ERR_CORRUPT;
	if (h.version != FORMAT_VERSION || (h.suite != SUITE_GCM && h.suite != SUITE_XTS_GCM) ||
		(h.incompat & ~HEADER_KNOWN) != 0)
		return ERR_UNSUPPORTED;
	if (get32(in + 12) != 0 || h.trunc_length > INT64_MAX ||
		(h.trunc_length != 0 && (h.incompat & HEADER_TRUNC) == 0))
		return ERR_CORRUPT;
	memcpy(h.file_id, in + 16, ID_BYTES);
	memcpy(h.kept, in + 40, sizeof(h.kept));
	*out = h;
	return ERR_OK;
}

/* File ids are random: folding is all the hashing they need.  Never 0. */
static uint64_t sealer_hash(const uint8_t *file_id, uint64_t segment)
{
	uint64_t a, b;

	memcpy(&a, file_id, 8);
	memcpy(&b, file_id + 8, 8);
	return (a ^ b ^ segment * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

static bool sealer_is_for(const struct sealer *s, const uint8_t *file_id, uint64_t segment)
{
	return s->segment == segment && memcmp(s->file_id, file_id, ID_BYTES) == 0;
}

/* The slot is ours.  Forgets whom it was for; contexts stay allocated. */
static void sealer_disown(struct sealer *s)
{
	atomic_store_explicit(&s->tag, 0, memory_order_relaxed);
	s->seal_ready = false;
	s->open_ready = false;
	s->enc_ready = false;
	s->dec_ready = false;
}

static enum err sealer_rekey(struct sealer *s, const uint8_t *file_id, uint64_t segment, uint64_t tag)
{
	enum err e;

	sealer_disown(s);
	e = volkeys_content(s->vk, file_id, segment, s->keys);
	if (e != ERR_OK)
		return e;
	memcpy(s->file_id, file_id, ID_BYTES);
	s->segment = segment;
	atomic_store_explicit(&s->tag, tag, memory_order_relaxed);
	return ERR_OK;
}

/* The idle sealer of the set that was used longest ago, taken; NULL if all are busy. */
static struct sealer *set_oldest(struct sealer *set)
{
	for (;;) {
		struct sealer *best = NULL;
		uint64_t best_used = UINT64_MAX;

		for (size_t i = 0; i < SEALER_WAYS; i++) {
			uint64_t used = atomic_load_explicit(&set[i].used, memory_order_relaxed);

			if (used < best_used && !atomic_load_explicit(&set[i].slot.busy, memory_order_relaxed)) {
				best = &set[i];
				best_used = used;
			}
		}
		if (!best || slot_try(&best->slot))
			return best;
	}
}

/* A taken sealer: one keyed for the tag if there is one idle, else the best victim; NULL if all are busy. */
static struct sealer *sealer_try(struct volkeys *vk, uint64_t tag, const uint8_t *file_id, uint64_t segment)
{
	size_t home = (size_t)(tag >> 32) % SEALER_SETS;
	struct sealer *set = &vk->sealer[home * SEALER_WAYS];

	for (size_t i = 0; i < SEALER_WAYS; i++) {
		struct sealer *s = &set[i];

		if (atomic_load_explicit(&s->tag, memory_order_relaxed) != tag || !slot_try(&s->slot))
			continue;
		if (atomic_load_explicit(&s->tag, memory_order_relaxed) == tag && sealer_is_for(s, file_id, segment))
			return s;
		slot_release(&s->slot, &vk->sealer_wait);
	}
	for (size_t k = 0; k < SEALER_SETS; k++) {
		struct sealer *s = set_oldest(&vk->sealer[(home + k) % SEALER_SETS * SEALER_WAYS]);

		if (s)
			return s;
	}
	return NULL;
}

/* Returns with a taken sealer, or NULL if the volume was closed. */
static struct sealer *sealer_take(struct volkeys *vk, uint64_t tag, const uint8_t *file_id, uint64_t segment)
{
	struct sealer *s = sealer_try(vk, tag, file_id, segment);

	if (!s) {
		struct waitq *q = &vk->sealer_wait;

		pthread_mutex_lock(&q->mutex);
		atomic_fetch_add(&q->waiters, 1);
		while (atomic_load(&vk->open) && !(s = sealer_try(vk, tag, file_id, segment)))
			pthread_cond_wait(&q->cond, &q->mutex);
		atomic_fetch_sub(&q->waiters, 1);
		pthread_mutex_unlock(&q->mutex);
	}
	if (s && !atomic_load(&vk->open)) {
		sealer_put(s);
		s = NULL;
	}
	return s;
}

enum err sealer_get(struct volkeys *vk, const uint8_t file_id[static ID_BYTES], uint64_t sector, struct sealer **out)
{
	uint64_t segment = sector >> SEGMENT_SHIFT;
	uint64_t tag = sealer_hash(file_id, segment);
	struct sealer *s;
	enum err e;

	if (segment > UINT32_MAX)
		return ERR_RANGE;
	s = sealer_take(vk, tag, file_id, segment);
	if (!s)
		return ERR_KEY_UNAVAILABLE;
	if (atomic_load_explicit(&s->tag, memory_order_relaxed) != tag || !sealer_is_for(s, file_id, segment)) {
		e = sealer_rekey(s, file_id, segment, tag);
		if (e != ERR_OK) {
			sealer_put(s);
			return e;
		}
	}
	*out = s;
	return ERR_OK;
}

void sealer_put(struct sealer *s)
{
	struct volkeys *vk;
	atomic_uint_least64_t *clock;

	if (!s)
		return;
	vk = s->vk;
	clock = &vk->clock[(size_t)(s - vk->sealer) / SEALER_WAYS];

	atomic_store_explicit(
		&s->used, atomic_fetch_add_explicit(clock, 1, memory_order_relaxed) + 1, memory_order_relaxed);
	slot_release(&s->slot, &vk->sealer_wait);
}

void sealer_wipe(struct sealer *s)
{
	slot_wait(&s->slot, &s->vk->sealer_wait);
	sealer_disown(s);
	EVP_CIPHER_CTX_free(s->seal);
	EVP_CIPHER_CTX_free(s->open);
	EVP_CIPHER_CTX_free(s->xts_enc);
	EVP_CIPHER_CTX_free(s->xts_dec);
	s->seal = NULL;
	s->open = NULL;
	s->xts_enc = NULL;
	s->xts_dec = NULL;
	secret_wipe(s->file_id, sizeof(s->file_id));
	if (s->keys)
		secret_wipe(s->keys, sizeof(*s->keys));
	if (s->scratch)
		secret_wipe(s->scratch, SECTOR_BYTES);
	slot_release(&s->slot, &s->vk->sealer_wait);
}

/* Keys a context on first need.  Naming the cipher again would throw the allocated context away, hence the NULL. */
static enum err context_ready(EVP_CIPHER_CTX **c, const EVP_CIPHER *cipher, const uint8_t *key, bool enc, bool *ready)
{
	if (*ready)
		return ERR_OK;
	if (*c) {
		cipher = NULL;
	} else {
		*c = EVP_CIPHER_CTX_new();
		if (!*c)
			return ERR_NOMEM;
	}
	if (EVP_CipherInit_ex2(*c, cipher, key, NULL, enc, NULL) != 1) {
		EVP_CIPHER_CTX_free(*c);
		*c = NULL;
		return ERR_NOMEM; /* a valid key and cipher: only memory can be lacking */
	}
	*ready = true;
	return ERR_OK;
}

/* A new 96-bit start for the nonces of this context. */
static enum err nonce_start(struct sealer *s)
{
	uint8_t fixed[ID_BYTES];
	enum err e = volkeys_draw(s->vk, fixed);
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED, fixed, NONCE_FIXED_BYTES),
		OSSL_PARAM_construct_end(),
	};

	if (e == ERR_OK && EVP_CIPHER_CTX_set_params(s->seal, params) != 1)
		e = ERR_FIPS; /* the DRBG */
	return e;
}

static enum err seal_ready(struct sealer *s)
{
	const struct fips *f = s->vk->fips;
	enum err e = ERR_OK;

	if (s->vk->suite == SUITE_XTS_GCM)
		e = context_ready(&s->xts_enc, f->xts, s->keys->xts, true, &s->enc_ready);
	if (e != ERR_OK || s->seal_ready)
		return e;
	e = context_ready(&s->seal, f->gcm, s->keys->gcm, true, &s->seal_ready);
	if (e == ERR_OK)
		e = nonce_start(s);
	s->seal_ready = e == ERR_OK;
	return e;
}

static enum err open_ready(struct sealer *s)
{
	const struct fips *f = s->vk->fips;
	enum err e = ERR_OK;

	if (s->vk->suite == SUITE_XTS_GCM)
		e = context_ready(&s->xts_dec, f->xts, s->keys->xts, false, &s->dec_ready);
	if (e == ERR_OK)
		e = context_ready(&s->open, f->gcm, s->keys->gcm, false, &s->open_ready);
	return e;
}

/* Gives the next nonce and arms the context with it. */
static enum err nonce_next(struct sealer *s, uint8_t out[static NONCE_BYTES])
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_GET_IV_GEN, out, NONCE_BYTES),
		OSSL_PARAM_construct_end(),
	};

	if (EVP_CIPHER_CTX_get_params(s->seal, params) != 1)
		return ERR_BUG;
	/* The context would go on at 0 without a carry into the other 32 bits; start afresh instead. */
	if (get64(out + NONCE_FIXED_BYTES) == UINT64_MAX)
		s->seal_ready = false;
	return ERR_OK;
}

static size_t aad_build(const struct sealer *s, uint64_t sector, uint32_t meta, const uint8_t *header,
	uint8_t out[static AAD_BYTES + HEADER_BYTES])
{
	put16(out, (uint16_t)s->vk->suite);
	put16(out + 2, FORMAT_VERSION);
	memcpy(out + 4, s->file_id, ID_BYTES);
	put64(out + 20, sector);
	put32(out + 28, meta);
	if (!header)
		return AAD_BYTES;
	memcpy(out + AAD_BYTES, header, HEADER_BYTES);
	return AAD_BYTES + HEADER_BYTES;
}

/* One XTS data unit; the tweak is the sector number, little-endian (SP 800-38E, IEEE 1619). */
static enum err xts_run(EVP_CIPHER_CTX *c, uint64_t sector, const uint8_t *in, uint8_t *out, uint32_t len)
{
	uint8_t tweak[16] = {0};
	int n = 0;

	for (unsigned i = 0; i < 8; i++)
		tweak[i] = (uint8_t)(sector >> (8 * i));
	if (EVP_CipherInit_ex2(c, NULL, NULL, tweak, -1, NULL) != 1 ||
		EVP_CipherUpdate(c, out, &n, in, (int)len) != 1 || n != (int)len)
		return ERR_BUG;
	return ERR_OK;
}

static bool meta_is_possible(uint64_t sector, uint32_t meta)
{
	uint32_t capacity = sector_capacity(sector), len = META_LENGTH(meta);

	if ((meta & META_RESERVED) || len > capacity)
		return false;
	if (len == 0 && sector != 0)
		return false;
	return (meta & META_FINAL) || len == capacity;
}

/* GCM over the payload, zero-padded to its capacity. */
static enum err gcm_seal(EVP_CIPHER_CTX *c, const uint8_t *payload, uint32_t len, uint32_t capacity, uint8_t *out)
{
	static const uint8_t zeros[PAYLOAD];
	int n = 0;

	if (len > 0 && (EVP_EncryptUpdate(c, out, &n, payload, (int)len) != 1 || n != (int)len))
		return ERR_BUG;
	if (len < capacity && EVP_EncryptUpdate(c, out + len, &n, zeros, (int)(capacity - len)) != 1)
		return ERR_BUG;
	return ERR_OK;
}

static enum err gcm_finish(EVP_CIPHER_CTX *c, uint8_t *end, uint8_t tag[static TAG_BYTES])
{
	int n = 0;

	if (EVP_EncryptFinal_ex(c, end, &n) != 1 || n != 0 ||
		EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, (int)TAG_BYTES, tag) != 1)
		return ERR_BUG;
	return ERR_OK;
}

static enum err seal_run(
	struct sealer *s, uint64_t sector, uint32_t meta, const uint8_t *header, const uint8_t *payload, uint8_t *out)
{
	uint32_t capacity = sector_capacity(sector), len = META_LENGTH(meta);
	uint8_t *body = out + (SECTOR_BYTES - capacity);
	uint8_t aad[AAD_BYTES + HEADER_BYTES];
	size_t aad_len = aad_build(s, sector, meta, header, aad);
	enum err e = seal_ready(s);
	int n = 0;

	if (e == ERR_OK && s->vk->suite == SUITE_XTS_GCM) {
		if (len < capacity) {
			if (len > 0)
				memcpy(s->scratch, payload, len);
			memset(s->scratch + len, 0, capacity - len);
			payload = s->scratch;
			len = capacity;
		}
		e = xts_run(s->xts_enc, sector, payload, s->scratch, capacity);
		payload = s->scratch;
	}
	if (e == ERR_OK)
		e = nonce_next(s, out);
	if (e == ERR_OK && EVP_EncryptUpdate(s->seal, NULL, &n, aad, (int)aad_len) != 1)
		e = ERR_BUG;
	if (e == ERR_OK)
		e = gcm_seal(s->seal, payload, len, capacity, body);
	if (e == ERR_OK)
		e = gcm_finish(s->seal, body + capacity, out + NONCE_BYTES);
	return e;
}

enum err sector_seal(struct sealer *s, uint64_t sector, uint32_t meta, const uint8_t *header, const uint8_t *payload,
	uint8_t out[static SECTOR_BYTES])
{
	enum err e;

	/* Each of these would make a sector that can't be opened. */
	if (sector >> SEGMENT_SHIFT != s->segment || !meta_is_possible(sector, meta) || !header != (sector != 0) ||
		(header && memcmp(header + 16, s->file_id, ID_BYTES) != 0))
		return ERR_BUG;
	e = seal_run(s, sector, meta, header, payload, out);
	if (e != ERR_OK) {
		if (s->scratch)
			secret_wipe(s->scratch, SECTOR_BYTES);
		secret_wipe(out, SECTOR_BYTES);
		s->seal_ready = false;
		ERR_clear_error();
		return e;
	}
	put32(out + META_OFFSET, meta);
	if (header)
		memcpy(out + SECTOR_META_BYTES, header, HEADER_BYTES);
	return ERR_OK;
}

static enum err open_run(struct sealer *s, uint64_t sector, uint32_t meta, const uint8_t *in, uint8_t *payload)
{
	const uint8_t *header = sector == 0 ? in + SECTOR_META_BYTES : NULL;
	uint32_t capacity = sector_capacity(sector);
	uint8_t aad[AAD_BYTES + HEADER_BYTES];
	size_t aad_len = aad_build(s, sector, meta, header, aad);
	uint8_t *gcm_out = s->vk->suite == SUITE_XTS_GCM ? s->scratch : payload;
	uint8_t tag[TAG_BYTES];
	enum err e = open_ready(s);
	int n = 0;

	if (e != ERR_OK)
		return e;
	memcpy(tag, in + NONCE_BYTES, TAG_BYTES);
	if (EVP_DecryptInit_ex2(s->open, NULL, NULL, in, NULL) != 1 ||
		EVP_CIPHER_CTX_ctrl(s->open, EVP_CTRL_AEAD_SET_TAG, (int)TAG_BYTES, tag) != 1 ||
		EVP_DecryptUpdate(s->open, NULL, &n, aad, (int)aad_len) != 1 ||
		EVP_DecryptUpdate(s->open, gcm_out, &n, in + SECTOR_BYTES - capacity, (int)capacity) != 1 ||
		n != (int)capacity)
		return ERR_BUG;
	if (EVP_DecryptFinal_ex(s->open, gcm_out + capacity, &n) != 1) {
		secret_wipe(gcm_out, capacity);
		return ERR_CORRUPT;
	}
	if (s->vk->suite == SUITE_XTS_GCM)
		return xts_run(s->xts_dec, sector, s->scratch, payload, capacity);
	return ERR_OK;
}

enum err sector_open(
	struct sealer *s, uint64_t sector, const uint8_t in[static SECTOR_BYTES], uint8_t *payload, uint32_t *meta)
{
	uint32_t m = get32(in + META_OFFSET);
	enum err e = ERR_OK;

	if (sector >> SEGMENT_SHIFT != s->segment)
		e = ERR_BUG;
	else if (!meta_is_possible(sector, m) ||
		 (sector == 0 && memcmp(in + SECTOR_META_BYTES + 16, s->file_id, ID_BYTES) != 0))
		e = ERR_CORRUPT;
	else
		e = open_run(s, sector, m, in, payload);
	if (e != ERR_OK) {
		secret_wipe(payload, sector_capacity(sector));
		ERR_clear_error();
		return e;
	}
	*meta = m;
	return ERR_OK;
}
