/* SPDX-License-Identifier: Apache-2.0 */
/* volkeys - derivation, life and death of a volume's keys; MACs and random ids. */
#include "crypto/volkeys.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/fips_internal.h"
#include "crypto/volkeys_internal.h"

#define IDS_BYTES 2048u

void waitq_init(struct waitq *q)
{
	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->cond, NULL);
	atomic_init(&q->waiters, 0);
}

void waitq_clear(struct waitq *q)
{
	pthread_cond_destroy(&q->cond);
	pthread_mutex_destroy(&q->mutex);
}

void waitq_wake(struct waitq *q)
{
	pthread_mutex_lock(&q->mutex);
	pthread_cond_broadcast(&q->cond);
	pthread_mutex_unlock(&q->mutex);
}

/*
 * The waiter counts itself, then looks at busy; we clear busy, then look at the count.  Both sequentially consistent,
 * so one of us sees the other and no wake-up is lost.
 */
void slot_release(struct slot *s, struct waitq *q)
{
	atomic_store(&s->busy, false);
	if (atomic_load(&q->waiters) > 0)
		waitq_wake(q);
}

void slot_wait(struct slot *s, struct waitq *q)
{
	if (slot_try(s))
		return;
	pthread_mutex_lock(&q->mutex);
	atomic_fetch_add(&q->waiters, 1);
	while (atomic_exchange(&s->busy, true))
		pthread_cond_wait(&q->cond, &q->mutex);
	atomic_fetch_sub(&q->waiters, 1);
	pthread_mutex_unlock(&q->mutex);
}

static struct bench *bench_try(struct volkeys *vk, size_t start)
{
	for (size_t i = 0; i < BENCHES; i++) {
		struct bench *b = &vk->bench[(start + i) % BENCHES];

		if (slot_try(&b->slot))
			return b;
	}
	return NULL;
}

enum err bench_get(struct volkeys *vk, struct bench **out)
{
	/* Threads start at different benches, so that they seldom meet; any spread will do. */
	size_t start = (size_t)(((uintptr_t)pthread_self() >> 12) * 0x9e3779b1u >> 8);
	struct bench *b = bench_try(vk, start);

	if (!b) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): no bench is free; vk is never NULL */
		pthread_mutex_lock(&vk->bench_wait.mutex);
		atomic_fetch_add(&vk->bench_wait.waiters, 1);
		while (!(b = bench_try(vk, start)))
			pthread_cond_wait(&vk->bench_wait.cond, &vk->bench_wait.mutex);
		atomic_fetch_sub(&vk->bench_wait.waiters, 1);
		pthread_mutex_unlock(&vk->bench_wait.mutex);
	}
	if (!atomic_load(&vk->open)) {
		bench_put(b);
		return ERR_KEY_UNAVAILABLE;
	}
	*out = b;
	return ERR_OK;
}

void bench_put(struct bench *b)
{
	slot_release(&b->slot, &b->vk->bench_wait);
}

static void siv_clear(struct siv *s)
{
	EVP_MAC_CTX_free(s->mac);
	EVP_CIPHER_CTX_free(s->enc);
	EVP_CIPHER_CTX_free(s->inner);
	*s = (struct siv){0};
}

/* The slot is ours. */
static void bench_clear(struct bench *b)
{
	siv_clear(&b->name);
	siv_clear(&b->blob);
	EVP_KDF_CTX_free(b->content);
	EVP_KDF_CTX_free(b->inner_content);
	b->content = NULL;
	b->inner_content = NULL;
}

static enum err derive(const struct volkeys *vk, const struct secret *key, const char *label, uint8_t out[KEY_BYTES])
{
	return fips_kbkdf(vk->fips, secret_view(key), secret_len(key), label, vk->volume_id, ID_BYTES, out, KEY_BYTES);
}

static enum err ctr_new(const struct fips *f, const uint8_t key[static KEY_BYTES], EVP_CIPHER_CTX **out)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

	if (!c)
		return ERR_NOMEM;
	if (EVP_EncryptInit_ex2(c, f->ctr, key, NULL, NULL) != 1) {
		EVP_CIPHER_CTX_free(c);
		return ERR_BUG;
	}
	*out = c;
	return ERR_OK;
}

struct siv_labels {
	const char *mac, *enc, *inner;
};

static const struct siv_labels name_labels = {"bcfs1 name mac", "bcfs1 name enc", "bcfs1 inner name"};
static const struct siv_labels blob_labels = {"bcfs1 blob mac", "bcfs1 blob enc", "bcfs1 inner blob"};

static enum err siv_load(const struct volkeys *vk, const struct secret *key, const struct secret *inner,
	const struct siv_labels *l, struct siv *s)
{
	uint8_t *k = locked_alloc(KEY_BYTES);
	enum err e;

	if (!k)
		return ERR_NOMEM;
	e = derive(vk, key, l->mac, k);
	if (e == ERR_OK)
		e = fips_hmac_new(vk->fips, k, KEY_BYTES, &s->mac);
	if (e == ERR_OK)
		e = derive(vk, key, l->enc, k);
	if (e == ERR_OK)
		e = ctr_new(vk->fips, k, &s->enc);
	if (e == ERR_OK && inner)
		e = derive(vk, inner, l->inner, k);
	if (e == ERR_OK && inner)
		e = ctr_new(vk->fips, k, &s->inner);
	locked_free(k);
	return e;
}

static enum err bench_load(struct bench *b, const struct secret *key, const struct secret *inner)
{
	const struct volkeys *vk = b->vk;
	enum err e = siv_load(vk, key, inner, &name_labels, &b->name);

	if (e == ERR_OK)
		e = siv_load(vk, key, inner, &blob_labels, &b->blob);
	if (e == ERR_OK)
		e = fips_kbkdf_new(vk->fips, secret_view(key), secret_len(key), "bcfs1 content", &b->content);
	if (e == ERR_OK && inner)
		e = fips_kbkdf_new(
			vk->fips, secret_view(inner), secret_len(inner), "bcfs1 inner content", &b->inner_content);
	return e;
}

static enum err fixed_load(const struct volkeys *vk, const struct secret *key)
{
	enum err e = derive(vk, key, "bcfs1 descriptor", vk->fixed->descriptor);

	if (e == ERR_OK)
		e = derive(vk, key, "bcfs1 state", vk->fixed->state);
	if (e == ERR_OK)
		e = derive(vk, key, "bcfs1 audit", vk->fixed->audit);
	if (e == ERR_OK)
		e = derive(vk, key, "bcfs1 dirid mac", vk->fixed->dirid);
	return e;
}

/* All benches are ours while this runs: it is what keeps a late bench_put() away from the fixed keys. */
static void benches_take(struct volkeys *vk)
{
	for (size_t i = 0; i < BENCHES; i++)
		slot_wait(&vk->bench[i].slot, &vk->bench_wait);
}

static void benches_release(struct volkeys *vk)
{
	for (size_t i = 0; i < BENCHES; i++)
		slot_release(&vk->bench[i].slot, &vk->bench_wait);
}

static void wipe(struct volkeys *vk)
{
	atomic_store(&vk->open, false);
	/* Those who wait for a sealer have to see that they wait in vain. */
	waitq_wake(&vk->sealer_wait);
	for (size_t i = 0; i < SEALERS; i++)
		sealer_wipe(&vk->sealer[i]);
	benches_take(vk);
	for (size_t i = 0; i < BENCHES; i++)
		bench_clear(&vk->bench[i]);
	secret_wipe(vk->fixed, sizeof(*vk->fixed));
	benches_release(vk);
	pthread_mutex_lock(&vk->ids_mutex);
	secret_wipe(vk->ids, IDS_BYTES);
	vk->ids_left = 0;
	pthread_mutex_unlock(&vk->ids_mutex);
}

static bool keys_fit(enum suite suite, const struct secret *volume_key, const struct secret *inner)
{
	if (secret_len(volume_key) != VOLUME_KEY_BYTES)
		return false;
	if (suite == SUITE_XTS_GCM)
		return inner && secret_len(inner) == VOLUME_KEY_BYTES;
	return suite == SUITE_GCM && !inner;
}

enum err volkeys_load(struct volkeys *vk, const struct secret *volume_key, const struct secret *inner)
{
	enum err e;

	if (!keys_fit(vk->suite, volume_key, inner))
		return ERR_RANGE;
	pthread_mutex_lock(&vk->admin);
	wipe(vk);
	benches_take(vk);
	e = fixed_load(vk, volume_key);
	for (size_t i = 0; i < BENCHES && e == ERR_OK; i++)
		e = bench_load(&vk->bench[i], volume_key, inner);
	atomic_store(&vk->open, e == ERR_OK);
	benches_release(vk);
	if (e != ERR_OK)
		wipe(vk);
	pthread_mutex_unlock(&vk->admin);
	return e;
}

void volkeys_wipe(struct volkeys *vk)
{
	pthread_mutex_lock(&vk->admin);
	wipe(vk);
	pthread_mutex_unlock(&vk->admin);
}

static enum err memory_take(struct volkeys *vk)
{
	vk->fixed = locked_alloc(sizeof(*vk->fixed));
	vk->sealer_keys = locked_alloc(SEALERS * sizeof(*vk->sealer_keys));
	vk->ids = locked_alloc(IDS_BYTES);
	if (vk->suite == SUITE_XTS_GCM)
		vk->scratch = locked_alloc((size_t)SEALERS * SECTOR_BYTES);
	if (!vk->fixed || !vk->sealer_keys || !vk->ids || (vk->suite == SUITE_XTS_GCM && !vk->scratch))
		return ERR_NOMEM;
	for (size_t i = 0; i < SEALERS; i++) {
		vk->sealer[i].keys = &vk->sealer_keys[i];
		vk->sealer[i].scratch = vk->scratch ? vk->scratch + i * SECTOR_BYTES : NULL;
	}
	return ERR_OK;
}

enum err volkeys_new_empty(
	const struct fips *f, enum suite suite, const uint8_t volume_id[static ID_BYTES], struct volkeys **out)
{
	struct volkeys *vk = aligned_alloc(_Alignof(struct volkeys), sizeof(*vk));

	if (!vk)
		return ERR_NOMEM;
	memset(vk, 0, sizeof(*vk));
	vk->fips = f;
	vk->suite = suite;
	memcpy(vk->volume_id, volume_id, ID_BYTES);
	pthread_mutex_init(&vk->admin, NULL);
	pthread_mutex_init(&vk->ids_mutex, NULL);
	waitq_init(&vk->bench_wait);
	waitq_init(&vk->sealer_wait);
	for (size_t i = 0; i < BENCHES; i++)
		vk->bench[i].vk = vk;
	for (size_t i = 0; i < SEALERS; i++)
		vk->sealer[i].vk = vk;
	if (memory_take(vk) != ERR_OK) {
		volkeys_free(vk);
		return ERR_NOMEM;
	}
	*out = vk;
	return ERR_OK;
}

enum err volkeys_new(const struct fips *f, enum suite suite, const uint8_t volume_id[static ID_BYTES],
	const struct secret *volume_key, const struct secret *inner, struct volkeys **out)
{
	struct volkeys *vk;
	enum err e;

	if (!keys_fit(suite, volume_key, inner))
		return ERR_RANGE;
	e = volkeys_new_empty(f, suite, volume_id, &vk);
	if (e != ERR_OK)
		return e;
	e = volkeys_load(vk, volume_key, inner);
	if (e != ERR_OK) {
		volkeys_free(vk);
		return e;
	}
	*out = vk;
	return ERR_OK;
}

void volkeys_free(struct volkeys *vk)
{
	if (!vk)
		return;
	if (vk->fixed && vk->ids)
		volkeys_wipe(vk);
	locked_free(vk->fixed);
	locked_free(vk->sealer_keys);
	locked_free(vk->scratch);
	locked_free(vk->ids);
	waitq_clear(&vk->bench_wait);
	waitq_clear(&vk->sealer_wait);
	pthread_mutex_destroy(&vk->ids_mutex);
	pthread_mutex_destroy(&vk->admin);
	free(vk);
}

const struct fips *volkeys_fips(const struct volkeys *vk)
{
	return vk->fips;
}

enum suite volkeys_suite(const struct volkeys *vk)
{
	return vk->suite;
}

const uint8_t *volkeys_volume_id(const struct volkeys *vk)
{
	return vk->volume_id;
}

enum err volkeys_draw(struct volkeys *vk, uint8_t out[static ID_BYTES])
{
	enum err e = ERR_OK;

	pthread_mutex_lock(&vk->ids_mutex);
	if (vk->ids_left == 0) {
		e = fips_random(vk->fips, vk->ids, IDS_BYTES);
		vk->ids_left = e == ERR_OK ? IDS_BYTES : 0;
	}
	if (e == ERR_OK) {
		vk->ids_left -= ID_BYTES;
		memcpy(out, vk->ids + vk->ids_left, ID_BYTES);
		memset(vk->ids + vk->ids_left, 0, ID_BYTES);
	}
	pthread_mutex_unlock(&vk->ids_mutex);
	return e;
}

enum err volkeys_random_id(struct volkeys *vk, uint8_t out[static ID_BYTES])
{
	return atomic_load(&vk->open) ? volkeys_draw(vk, out) : ERR_KEY_UNAVAILABLE;
}

enum err volkeys_mac(struct volkeys *vk, enum mac_use use, const void *in, size_t len, uint8_t out[static 32])
{
	const struct piece piece = {in, len};
	const uint8_t *key = NULL;
	struct bench *b = NULL;
	enum err e = bench_get(vk, &b);

	if (e != ERR_OK) {
		secret_wipe(out, MAC_BYTES);
		return e;
	}
	switch (use) {
	case MAC_DESCRIPTOR:
		key = vk->fixed->descriptor;
		break;
	case MAC_STATE:
		key = vk->fixed->state;
		break;
	case MAC_AUDIT:
		key = vk->fixed->audit;
		break;
	}
	e = key ? fips_hmac(vk->fips, key, KEY_BYTES, &piece, 1, out) : ERR_BUG;
	bench_put(b);
	return e;
}

static void content_context(const struct volkeys *vk, const uint8_t *file_id, uint64_t segment, uint8_t out[36])
{
	memcpy(out, vk->volume_id, ID_BYTES);
	memcpy(out + ID_BYTES, file_id, ID_BYTES);
	for (unsigned i = 0; i < 4; i++)
		out[2 * ID_BYTES + i] = (uint8_t)(segment >> (24 - 8 * i));
}

enum err volkeys_content(
	struct volkeys *vk, const uint8_t file_id[static ID_BYTES], uint64_t segment, struct sealer_keys *out)
{
	uint8_t ctx[2 * ID_BYTES + 4];
	struct bench *b = NULL;
	enum err e = bench_get(vk, &b);

	if (e != ERR_OK)
		return e;
	content_context(vk, file_id, segment, ctx);
	e = fips_kbkdf_derive(b->content, ctx, sizeof(ctx), out->gcm, sizeof(out->gcm));
	if (e == ERR_OK && b->inner_content)
		e = fips_kbkdf_derive(b->inner_content, ctx, sizeof(ctx), out->xts, sizeof(out->xts));
	bench_put(b);
	if (e != ERR_OK)
		secret_wipe(out, sizeof(*out));
	return e;
}
