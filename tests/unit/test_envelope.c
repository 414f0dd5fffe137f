/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the double envelope: both keys are needed, there is no way round, the format.  PROVIDERS.md section 3. */
#include "customertest.h"

/* ---- both keys are needed ---- */

static void each_key_alone_fails(void **state)
{
	struct err_why why;
	uint8_t print[32];

	(void)state;
	fresh(OFF, SUITE_XTS_GCM, "store", print);
	/* the managed key alone */
	fake.denied = FAKE_A;
	assert_refused(try_unlock(&why), ERR_KEY_REVOKED, why, "says no");
	assert_refused(run_once(OFF, &why), ERR_KEY_REVOKED, why, "says no");
	assert_refused(run_once(VERSION, &why), ERR_KEY_REVOKED, why, "says no");
	assert_refused(run_once(OTHER, &why), ERR_KEY_REVOKED, why, "says no");
	fake.denied = NULL;
	fake.other_key = true;
	assert_refused(try_unlock(&why), ERR_CORRUPT, why, "does not open the managed envelope");
	fake.other_key = false;
	fake.short_key = true;
	assert_refused(try_unlock(&why), ERR_CORRUPT, why, "not of 32 bytes");
	fake.short_key = false;
	fake.state = KEY_DISABLED;
	assert_refused(try_unlock(&why), ERR_KEY_REVOKED, why, "is disabled");
	fake.state = KEY_USABLE;
	assert_ok(try_unlock(&why));
	/* the customer's alone */
	kt_rm(kt.store);
	assert_refused(try_unlock(&why), ERR_KEY_UNAVAILABLE, why, "is missing");
	assert_refused(run_once(OFF, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	assert_int_equal(access(kt.store, F_OK), -1);
	assert_int_equal(files_with(BARE), 0);
}

/* What lay open before the customer's key was on, from a backup or a freed block: opens nothing. */
static void old_envelopes_open_nothing(void **state)
{
	char bare[16384], under_a[16384];
	struct err_why why;
	size_t bare_len, len;

	(void)state;
	create_with(SUITE_XTS_GCM, "store");
	bare_len = keep(VOLUME_DESCRIPTOR, bare);
	run_ok(ON);
	put(VOLUME_DESCRIPTOR, bare, bare_len);
	put(DESCRIPTOR_BACKUP, bare, bare_len);
	assert_refused(try_unlock(&why), ERR_KEY_UNAVAILABLE, why, "put the newest blobcryptfs.json");

	create_with(SUITE_XTS_GCM, "store");
	run_ok(ON);
	len = keep(VOLUME_DESCRIPTOR, under_a);
	run_ok(OFF);
	put(VOLUME_DESCRIPTOR, under_a, len);
	put(DESCRIPTOR_BACKUP, under_a, len);
	assert_refused(try_unlock(&why), ERR_KEY_UNAVAILABLE, why, "put the newest blobcryptfs.json");
}

/* An old bare envelope as second copy does not serve, whatever the first one's trouble. */
static void no_way_round(void **state)
{
	char bare[16384], first[16384];
	struct err_why why;
	size_t bare_len, len;
	json_t *j;

	(void)state;
	create_with(SUITE_GCM, "file"); /* whose key stays the same: the worst case */
	bare_len = keep(VOLUME_DESCRIPTOR, bare);
	run_ok(ON);
	len = keep(VOLUME_DESCRIPTOR, first);
	put(DESCRIPTOR_BACKUP, bare, bare_len);
	fake.fail_all = true;
	for (enum err e = ERR_NOMEM; e <= ERR_BUG; e++) {
		fake.fail = e;
		assert_int_equal(try_unlock(&why), e == ERR_KEY_DENIED ? ERR_KEY_REVOKED : e);
	}
	fake.fail_all = false;
	/* The first copy is damaged where only the MAC can tell. */
	j = json_loadb(first, len, 0, NULL);
	json_object_set_new(json_object_get(j, "policy"), "rotate_days", json_integer(1));
	put(VOLUME_DESCRIPTOR, first, json_dumpb(j, first, sizeof(first), 0));
	json_decref(j);
	assert_refused(try_unlock(&why), ERR_CORRUPT, why, "MAC is wrong");
	assert_int_equal(files_with(BARE), 1);
}

/* The other way round: an old customer's envelope beside a managed one. */
static void no_way_back(void **state)
{
	char under_a[16384];
	struct err_why why;
	struct volume *v;
	size_t len;

	(void)state;
	create_with(SUITE_GCM, "file");
	run_ok(ON);
	len = keep(VOLUME_DESCRIPTOR, under_a);
	run_ok(OFF);
	put(DESCRIPTOR_BACKUP, under_a, len);
	json_decref(key_file('a'));
	unlink(kt_path(kt.dir, "a.key"));
	assert_refused(try_unlock(&why), ERR_KEY_UNAVAILABLE, why, "is missing");
	json_decref(key_file('a'));
	assert_ok(try_unlock(&why)); /* and the second copy is made equal */
	assert_true(copies_equal());
	v = kt_open();
	assert_false(volume_has_customer(v));
	volume_close(v);
}

/* ---- the second copy ---- */

/* Replaces a member of the envelope in the first copy only. */
static void damage(const char *member, json_t *value)
{
	char text[16384];
	json_t *j = json_loadb(text, keep(VOLUME_DESCRIPTOR, text), 0, NULL);

	assert_int_equal(json_object_set_new(json_object_get(j, "envelope"), member, value), 0);
	put(VOLUME_DESCRIPTOR, text, json_dumpb(j, text, sizeof(text), 0));
	json_decref(j);
}

static void check_mended(const uint8_t before[32])
{
	uint8_t print[32];

	kt_fingerprint(print);
	assert_memory_equal(before, print, 32);
	assert_true(copies_equal());
	assert_int_equal(kt_files(kt.back), 5);
}

static void second_copy_serves(void **state)
{
	static const char zeros[700];
	char text[16384], sealed[16384];
	struct err_why why;
	uint8_t before[32];
	size_t len;
	json_t *j;

	(void)state;
	fresh(OFF, SUITE_XTS_GCM, "store", before);
	len = keep(VOLUME_DESCRIPTOR, text);
	j = json_loadb(text, len, 0, NULL);
	snprintf(sealed, sizeof(sealed), "%s",
		json_string_value(json_object_get(json_object_get(j, "envelope"), "managed")));
	json_decref(j);

	put(VOLUME_DESCRIPTOR, zeros, sizeof(zeros));
	check_mended(before);
	put(DESCRIPTOR_BACKUP, zeros, sizeof(zeros));
	check_mended(before);
	unlink(kt_path(kt.back, VOLUME_DESCRIPTOR));
	check_mended(before);
	put(VOLUME_DESCRIPTOR, text, len / 2);
	check_mended(before);
	sealed[100] = sealed[100] == 'A' ? 'B' : 'A';
	damage("managed", json_string(sealed));
	check_mended(before);
	damage("managed", json_string("!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"));
	check_mended(before);
	damage("layer_key", json_string("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
	check_mended(before);
	damage("version", json_integer(5));
	check_mended(before);
	damage("wrapped_at", json_string("2001-02-03T04:05:06Z"));
	check_mended(before);
	/* but not behind the keeper's back: this is another key to it */
	damage("key", json_string(FAKE_B "/00000000000000000000000000000001"));
	fake.denied = FAKE_B;
	assert_refused(try_unlock(&why), ERR_KEY_REVOKED, why, "says no");
	fake.denied = NULL;
	check_mended(before); /* 400: makes no sense */
}

/* Everything the sealed envelope is bound to, in both copies. */
static void bound(void **state)
{
	char text[16384], out[16384];
	struct err_why why;
	json_t *j, *env;
	size_t len, n;

	(void)state;
	create_with(SUITE_GCM, "file");
	run_ok(ON);
	len = keep(VOLUME_DESCRIPTOR, text);
	for (int what = 0; what < 4; what++) {
		j = json_loadb(text, len, 0, NULL);
		env = json_object_get(j, "envelope");
		if (what == 0)
			json_object_set_new(env, "version", json_integer(2));
		else if (what == 1)
			json_object_set_new(j, "volume", json_string(KT_VOLUME));
		else if (what == 2)
			json_object_set_new(j, "suite", json_integer(2));
		n = json_dumpb(j, out, sizeof(out), 0);
		json_decref(j);
		put(VOLUME_DESCRIPTOR, out, n);
		put(DESCRIPTOR_BACKUP, out, n);
		if (what == 3) /* nothing but white space */
			assert_ok(try_unlock(&why));
		else
			assert_refused(try_unlock(&why), ERR_CORRUPT, why, "does not open the managed envelope");
	}
}

/* ---- the format ---- */

/* Opens a sealed envelope by hand, from PROVIDERS.md section 3 alone. */
static void format_by_hand(void **state)
{
	static const char aad_text[] = "bcfs1 managed envelope";
	uint8_t wrapped[256], sealed[8192], aad[1024], plain[8192], print[32];
	size_t wrapped_len, sealed_len, n = sizeof(aad_text);
	struct secret *kek, *layer;
	char text[16384];
	json_t *j, *env, *inner;
	const char *kid;
	struct volume *v;

	(void)state;
	fresh(VERSION, SUITE_XTS_GCM, "store", print);
	run_ok(VERSION);
	v = kt_open();
	j = json_loadb(text, keep(VOLUME_DESCRIPTOR, text), 0, NULL);
	env = json_object_get(j, "envelope");
	assert_int_equal(json_object_size(env), 7);
	kid = json_string_value(json_object_get(env, "key"));
	assert_string_equal(kid, FAKE_A "/00000000000000000000000000000002");
	assert_ok(b64_decode(json_string_value(json_object_get(env, "layer_key")),
		json_string_length(json_object_get(env, "layer_key")), wrapped, sizeof(wrapped), &wrapped_len));
	assert_ok(b64_decode(json_string_value(json_object_get(env, "managed")),
		json_string_length(json_object_get(env, "managed")), sealed, sizeof(sealed), &sealed_len));
	assert_ok(secret_new(32, &kek));
	assert_ok(fips_sha256(kt.f, kid, strlen(kid), secret_bytes(kek)));
	assert_ok(fips_unwrap(kt.f, kek, wrapped, wrapped_len, &layer));
	memcpy(aad, aad_text, n);
	memcpy(aad + n, v->id, 16);
	memcpy(aad + n + 16, (const uint8_t[]){0, 2, 0, 0, 0, 2}, 6);
	memcpy(aad + n + 22, kid, strlen(kid));
	assert_ok(fips_gcm_open(kt.f, layer, aad, n + 22 + strlen(kid), sealed, sealed_len, plain));
	inner = json_loadb((char *)plain, sealed_len - GCM_OVERHEAD, 0, NULL);
	assert_int_equal(json_dumpb(inner, text, sizeof(text), JSON_COMPACT | JSON_SORT_KEYS), sealed_len - 28);
	assert_memory_equal(text, plain, sealed_len - 28);
	assert_string_equal(json_string_value(json_object_get(inner, "kind")), "managed");
	assert_int_equal(json_object_size(inner), 7);
	json_decref(inner);
	json_decref(j);
	secret_free(kek);
	secret_free(layer);
	volume_close(v);
}

/* A volume that was made before there were customers' keys. */
static void golden_managed(void **state)
{
	static const char golden[] =
		"{\"blobcryptfs\":1,\"volume\":\"43c683dfbf649446b975fef4666b1a82\",\"suite\":2,\"created\":"
		"\"2026-11-28T20:04:05Z\",\"envelope\":{\"kind\":\"managed\",\"provider\":{\"source\":\"file\","
		"\"path\":"
		"\"/tmp/gold/"
		"key\"},\"key\":\"file\",\"version\":1,\"wrapped_at\":\"2026-11-28T20:04:05Z\",\"volume_key\":"
		"\"sJv5mS5tw8XTrQLg6Qiw0jYF_lMGuN0GvZyn_OiLwXMs3HPD1ln3fw\",\"inner_key\":"
		"\"C7sss78nAtjU1HyHTZXrNFJCC-6srCT4P-_yuO5PYVfBiRWsS8091w\"},\"policy\":{\"rotate_days\":90},\"mac\":"
		"\"XjilUjDJ1Dx7Ug9WUPy9WMb7yoUczynq_mEfJvqmi-U\"}";
	struct err_why why = {0};
	struct volkeys *vk;
	struct volume *v;
	json_t *now;

	(void)state;
	put(VOLUME_DESCRIPTOR, golden, strlen(golden));
	put(DESCRIPTOR_BACKUP, golden, strlen(golden));
	kt_write(kt_path(kt.dir, "key"), "0000000000000000000000000000000000000000000000000000000000000007", 64, 0600);
	now = kt_conf("file:%s/key", kt.dir);
	v = kt_open();
	assert_false(volume_has_customer(v));
	assert_null(volume_customer_conf(v));
	assert_ok(volume_unlock(v, kt.f, now, &vk, &why));
	assert_string_equal(volume_detail(v)->reason, "");
	volkeys_free(vk);
	volume_close(v);
	json_decref(now);
}

/* What is inside is as hostile as the rest: whoever has the public key can make such an envelope. */
static void hostile_inside(void **state)
{
	static const struct {
		const char *text, *part;
		enum err e;
	} cases[] = {
		{"", "managed is missing", ERR_CORRUPT},
		{"[]", "no JSON object", ERR_CORRUPT},
		{"{", "no JSON object", ERR_CORRUPT},
		{"{\"a\":1,\"a\":1}", "no JSON object", ERR_CORRUPT},
		{"{\"kind\":\"azure-key-vault\"}", "kind", ERR_CORRUPT},
		{"{\"kind\":\"managed\"}", "provider", ERR_CORRUPT},
		{"{\"kind\":\"tpm\"}", "kept by tpm", ERR_UNSUPPORTED},
		{"{\"kind\":7}", "kind", ERR_CORRUPT},
	};

	(void)state;
	create_with(SUITE_GCM, "file");
	run_ok(ON);
	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t len = strlen(cases[i].text);
		uint8_t aad[1024], sealed[256];
		char b64[512], text[16384];
		struct volume *v = kt_open();
		struct secret *layer = test_secret(7, 32); /* fake.other_key */
		struct err_why why;

		memcpy(aad, "bcfs1 managed envelope", 23);
		memcpy(aad + 23, v->id, 16);
		memcpy(aad + 39, (const uint8_t[]){0, 1, 0, 0, 0, 1}, 6);
		memcpy(aad + 45, v->key.id, strlen(v->key.id));
		assert_ok(fips_gcm_seal(kt.f, layer, aad, 45 + strlen(v->key.id), cases[i].text, len, sealed));
		secret_free(layer);
		volume_close(v);
		b64_encode(sealed, len + GCM_OVERHEAD, b64);
		damage("managed", json_string(b64));
		put(DESCRIPTOR_BACKUP, text, keep(VOLUME_DESCRIPTOR, text));
		fake.other_key = true;
		if (len == 0) {
			struct volume *w;

			assert_refused(volume_open(kt.back, &w, &why), cases[i].e, why, cases[i].part);
		} else {
			assert_refused(try_unlock(&why), cases[i].e, why, cases[i].part);
		}
		fake.other_key = false;
		create_with(SUITE_GCM, "file");
		run_ok(ON);
	}
}

static void members(void **state)
{
	static const char *const names[] = {"kind", "provider", "key", "version", "wrapped_at", "layer_key", "managed",
		"volume_key", "inner_key", "x"};
	static const char *const values[] = {
		NULL, "null", "7", "\"\"", "\"x\"", "\"\\u001b[2J\"", "\"\\u009b2J\"", "{}", "[]", "-1", "4294967296"};
	char text[16384], out[16384];
	struct err_why why;
	size_t len, n;

	(void)state;
	create_with(SUITE_GCM, "file");
	run_ok(ON);
	len = keep(VOLUME_DESCRIPTOR, text);
	for (size_t i = 0; i < COUNT(names) * COUNT(values); i++) {
		const char *name = names[i / COUNT(values)], *value = values[i % COUNT(values)];
		json_t *j = json_loadb(text, len, 0, NULL), *env = json_object_get(j, "envelope");
		struct volkeys *vk = NULL;
		struct volume *v;
		enum err e;

		if (value)
			json_object_set_new(env, name, json_loads(value, JSON_DECODE_ANY, NULL));
		else if (json_object_del(env, name) != 0) {
			json_decref(j);
			continue;
		}
		n = json_dumpb(j, out, sizeof(out), 0);
		json_decref(j);
		put(VOLUME_DESCRIPTOR, out, n);
		put(DESCRIPTOR_BACKUP, out, n);
		memset(&why, 0, sizeof(why));
		e = volume_open(kt.back, &v, &why);
		if (e == ERR_OK)
			e = volume_unlock(v, kt.f, NULL, &vk, &why);
		volume_close(v);
		if (e != ERR_CORRUPT && e != ERR_UNSUPPORTED && e != ERR_CONFIG)
			print_error("%s = %s: %d %s\n", name, value, (int)e, why.text);
		assert_true(e == ERR_CORRUPT || e == ERR_UNSUPPORTED || e == ERR_CONFIG);
		assert_true(why.text[0] != '\0');
		assert_null(vk);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_key_alone_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(old_envelopes_open_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(no_way_round, setup, teardown),
		cmocka_unit_test_setup_teardown(no_way_back, setup, teardown),
		cmocka_unit_test_setup_teardown(second_copy_serves, setup, teardown),
		cmocka_unit_test_setup_teardown(bound, setup, teardown),
		cmocka_unit_test_setup_teardown(format_by_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(golden_managed, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(members, setup, teardown),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
