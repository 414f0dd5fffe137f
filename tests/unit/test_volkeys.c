/* SPDX-License-Identifier: Apache-2.0 */
/* volkeys under load: many threads, many files, wiping and loading in between; and that wiped means gone. */
#include "tests/unit/testlib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define THREADS 8
#define FILES	200
#define MASK	0xa5

static struct fips *fips;

struct load {
	struct volkeys *vk;
	pthread_t thread;
	unsigned number, rounds; /* rounds 0: until told */
	atomic_bool *stop;
	atomic_uint *done;
	unsigned denied, wrong;
};

static void file_id(unsigned n, uint8_t out[ID_BYTES])
{
	memset(out, (int)(n * 7 + 1), ID_BYTES);
	memcpy(out, &n, sizeof(n));
}

/* Seals, opens and names something; ERR_CORRUPT if what comes back is not what went in. */
static enum err one_turn(struct load *l, unsigned i)
{
	uint8_t id[ID_BYTES], in[SECTOR_BYTES], out[SECTOR_BYTES], back[SECTOR_BYTES];
	unsigned file = (l->number * 31 + i * 17) % FILES;
	uint64_t sector = 1 + i % 5;
	char name[32], plain[256];
	struct enc_name enc;
	struct sealer *s = NULL;
	uint32_t meta = 0;
	size_t len = 0;
	enum err e;

	file_id(file, id);
	memset(in, (int)(l->number + i), sizeof(in));
	e = sealer_get(l->vk, id, sector, &s);
	if (e != ERR_OK)
		return e;
	e = sector_seal(s, sector, META(i, i % 2, PAYLOAD), NULL, in, out);
	if (e == ERR_OK)
		e = sector_open(s, sector, out, back, &meta);
	sealer_put(s);
	if (e != ERR_OK)
		return e == ERR_KEY_UNAVAILABLE ? ERR_BUG : e; /* a sealer in hand works to the end */
	if (meta != META(i & 0xffff, i % 2, PAYLOAD) || memcmp(in, back, PAYLOAD) != 0)
		return ERR_CORRUPT;
	snprintf(name, sizeof(name), "file %u %u", file, i);
	e = name_seal(l->vk, id, name, strlen(name), &enc);
	if (e == ERR_OK)
		e = name_open(l->vk, id, enc.text, strlen(enc.text), plain, &len);
	if (e == ERR_OK && strcmp(plain, name) != 0)
		e = ERR_CORRUPT;
	if (e == ERR_OK)
		e = volkeys_random_id(l->vk, id);
	return e;
}

static void *turns(void *arg)
{
	struct load *l = arg;

	for (unsigned i = 0; l->rounds == 0 ? !atomic_load(l->stop) : i < l->rounds; i++) {
		enum err e = one_turn(l, i);

		if (e == ERR_KEY_UNAVAILABLE)
			l->denied++;
		else if (e != ERR_OK)
			l->wrong++;
		atomic_fetch_add(l->done, 1);
	}
	return NULL;
}

static void threads_and_files(void **state)
{
	atomic_bool stop = false;
	atomic_uint done = 0;

	(void)state;
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);
		struct load l[THREADS];

		for (unsigned i = 0; i < THREADS; i++) {
			l[i] = (struct load){.vk = vk, .number = i, .rounds = 2000, .stop = &stop, .done = &done};
			assert_int_equal(pthread_create(&l[i].thread, NULL, turns, &l[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			assert_int_equal(pthread_join(l[i].thread, NULL), 0);
			assert_int_equal(l[i].wrong, 0);
			assert_int_equal(l[i].denied, 0);
		}
		volkeys_free(vk);
	}
}

/* While threads are at work: after volkeys_wipe() nothing succeeds, after volkeys_load() everything does. */
static void wipe_under_load(void **state)
{
	atomic_bool stop = false;
	atomic_uint done = 0;
	struct secret *k = test_secret(1, 32), *inner = test_secret(101, 32);
	struct volkeys *vk = test_volume(fips, SUITE_XTS_GCM);
	struct load l[THREADS], probe = {.vk = vk, .number = 99};
	unsigned denied = 0;

	(void)state;
	for (unsigned i = 0; i < THREADS; i++) {
		l[i] = (struct load){.vk = vk, .number = i, .stop = &stop, .done = &done};
		assert_int_equal(pthread_create(&l[i].thread, NULL, turns, &l[i]), 0);
	}
	for (unsigned round = 0; round < 30; round++) {
		unsigned seen = atomic_load(&done);

		while (atomic_load(&done) < seen + 50)
			usleep(100);
		volkeys_wipe(vk);
		assert_int_equal(one_turn(&probe, round), ERR_KEY_UNAVAILABLE);
		seen = atomic_load(&done);
		while (atomic_load(&done) < seen + 20)
			usleep(100);
		assert_ok(volkeys_load(vk, k, inner));
		assert_ok(one_turn(&probe, round));
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(l[i].thread, NULL), 0);
		assert_int_equal(l[i].wrong, 0);
		denied += l[i].denied;
	}
	assert_true(denied > 0);
	volkeys_free(vk);
	secret_free(k);
	secret_free(inner);
}

struct waiter {
	struct volkeys *vk;
	enum err result;
};

static void *wait_for_sealer(void *arg)
{
	struct waiter *w = arg;
	struct sealer *s = NULL;

	w->result = sealer_get(w->vk, TEST_FILE, 0, &s);
	if (s)
		sealer_put(s);
	return NULL;
}

static void *wipe_it(void *arg)
{
	volkeys_wipe(arg);
	return NULL;
}

/* All sealers out: the next one waits for one to come back, or for the end. */
static void all_sealers_busy(void **state)
{
	enum { SEALERS = 64 };
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	struct sealer *s[SEALERS] = {0};
	struct waiter w[2] = {{vk, ERR_BUG}, {vk, ERR_BUG}};
	uint8_t id[ID_BYTES], out[SECTOR_BYTES], in[SECTOR_BYTES] = {0};
	pthread_t t[3];

	(void)state;
	for (unsigned i = 0; i < SEALERS; i++) {
		file_id(i, id);
		assert_ok(sealer_get(vk, id, 0, &s[i]));
	}
	assert_int_equal(pthread_create(&t[0], NULL, wait_for_sealer, &w[0]), 0);
	usleep(20000);
	sealer_put(s[5]);
	assert_int_equal(pthread_join(t[0], NULL), 0);
	assert_int_equal(w[0].result, ERR_OK);

	file_id(5, id);
	assert_ok(sealer_get(vk, id, 0, &s[5]));
	assert_int_equal(pthread_create(&t[1], NULL, wait_for_sealer, &w[1]), 0);
	usleep(20000);
	assert_int_equal(pthread_create(&t[2], NULL, wipe_it, vk), 0);
	assert_int_equal(pthread_join(t[1], NULL), 0);
	assert_int_equal(w[1].result, ERR_KEY_UNAVAILABLE);
	/* The wipe waits for those that are out, and they still work. */
	assert_ok(sector_seal(s[5], 1, META(0, false, PAYLOAD), NULL, in, out));
	for (unsigned i = 0; i < SEALERS; i++)
		sealer_put(s[i]);
	assert_int_equal(pthread_join(t[2], NULL), 0);
	volkeys_free(vk);
}

struct planted {
	const char *what;
	uint8_t bytes[32]; /* XORed with MASK */
};

static void plant(struct planted *p, const char *what, const uint8_t *bytes)
{
	p->what = what;
	for (size_t i = 0; i < 32; i++)
		p->bytes[i] = bytes[i] ^ MASK;
}

static void key_context(const uint8_t *id, uint8_t ctx[36])
{
	memcpy(ctx, TEST_VOLUME, 16);
	memcpy(ctx + 16, id, 16);
	memset(ctx + 32, 0, 4);
}

/* Every key that the volume derives, found before (where it must be somewhere), gone after the wipe. */
static void wiped_is_gone(void **state)
{
	static const char *const outer_labels[] = {"bcfs1 name enc", "bcfs1 blob enc", "bcfs1 dirid mac",
		"bcfs1 descriptor", "bcfs1 state", "bcfs1 audit"};
	struct planted p[12];
	struct secret *k = NULL, *inner = NULL;
	uint8_t ctx[36], key[64], in[SECTOR_BYTES], out[SECTOR_BYTES], id[ID_BYTES];
	struct volkeys *vk = NULL;
	atomic_uint done = 0;
	struct load l = {.number = 0, .done = &done};
	size_t n = 0;

	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("skipped: ThreadSanitizer's shadow memory takes minutes to scan; the other builds do\n");
	skip();
#endif
	assert_ok(secret_new(32, &k));
	assert_ok(secret_new(32, &inner));
	assert_ok(fips_random(fips, secret_bytes(k), 32));
	assert_ok(fips_random(fips, secret_bytes(inner), 32));
	plant(&p[n++], "volume key", secret_view(k));
	plant(&p[n++], "inner key", secret_view(inner));
	for (size_t i = 0; i < COUNT(outer_labels); i++) {
		test_kbkdf(fips, secret_view(k), outer_labels[i], TEST_VOLUME, 16, key, 32);
		plant(&p[n++], outer_labels[i], key);
	}
	test_kbkdf(fips, secret_view(inner), "bcfs1 inner name", TEST_VOLUME, 16, key, 32);
	plant(&p[n++], "bcfs1 inner name", key);
	file_id(0, id);
	key_context(id, ctx);
	test_kbkdf(fips, secret_view(k), "bcfs1 content", ctx, 36, key, 32);
	plant(&p[n++], "content key", key);
	test_kbkdf(fips, secret_view(inner), "bcfs1 inner content", ctx, 36, key, 64);
	plant(&p[n++], "first XTS key", key);
	plant(&p[n++], "second XTS key", key + 32);
	secret_wipe(key, sizeof(key));

	assert_ok(volkeys_new(fips, SUITE_XTS_GCM, TEST_VOLUME, k, inner, &vk));
	secret_free(k);
	secret_free(inner);
	l.vk = vk;
	memset(in, 0, sizeof(in));
	for (unsigned i = 0; i < 200; i++)
		assert_ok(one_turn(&l, i));
	/* Last, so that it is in a context now. */
	{
		struct sealer *s = NULL;

		assert_ok(sealer_get(vk, id, 1, &s));
		assert_ok(sector_seal(s, 1, META(0, false, PAYLOAD), NULL, in, out));
		sealer_put(s);
	}
	for (size_t i = 0; i < n; i++) {
		if (test_scan(p[i].bytes, MASK, 32) == 0)
			fail_msg("the scan does not find the %s", p[i].what);
	}
	volkeys_wipe(vk);
	for (size_t i = 0; i < n; i++) {
		/* Half a key would be too much as well. */
		size_t found = test_scan(p[i].bytes, MASK, 16) + test_scan(p[i].bytes + 16, MASK, 16);

		if (found > 0)
			fail_msg("%s: found %zu times after the wipe", p[i].what, found);
	}
	volkeys_free(vk);
}

/* A mount that waits for its keeper: nothing works, and after volkeys_load() it is a volume like others. */
static void empty_at_first(void **state)
{
	struct volkeys *vk = NULL, *other = test_volume(fips, SUITE_XTS_GCM);
	struct secret *k = test_secret(1, VOLUME_KEY_BYTES), *i = test_secret(101, VOLUME_KEY_BYTES);
	uint8_t mac[32], want[32], id[ID_BYTES];
	struct sealer *s = NULL;

	(void)state;
	assert_ok(volkeys_new_empty(fips, SUITE_XTS_GCM, TEST_VOLUME, &vk));
	assert_int_equal(volkeys_mac(vk, MAC_STATE, "x", 1, mac), ERR_KEY_UNAVAILABLE);
	assert_int_equal(volkeys_random_id(vk, id), ERR_KEY_UNAVAILABLE);
	assert_int_equal(sealer_get(vk, TEST_FILE, 0, &s), ERR_KEY_UNAVAILABLE);
	volkeys_wipe(vk);
	assert_int_equal(volkeys_load(vk, k, NULL), ERR_RANGE);
	assert_ok(volkeys_load(vk, k, i));
	assert_ok(volkeys_mac(vk, MAC_STATE, "x", 1, mac));
	assert_ok(volkeys_mac(other, MAC_STATE, "x", 1, want));
	assert_memory_equal(mac, want, sizeof(mac));
	secret_free(k);
	secret_free(i);
	volkeys_free(vk);
	volkeys_free(other);
	/* One that never had keys goes away as well. */
	assert_ok(volkeys_new_empty(fips, SUITE_GCM, TEST_VOLUME, &vk));
	volkeys_free(vk);
}

/* Opening and closing a volume over and over leaks nothing. */
static void no_leak(void **state)
{
	struct locked_stats before = {0}, after;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		struct volkeys *vk = test_volume(fips, SUITE_XTS_GCM);
		atomic_uint done = 0;
		struct load l = {.vk = vk, .number = i, .done = &done};

		assert_ok(one_turn(&l, i));
		volkeys_free(vk);
		if (i == 1)
			locked_stats_get(&before);
	}
	locked_stats_get(&after);
	assert_int_equal(before.in_use_bytes, after.in_use_bytes);
}

/* What a whole program locks: far below the 8 MiB a user may have. */
static void budget(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_XTS_GCM);
	atomic_uint done = 0;
	struct load l = {.vk = vk, .done = &done};
	struct locked_stats s;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_ok(one_turn(&l, i));
	locked_stats_get(&s);
	print_message("# locked: %zu KiB, in use: %zu KiB, allocations so far: %lu\n", s.arena_bytes / 1024,
		s.in_use_bytes / 1024, s.allocations);
	assert_true(s.arena_bytes < (size_t)6 << 20);
	volkeys_free(vk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(budget),
		cmocka_unit_test(wiped_is_gone),
		cmocka_unit_test(empty_at_first),
		cmocka_unit_test(no_leak),
		cmocka_unit_test(all_sealers_busy),
		cmocka_unit_test(threads_and_files),
		cmocka_unit_test(wipe_under_load),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
