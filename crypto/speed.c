/* SPDX-License-Identifier: Apache-2.0 */
/* speed - a small benchmark of what the filesystem does most. */
#include "crypto/speed.h"

#include <string.h>
#include <time.h>

#include "crypto/volkeys.h"

#define RUN_SECONDS 0.3
#define RAW_BYTES   65536
#define SECTOR	    1u /* not sector 0: no header */

struct bed {
	const struct fips *f;
	struct volkeys *vk;
	EVP_CIPHER_CTX *raw;
	uint8_t *in, *out, *back; /* RAW_BYTES each, locked */
	uint8_t file_id[ID_BYTES];
	struct enc_name name;
	void (*emit)(void *arg, const char *what, double value, const char *unit);
	void *arg;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static enum err run_seal(struct bed *b)
{
	struct sealer *s = NULL;
	enum err e = sealer_get(b->vk, b->file_id, SECTOR, &s);

	if (e != ERR_OK)
		return e;
	e = sector_seal(s, SECTOR, META(0, false, PAYLOAD), NULL, b->in, b->out);
	sealer_put(s);
	return e;
}

static enum err run_open(struct bed *b)
{
	struct sealer *s = NULL;
	uint32_t meta = 0;
	enum err e = sealer_get(b->vk, b->file_id, SECTOR, &s);

	if (e != ERR_OK)
		return e;
	e = sector_open(s, SECTOR, b->out, b->back, &meta);
	sealer_put(s);
	return e;
}

/* The cipher alone; what it makes is thrown away, so the IV may be the same. */
static enum err run_raw(struct bed *b)
{
	static const uint8_t iv[12];
	int n = 0;

	if (EVP_EncryptInit_ex2(b->raw, NULL, NULL, iv, NULL) != 1 ||
		EVP_EncryptUpdate(b->raw, b->out, &n, b->in, RAW_BYTES) != 1 ||
		EVP_EncryptFinal_ex(b->raw, b->out, &n) != 1)
		return ERR_BUG;
	return ERR_OK;
}

static enum err run_rekey(struct bed *b)
{
	struct sealer *s = NULL;
	enum err e;

	b->file_id[0]++; /* 256 files, more than there are sealers */
	e = sealer_get(b->vk, b->file_id, 0, &s);
	if (e == ERR_OK)
		sealer_put(s);
	return e;
}

static enum err run_name_seal(struct bed *b)
{
	return name_seal(b->vk, b->file_id, "a file name.text", 16, &b->name);
}

static enum err run_name_open(struct bed *b)
{
	size_t len = 0;

	return name_open(b->vk, b->file_id, b->name.text, strlen(b->name.text), (char *)b->back, &len);
}

static enum err run_kbkdf(struct bed *b)
{
	return fips_kbkdf(b->f, b->in, 32, "speed", b->file_id, ID_BYTES, b->back, 32);
}

static enum err run_random_id(struct bed *b)
{
	return volkeys_random_id(b->vk, b->back);
}

/* bytes: of one call, for MB/s; 0: report ns. */
static enum err measure(struct bed *b, const char *what, enum err (*fn)(struct bed *), size_t bytes)
{
	double start = now(), took = 0;
	unsigned long calls = 0;

	while (took < RUN_SECONDS) {
		for (unsigned i = 0; i < 64; i++) {
			enum err e = fn(b);

			if (e != ERR_OK)
				return e;
		}
		calls += 64;
		took = now() - start;
	}
	if (bytes > 0)
		b->emit(b->arg, what, (double)calls * (double)bytes / took / 1e6, "MB/s");
	else
		b->emit(b->arg, what, took / (double)calls * 1e9, "ns");
	return ERR_OK;
}

static enum err open_volume(struct bed *b, enum suite suite)
{
	static const uint8_t id[ID_BYTES];
	struct secret *key = NULL, *inner = NULL;
	enum err e = secret_new(VOLUME_KEY_BYTES, &key);

	if (e == ERR_OK)
		e = fips_random(b->f, secret_bytes(key), VOLUME_KEY_BYTES);
	if (e == ERR_OK && suite == SUITE_XTS_GCM)
		e = secret_new(VOLUME_KEY_BYTES, &inner);
	if (e == ERR_OK && inner)
		e = fips_random(b->f, secret_bytes(inner), VOLUME_KEY_BYTES);
	if (e == ERR_OK)
		e = volkeys_new(b->f, suite, id, key, inner, &b->vk);
	secret_free(key);
	secret_free(inner);
	return e;
}

static enum err measure_suite_1(struct bed *b)
{
	enum err e = open_volume(b, SUITE_GCM);

	if (e == ERR_OK)
		e = measure(b, "seal a sector, AES-256-GCM", run_seal, PAYLOAD);
	if (e == ERR_OK)
		e = measure(b, "open a sector, AES-256-GCM", run_open, PAYLOAD);
	if (e == ERR_OK)
		e = measure(b, "encrypt a name", run_name_seal, 0);
	if (e == ERR_OK)
		e = measure(b, "decrypt a name", run_name_open, 0);
	if (e == ERR_OK)
		e = measure(b, "key for another file", run_rekey, 0);
	if (e == ERR_OK)
		e = measure(b, "random id", run_random_id, 0);
	if (e == ERR_OK)
		e = measure(b, "KBKDF", run_kbkdf, 0);
	volkeys_free(b->vk);
	b->vk = NULL;
	return e;
}

static enum err measure_suite_2(struct bed *b)
{
	enum err e = open_volume(b, SUITE_XTS_GCM);

	if (e == ERR_OK)
		e = measure(b, "seal a sector, XTS and GCM", run_seal, PAYLOAD);
	if (e == ERR_OK)
		e = measure(b, "open a sector, XTS and GCM", run_open, PAYLOAD);
	volkeys_free(b->vk);
	b->vk = NULL;
	return e;
}

static enum err measure_raw(struct bed *b)
{
	enum err e = ERR_NOMEM;

	b->raw = EVP_CIPHER_CTX_new();
	if (b->raw)
		e = EVP_EncryptInit_ex2(b->raw, b->f->gcm, b->in, NULL, NULL) == 1 ? ERR_OK : ERR_BUG;
	if (e == ERR_OK)
		e = measure(b, "AES-256-GCM alone, 64 KiB at a time", run_raw, RAW_BYTES);
	EVP_CIPHER_CTX_free(b->raw);
	return e;
}

enum err speed_run(
	const struct fips *f, void (*emit)(void *arg, const char *what, double value, const char *unit), void *arg)
{
	struct bed b = {.f = f, .emit = emit, .arg = arg};
	enum err e = ERR_NOMEM;

	b.in = locked_alloc(RAW_BYTES);
	b.out = locked_alloc(RAW_BYTES);
	b.back = locked_alloc(RAW_BYTES);
	if (b.in && b.out && b.back) {
		e = fips_random(f, b.in, RAW_BYTES);
		if (e == ERR_OK)
			e = measure_suite_1(&b);
		if (e == ERR_OK)
			e = measure_suite_2(&b);
		if (e == ERR_OK)
			e = measure_raw(&b);
	}
	locked_free(b.in);
	locked_free(b.out);
	locked_free(b.back);
	return e;
}
