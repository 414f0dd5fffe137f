/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the descriptor: every member missing, wrong or flipped; one copy and both.  FORMAT.md section 7. */
#include "keyprov/descriptor.h"
#include "keyprov/sealed_json.h"
#include "keytest.h"

static uint8_t want[32]; /* fingerprint of the volume's key */
static char text[8192];	 /* the good descriptor */
static size_t text_len;

static int make(void **state)
{
	if (kt_setup(state) != 0)
		return -1;
	kt_create(SUITE_XTS_GCM);
	kt_fingerprint(want);
	text_len = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), text, sizeof(text));
	return 0;
}

static void put(const char *name, const void *data, size_t len)
{
	kt_write(kt_path(kt.back, name), data, len, 0600);
}

static void put_both(const void *data, size_t len)
{
	put(VOLUME_DESCRIPTOR, data, len);
	put(DESCRIPTOR_BACKUP, data, len);
}

static enum err open_why(struct err_why *why)
{
	struct volume *v;
	enum err e;

	memset(why, 0, sizeof(*why));
	e = volume_open(kt.back, &v, why);
	volume_close(v);
	return e;
}

/* Opens and unlocks without the lock, so that nothing is mended. */
static enum err open_unlock(struct err_why *why)
{
	struct volume *v;
	struct volkeys *vk = NULL;
	uint8_t got[32];
	enum err e;

	memset(why, 0, sizeof(*why));
	e = volume_open(kt.back, &v, why);
	if (e != ERR_OK)
		return e;
	e = volume_unlock(v, kt.f, NULL, &vk, why);
	if (e == ERR_OK) { /* whatever was done to the files: the same volume, the same meaning */
		kt_print_key(vk, got);
		assert_memory_equal(got, want, 32);
		assert_int_equal(v->suite, SUITE_XTS_GCM);
		assert_int_equal(v->rotate_days, 90);
		assert_int_equal(v->key.version, 1);
		assert_string_equal(v->source, "store");
	}
	volkeys_free(vk);
	volume_close(v);
	return e;
}

static void plain_reasons(void **state)
{
	struct err_why why;
	struct volume *v;
	char *big = calloc(1, 70000);

	(void)state;
	put_both("", 0);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "blobcryptfs.json is empty");
	put_both("{}", 2);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "not the descriptor of a volume");
	put_both("{\"name\":\"x\"}", 12);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "not the descriptor of a volume");
	put_both("[]", 2);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "not a JSON object");
	put_both(text, text_len / 2);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "no JSON");
	put_both("{\"a\":1,\"a\":2}", 13);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "no JSON");
	memset(big, ' ', 70000);
	memcpy(big, text, text_len);
	put_both(big, 65537);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "larger than it can be");
	put_both(big, 65536);
	assert_ok(open_unlock(&why));
	free(big);
	unlink(kt_path(kt.back, VOLUME_DESCRIPTOR));
	assert_int_equal(symlink("x", kt_path(kt.back, VOLUME_DESCRIPTOR)), 0);
	put(DESCRIPTOR_BACKUP, "", 0);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "symbolic link");
	unlink(kt_path(kt.back, VOLUME_DESCRIPTOR));
	assert_int_equal(mkfifo(kt_path(kt.back, VOLUME_DESCRIPTOR), 0600), 0);
	assert_refused(open_why(&why), ERR_CORRUPT, why, "not a regular file");
	unlink(kt_path(kt.back, VOLUME_DESCRIPTOR));
	assert_refused(open_why(&why), ERR_CORRUPT, why, "blobcryptfs.json.bak is empty");
	unlink(kt_path(kt.back, DESCRIPTOR_BACKUP));
	assert_refused(open_why(&why), ERR_NOT_FOUND, why, "is not a blobcryptfs volume");
	assert_int_equal(volume_open(kt_path(kt.dir, "none"), &v, &why), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "no directory"));
	put(VOLUME_DESCRIPTOR, "", 0);
	assert_int_equal(volume_open(kt_path(kt.back, VOLUME_DESCRIPTOR), &v, &why), ERR_IO);
}

/* Changes one member of a copy of the good descriptor and writes both copies. path: "envelope.key" */
static void with_member(const char *path, const char *value)
{
	json_t *j = json_loadb(text, text_len, 0, NULL), *obj = j;
	const char *dot = strchr(path, '.');
	char out[65536];
	size_t n;

	assert_non_null(j);
	if (dot) {
		char parent[32];

		snprintf(parent, sizeof(parent), "%.*s", (int)(dot - path), path);
		obj = json_object_get(j, parent);
		path = dot + 1;
	}
	if (value)
		assert_int_equal(json_object_set_new(obj, path, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
	else
		assert_int_equal(json_object_del(obj, path), 0);
	n = json_dumpb(j, out, sizeof(out), JSON_INDENT(2));
	put_both(out, n);
	json_decref(j);
}

static void members(void **state)
{
	static const char *const paths[] = {"blobcryptfs", "volume", "suite", "created", "envelope", "policy", "mac",
		"envelope.kind", "envelope.provider", "envelope.key", "envelope.version", "envelope.wrapped_at",
		"envelope.volume_key", "envelope.inner_key", "policy.rotate_days"};
	static const char *const types[] = {"null", "true", "7.5", "[]", "\"\"", "-1", "\"x\"", "{}", "12345678901234"};
	struct err_why why;

	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		with_member(paths[i], NULL);
		assert_int_equal(open_unlock(&why), ERR_CORRUPT);
		assert_true(why.text[0] != '\0');
		for (size_t t = 0; t < COUNT(types); t++) {
			enum err e;

			with_member(paths[i], types[t]);
			e = open_unlock(&why);
			if (e != ERR_CORRUPT && e != ERR_UNSUPPORTED && e != ERR_KEY_DENIED)
				print_error("%s = %s: %d %s\n", paths[i], types[t], (int)e, why.text);
			assert_true(e == ERR_CORRUPT || e == ERR_UNSUPPORTED || e == ERR_KEY_DENIED);
			assert_true(why.text[0] != '\0');
		}
	}
}

static void values(void **state)
{
	static const struct {
		const char *path, *value;
		enum err e;
		const char *part;
	} bad[] = {
		{"blobcryptfs", "2", ERR_UNSUPPORTED, "format version 2"},
		{"blobcryptfs", "0", ERR_CORRUPT, "damaged"},
		{"suite", "3", ERR_UNSUPPORTED, "cipher suite 3"},
		{"suite", "0", ERR_UNSUPPORTED, "cipher suite 0"},
		{"suite", "1", ERR_CORRUPT, "inner_key"},
		{"volume", "\"00112233445566778899aabbccddee\"", ERR_CORRUPT, "volume"},
		{"volume", "\"00112233445566778899AABBCCDDEEFF\"", ERR_CORRUPT, "volume"},
		{"volume", "\"00112233445566778899aabbccddeeff\"", ERR_KEY_UNAVAILABLE, "is missing"},
		{"created", "\"2026-02-30T00:00:00Z\"", ERR_CORRUPT, "created"},
		{"created", "\"2026-2-3T00:00:00Z\"", ERR_CORRUPT, "created"},
		{"created", "\"2026-02-03T00:00:00Z!\"", ERR_CORRUPT, "created"},
		{"created", "\"2001-02-03T04:05:06Z\"", ERR_CORRUPT, "MAC is wrong"},
		{"extra", "1", ERR_UNSUPPORTED, "extra"},
		{"policy.extra", "1", ERR_UNSUPPORTED, "extra"},
		{"policy.rotate_days", "36501", ERR_CORRUPT, "rotate_days"},
		{"policy.rotate_days", "0", ERR_CORRUPT, "MAC is wrong"},
		{"envelope.extra", "1", ERR_UNSUPPORTED, "extra"},
		{"envelope.kind", "\"azure\"", ERR_UNSUPPORTED, "kept by azure"},
		{"envelope.version", "0", ERR_CORRUPT, "version"},
		{"envelope.version", "2", ERR_KEY_UNAVAILABLE, "v2.key is missing"},
		{"envelope.key", "\"other\"", ERR_CORRUPT, "MAC is wrong"},
		{"envelope.wrapped_at", "\"yesterday\"", ERR_CORRUPT, "wrapped_at"},
		{"envelope.volume_key", "\"AAAA\"", ERR_KEY_DENIED, "does not open this volume"},
		{"envelope.volume_key", "\"A\"", ERR_CORRUPT, "volume_key"},
		{"envelope.provider", "{\"source\":\"tpm\"}", ERR_UNSUPPORTED, "key source tpm"},
		{"envelope.provider", "{\"source\":7}", ERR_CORRUPT, "source"},
		{"mac", "\"AAAA\"", ERR_CORRUPT, "MAC is wrong"},
	};
	struct err_why why;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		with_member(bad[i].path, bad[i].value);
		assert_refused(open_unlock(&why), bad[i].e, why, bad[i].part);
	}
	with_member("mac", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"");
	assert_refused(open_unlock(&why), ERR_CORRUPT, why, "MAC is wrong");
}

/* The two wrapped keys are good each, but not in each other's place. */
static void swapped_keys(void **state)
{
	json_t *j = json_loadb(text, text_len, 0, NULL), *env = json_object_get(j, "envelope");
	json_t *a = json_incref(json_object_get(env, "volume_key"));
	struct err_why why;
	char out[8192];

	(void)state;
	json_object_set(env, "volume_key", json_object_get(env, "inner_key"));
	json_object_set_new(env, "inner_key", a);
	put_both(out, json_dumpb(j, out, sizeof(out), 0));
	json_decref(j);
	assert_refused(open_unlock(&why), ERR_CORRUPT, why, "MAC is wrong");
}

/* White space and order are free; the MAC is over the canonical form. */
static void other_layout(void **state)
{
	json_t *j = json_loadb(text, text_len, 0, NULL);
	struct err_why why;
	char out[8192];

	(void)state;
	put_both(out, json_dumpb(j, out, sizeof(out), JSON_COMPACT | JSON_SORT_KEYS));
	assert_ok(open_unlock(&why));
	put_both(out, json_dumpb(j, out, sizeof(out), JSON_INDENT(7)));
	assert_ok(open_unlock(&why));
	json_decref(j);
}

static bool expected_refusal(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_UNSUPPORTED || e == ERR_CONFIG || e == ERR_KEY_DENIED ||
	       e == ERR_KEY_UNAVAILABLE;
}

/* Every byte flipped: in the first copy the second one serves, in both it never opens with another meaning. */
static void flipped_bytes(void **state)
{
	static const char masks[] = {0x01, 0x20, (char)0x80};
	unsigned served = 0, opened = 0;
	struct err_why why;
	char bad[8192];

	(void)state;
	for (size_t i = 0; i < text_len; i++) {
		for (size_t m = 0; m < sizeof(masks); m++) {
			enum err e;

			memcpy(bad, text, text_len);
			bad[i] = (char)(bad[i] ^ masks[m]);
			put(VOLUME_DESCRIPTOR, bad, text_len);
			put(DESCRIPTOR_BACKUP, text, text_len);
			e = open_unlock(&why);
			served += e == ERR_OK;
			/* what looks like a newer program's is refused whichever copy it is */
			assert_true(e == ERR_OK || e == ERR_UNSUPPORTED);
			put(DESCRIPTOR_BACKUP, bad, text_len);
			e = open_unlock(&why);
			opened += e == ERR_OK;
			if (e != ERR_OK && !expected_refusal(e))
				print_error("byte %zu: %d %s\n", i, (int)e, why.text);
			assert_true(e == ERR_OK || expected_refusal(e));
			assert_true(e == ERR_OK || why.text[0] != '\0');
		}
	}
	print_message("# %zu bytes, %u flips served by the second copy, %u without effect (white space)\n", text_len,
		served, opened);
	assert_true(served > text_len);
	assert_true(opened < 20);
}

/* Cut at every length. */
static void cut(void **state)
{
	struct err_why why;

	(void)state;
	for (size_t len = 0; len < text_len; len++) {
		put(VOLUME_DESCRIPTOR, text, len);
		assert_ok(open_unlock(&why));
		if (len % 16 == 0 && len < text_len - 2) {
			put(DESCRIPTOR_BACKUP, text, len);
			assert_int_equal(open_unlock(&why), ERR_CORRUPT);
			put(DESCRIPTOR_BACKUP, text, text_len);
		}
	}
}

static bool same_copies(void)
{
	char a[8192], b[8192];
	size_t n = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), a, sizeof(a));

	return kt_read(kt_path(kt.back, DESCRIPTOR_BACKUP), b, sizeof(b)) == n && memcmp(a, b, n) == 0;
}

/* A bad copy is made good at unlock, but only under the exclusive lock. */
static void mended(void **state)
{
	static const char *const names[] = {VOLUME_DESCRIPTOR, DESCRIPTOR_BACKUP};
	struct volume *v;

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		for (int how = 0; how < 3; how++) {
			if (how == 0)
				unlink(kt_path(kt.back, names[i]));
			else
				put(names[i], "{", how - 1);
			v = kt_open();
			assert_true(v->second_copy_bad);
			assert_int_equal(v->from_backup, i == 0);
			volkeys_free(kt_unlock(v));
			assert_true(v->second_copy_bad);
			kt_lock(v);
			v->lock_shared = true;
			volkeys_free(kt_unlock(v));
			assert_true(v->second_copy_bad);
			v->lock_shared = false;
			kt_arm(2, ENOSPC); /* can't be mended now: no reason to refuse */
			volkeys_free(kt_unlock(v));
			assert_true(v->second_copy_bad);
			kt_arm(0, 0);
			volkeys_free(kt_unlock(v));
			assert_false(v->second_copy_bad);
			assert_true(same_copies());
			volume_close(v);
		}
	}
}

/* The first copy parses but is not authentic; the second one is. */
static void first_copy_forged(void **state)
{
	struct volume *v;
	char backup[8192];
	size_t n;

	(void)state;
	with_member("policy.rotate_days", "0");
	put(DESCRIPTOR_BACKUP, text, text_len);
	v = kt_open();
	assert_int_equal(v->rotate_days, 0); /* not authenticated yet */
	assert_non_null(v->second);
	kt_lock(v);
	volkeys_free(kt_unlock(v));
	assert_int_equal(v->rotate_days, 90);
	assert_null(v->second);
	assert_false(v->from_backup);
	volume_close(v);
	assert_true(same_copies());
	n = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), backup, sizeof(backup));
	assert_int_equal(n, text_len);
}

/* A newer program was stopped between the copies: neither is touched. */
static void newer_in_one_copy(void **state)
{
	struct err_why why;

	(void)state;
	with_member("blobcryptfs", "2");
	put(VOLUME_DESCRIPTOR, text, text_len);
	assert_refused(open_why(&why), ERR_UNSUPPORTED, why, "format version 2");
	with_member("blobcryptfs", "2");
	put(DESCRIPTOR_BACKUP, text, text_len);
	assert_refused(open_why(&why), ERR_UNSUPPORTED, why, "format version 2");
	put(DESCRIPTOR_BACKUP, "", 0);
	assert_refused(open_why(&why), ERR_UNSUPPORTED, why, "format version 2");
}

static void times(void **state)
{
	static const char *const bad[] = {"", "2026", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00",
		"2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", " 2026-01-01T00:00:00Z"};
	char out[32];
	time_t t;

	(void)state;
	assert_ok(utc_parse("2026-11-22T12:00:00Z", &t));
	assert_int_equal(t, 1795348800);
	utc_format(t, out);
	assert_string_equal(out, "2026-11-22T12:00:00Z");
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(utc_parse(bad[i], &t), ERR_CORRUPT);
	utc_format((time_t)INT64_MAX, out); /* no such year: some valid text */
	assert_ok(utc_parse(out, &t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plain_reasons, make, kt_teardown),
		cmocka_unit_test_setup_teardown(members, make, kt_teardown),
		cmocka_unit_test_setup_teardown(values, make, kt_teardown),
		cmocka_unit_test_setup_teardown(swapped_keys, make, kt_teardown),
		cmocka_unit_test_setup_teardown(other_layout, make, kt_teardown),
		cmocka_unit_test_setup_teardown(flipped_bytes, make, kt_teardown),
		cmocka_unit_test_setup_teardown(cut, make, kt_teardown),
		cmocka_unit_test_setup_teardown(mended, make, kt_teardown),
		cmocka_unit_test_setup_teardown(first_copy_forged, make, kt_teardown),
		cmocka_unit_test_setup_teardown(newer_in_one_copy, make, kt_teardown),
		cmocka_unit_test(times),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
