/* SPDX-License-Identifier: Apache-2.0 */
/* akv: patience, deadlines, nonsense, lists, the end; against the emulator of tests/emulator. */
#include "tests/unit/akvtest.h"

#include <pthread.h>

/* ---- not now ---- */

static void patience(void **state)
{
	static const char *const faults[] = {"throttle", "throttle --retry-after 0", "status", "status --status 503",
		"status --status 408", "akv10046", "not-yet-valid", "reset", "close", "reset-headers", "reset-body",
		"truncated"};
	static const char *const reasons[] = {"Throttled", "Throttled", "InternalServerError", "InternalServerError",
		"InternalServerError", "AKV10046", "AKV10046", "broken answer", "broken answer", "broken answer",
		"broken answer", "broken answer"};
	struct akv *a = open_akv(), *once = open_with(1, 0, NULL);
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	expect(once, &t, ERR_OK, "");
	for (size_t i = 0; i < COUNT(faults); i++) {
		emu_do("fault add %s unwrapkey %s --count 4", vault, faults[i]);
		expect(a, &t, ERR_OK, ""); /* the fifth goes through */
	}
	emu_do("fault clear");
	for (size_t i = 0; i < COUNT(faults); i++) {
		long before;

		emu_do("fault add %s unwrapkey %s", vault, faults[i]);
		expect(a, &t, ERR_KEY_UNAVAILABLE, reasons[i]);
		before = requests("unwrapkey");
		expect(once, &t, ERR_KEY_UNAVAILABLE, reasons[i]);
		/* libcurl repeats by itself what died on a connection that was open already */
		assert_in_range(requests("unwrapkey") - before, 1, 2);
		emu_do("fault clear");
		expect(once, &t, ERR_OK, "");
	}
	akv_close(once);
	done(a, &t);
}

static void deadlines(void **state)
{
	struct akv *a = open_akv(), *hasty = open_with(0, 400, NULL);
	struct trip t;
	long before;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	/* a wait that would outlast the deadline is not begun */
	emu_do("fault add %s unwrapkey throttle --retry-after 3600", vault);
	akv_set_limits(a, 0, 20000);
	before = requests("unwrapkey");
	expect(a, &t, ERR_KEY_UNAVAILABLE, "Throttled");
	assert_int_equal(requests("unwrapkey"), before + 1);
	emu_do("fault clear");
	emu_do("fault add %s unwrapkey,contact hang", vault);
	expect(hasty, &t, ERR_KEY_UNAVAILABLE, "timeout");
	emu_do("fault clear");
	emu_do("fault add %s unwrapkey,contact slow --value 600", vault);
	expect(hasty, &t, ERR_KEY_UNAVAILABLE, "timeout");
	emu_do("fault clear");
	akv_close(hasty);
	done(a, &t);
}

static void unreachable(void **state)
{
	static const char *const tls[] = {"tls-name", "tls-expired", "tls-foreign"};
	struct akv *a = open_akv(), *b;
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	for (size_t i = 0; i < COUNT(tls); i++) {
		emu_do("fault add * handshake %s", tls[i]);
		b = open_akv();
		expect(b, &t, ERR_KEY_UNAVAILABLE, "tls");
		akv_close(b);
		emu_do("fault clear");
	}
	emu_do("port close vault");
	b = open_akv();
	expect(b, &t, ERR_KEY_UNAVAILABLE, "connect");
	akv_close(b);
	emu_do("port open vault");
	b = open_akv();
	expect(b, &t, ERR_OK, "");
	akv_close(b);
	done(a, &t);
}

/* ---- nonsense ---- */

static void nonsense(void **state)
{
	static const struct {
		const char *fault, *reason;
		enum err want;
	} all[] = {{"not-json", "nonsense", ERR_CORRUPT}, {"empty", "nonsense", ERR_CORRUPT},
		{"deep-json", "nonsense", ERR_CORRUPT}, {"wrong-kid", "nonsense", ERR_CORRUPT},
		{"no-kid", "nonsense", ERR_CORRUPT}, {"not-json --status 403", "http 403", ERR_KEY_REVOKED},
		{"empty --status 403", "http 403", ERR_KEY_REVOKED},
		{"deep-json --status 503", "http 503", ERR_KEY_UNAVAILABLE},
		{"garbage", "broken answer", ERR_KEY_UNAVAILABLE},
		{"oversize-body", "answer too large", ERR_KEY_UNAVAILABLE},
		{"oversize-headers", "answer too large", ERR_KEY_UNAVAILABLE}};
	struct akv *a = open_with(1, 0, NULL);
	struct secret *back = NULL;
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	for (size_t i = 0; i < COUNT(all); i++) {
		emu_do("fault add %s unwrapkey %s --count 1", vault, all[i].fault);
		expect(a, &t, all[i].want, all[i].reason);
		expect(a, &t, ERR_OK, "");
	}
	emu_do("fault add %s unwrapkey short-value --count 1 --value 5", vault);
	assert_ok(akv_unwrap(a, t.used.version, "RSA-OAEP-256", &t.wrapped, false, &back, NULL));
	assert_int_equal(secret_len(back), 5); /* keyprov_unwrap refuses it */
	secret_free(back);
	emu_do("fault add %s wrapkey short-value --count 1", vault);
	{
		char kid[AZURE_URI_MAX];
		struct wrapped w;

		assert_int_equal(akv_wrap(a, "RSA-OAEP-256", t.key, &w, kid, NULL), ERR_CORRUPT);
		assert_int_equal(w.len, 0);
		assert_string_equal(kid, "");
	}
	done(a, &t);
}

/* ---- lists and new keys ---- */

static void lists(void **state)
{
	struct akv_key keys[16];
	struct err_why why = {0};
	struct akv *a;
	size_t n;

	(void)state;
	id.name[0] = '\0';
	a = open_akv();
	assert_int_equal(akv_list(a, keys, COUNT(keys), &n, &why), ERR_KEY_REVOKED);
	emu_do("grant %s vm officer", vault);
	emu_do("vault set %s page=2", vault);
	emu_do("key create %s ka --kty EC", vault);
	emu_do("key create %s kb --disabled", vault);
	emu_do("key create %s kc --size 3072 --ops sign,verify", vault);
	assert_ok(akv_list(a, keys, COUNT(keys), &n, &why));
	assert_int_equal(n, 4);
	for (size_t i = 0; i < n; i++) {
		assert_true(strlen(strrchr(keys[i].kid, '/')) == 33); /* a version */
		assert_true(keys[i].enabled == (strstr(keys[i].kid, "/kb/") == NULL));
		assert_true((akv_algorithm(&keys[i]) == NULL) == (strstr(keys[i].kid, "/ka/") != NULL));
		assert_true(keys[i].can_wrap ==
			    (strstr(keys[i].kid, "/kc/") == NULL && strstr(keys[i].kid, "/ka/") == NULL));
	}
	assert_int_equal(akv_list(a, keys, 3, &n, &why), ERR_RANGE);
	assert_int_equal(n, 3);
	/* a disabled key that may not be looked at */
	emu_do("vault set %s disabled_get=403", vault);
	assert_ok(akv_list(a, keys, COUNT(keys), &n, &why));
	for (size_t i = 0; i < n; i++)
		if (strstr(keys[i].kid, "/keys/kb"))
			assert_true(!keys[i].enabled && keys[i].kty[0] == '\0');
	emu_do("fault add %s list not-json --count 1", vault);
	assert_int_equal(akv_list(a, keys, COUNT(keys), &n, &why), ERR_CORRUPT);
	done(a, NULL);
}

static void creates(void **state)
{
	struct akv_key k, got;
	struct err_why why = {0};
	struct akv *a;

	(void)state;
	parse_id("new");
	a = open_akv();
	assert_int_equal(akv_create(a, AKV_RSA, 3072, &k, &why), ERR_KEY_REVOKED);
	emu_do("grant %s vm officer", vault);
	assert_ok(akv_create(a, AKV_RSA, 3072, &k, &why));
	assert_int_equal(k.bits, 3072);
	assert_true(k.can_wrap && k.can_unwrap && k.has_ops);
	assert_ok(akv_get(a, &got, NULL));
	assert_string_equal(got.kid, k.kid);
	assert_int_equal(akv_create(a, AKV_RSA, 1024, &k, &why), ERR_CONFIG);
	assert_int_equal(akv_create(a, AKV_KIND_OTHER, 0, &k, &why), ERR_CONFIG);
	emu_do("key delete %s new", vault);
	assert_int_equal(akv_create(a, AKV_RSA, 2048, &k, &why), ERR_CONFIG);
	assert_string_equal(akv_detail(a)->reason, "ObjectIsDeletedButRecoverable");
	assert_non_null(strstr(why.text, "recover"));
	done(a, NULL);
}

/* ---- the rest ---- */

static void *hang(void *arg)
{
	struct akv *a = arg;
	struct akv_key k;
	static enum err e;

	e = akv_get(a, &k, NULL);
	return &e;
}

/* Has the one fault there is hit? */
static bool hit(void)
{
	json_t *list = emu_ask("fault list");
	bool was = json_integer_value(json_object_get(json_array_get(list, 0), "hits")) > 0;

	json_decref(list);
	return was;
}

static void aborted(void **state)
{
	struct akv *a = open_with(0, 600000, NULL);
	pthread_t thread;
	void *e;

	(void)state;
	emu_do("fault add %s contact hang", vault);
	assert_int_equal(pthread_create(&thread, NULL, hang, a), 0);
	while (!hit()) {
		const struct timespec nap = {0, 5000000};

		nanosleep(&nap, NULL);
	}
	akv_abort(a);
	assert_int_equal(pthread_join(thread, &e), 0);
	assert_int_equal(*(enum err *)e, ERR_KEY_UNAVAILABLE);
	emu_do("fault clear");
	done(a, NULL);
}

static void refused_configurations(void **state)
{
	static const char *const versions_[] = {"", "7.4&x=y", "7.4 ", "x7.4", "01234567890123456789012345678901"};
	struct akv_config cfg = {.fips = fips, .cloud = &emu.cloud, .id = &id, .identity = vm};
	struct akv *a;

	(void)state;
	for (size_t i = 0; i < COUNT(versions_); i++) {
		cfg.api_version = versions_[i];
		assert_int_equal(akv_open(&cfg, &a, NULL), ERR_CONFIG);
		assert_null(a);
	}
	cfg.api_version = "2025-07-01";
	cfg.tenant = "not-a-guid";
	assert_int_equal(akv_open(&cfg, &a, NULL), ERR_CONFIG);
	cfg.tenant = NULL;
	assert_ok(akv_open(&cfg, &a, NULL));
	{
		struct akv_key k;

		assert_ok(akv_get(a, &k, NULL));
	}
	akv_close(a);
	cfg.api_version = "1.0";
	assert_ok(akv_open(&cfg, &a, NULL));
	{
		struct akv_key k;

		assert_int_equal(akv_get(a, &k, NULL), ERR_CONFIG);
	}
	akv_close(a);
}

/* Neither the key nor anything of it is left once the secret is freed, with the connection open. */
static void leaves_nothing(void **state)
{
	struct akv *a = open_akv();
	struct locked_stats before, after;
	uint8_t masked[32];
	char text[64];
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	secret_free(t.key);
	assert_ok(secret_new(32, &t.key)); /* one that is nowhere else */
	assert_ok(fips_random(fips, secret_bytes(t.key), 32));
	{
		char kid[AZURE_URI_MAX];

		assert_ok(akv_wrap(a, "RSA-OAEP-256", t.key, &t.wrapped, kid, NULL));
	}
	expect(a, &t, ERR_OK, "");
	locked_stats_get(&before);
	for (int i = 0; i < 5; i++)
		expect(a, &t, ERR_OK, "");
	locked_stats_get(&after);
	assert_int_equal(before.in_use_bytes, after.in_use_bytes);
#ifndef __SANITIZE_THREAD__ /* takes a minute there */
	for (size_t i = 0; i < 32; i++)
		masked[i] = secret_view(t.key)[i] ^ 0x5a;
	b64_encode(secret_view(t.key), 32, text);
	for (size_t i = 0; i < 40; i++)
		text[i] ^= 0x5a;
	assert_true(test_scan(masked, 0x5a, 32) > 0);
	secret_free(t.key);
	t.key = NULL;
	assert_int_equal(test_scan(masked, 0x5a, 32), 0);
	assert_int_equal(test_scan((const uint8_t *)text, 0x5a, 40), 0);
#else
	(void)masked;
	(void)text;
#endif
	done(a, &t);
}

#define T(f) cmocka_unit_test_setup_teardown(f, each, each_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(patience),
		T(deadlines),
		T(unreachable),
		T(nonsense),
		T(lists),
		T(creates),
		T(aborted),
		T(refused_configurations),
		T(leaves_nothing),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, emu_start, emu_stop));
}
