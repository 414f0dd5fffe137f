/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the proof of access, and of unlocking again.  PROVIDERS.md section 8. */
#include "customertest.h"

static void rotation_due_below(void **state)
{
	struct volume *v;
	time_t late;

	(void)state;
	fresh(OFF, SUITE_GCM, "store", (uint8_t[32]){0});
	v = kt_open();
	late = time(NULL) + 91 * 86400;
	assert_false(volume_rotation_due(v, late)); /* not known yet */
	volkeys_free(kt_unlock(v));
	assert_true(volume_rotation_due(v, late));
	assert_false(volume_rotation_due(v, time(NULL)));
	volume_close(v);
}

/* ---- keeper ---- */

static void probes(void **state)
{
	struct keyprov_detail d;
	struct keeper k;
	struct err_why why;
	struct volume *v;

	(void)state;
	create_with(SUITE_GCM, "file");
	v = kt_open();
	assert_int_equal(volume_keeper_open(v, kt.f, &k, &why), ERR_NOT_FOUND);
	volume_keeper_close(&k);
	assert_ok(set_key(v, FAKE_A, &why));
	fake.calls = 0;
	assert_ok(volume_keeper_open(v, kt.f, &k, &why));
	assert_int_equal(fake.calls, 0);
	assert_int_equal(k.probe_seconds, 10);
	assert_int_equal(k.lease_seconds, 600);
	assert_true(k.expired_revokes);
	volume_close(v);
	assert_ok(volume_keeper_probe(&k, false, &why));
	assert_int_equal(fake.calls, 2); /* a real unwrap, and the state */
	assert_int_equal(fake.fresh, 0);
	assert_ok(volume_keeper_probe(&k, true, &why));
	assert_int_equal(fake.fresh, 1);
	assert_string_equal(k.detail.kid, k.ref.id);
	fake.fail_all = true;
	for (enum err e = ERR_NOMEM; e <= ERR_BUG; e++) {
		bool no = e == ERR_KEY_REVOKED || e == ERR_KEY_DENIED;

		fake.fail = e;
		assert_int_equal(volume_keeper_probe(&k, false, &why), no ? ERR_KEY_REVOKED : ERR_KEY_UNAVAILABLE);
	}
	fake.fail = ERR_KEY_REVOKED;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_REVOKED);
	assert_string_equal(k.detail.reason, "ForbiddenByRbac");
	fake.fail_all = false;
	fake.state_fails = true;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_REVOKED);
	fake.fail = ERR_IO;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_UNAVAILABLE);
	fake.state_fails = false;
	fake.short_key = true;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_UNAVAILABLE);
	fake.short_key = false;
	fake.state = KEY_DISABLED;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_REVOKED);
	assert_string_equal(k.detail.reason, "KeyDisabled");
	fake.state = KEY_MISSING;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_REVOKED);
	assert_string_equal(k.detail.reason, "KeyNotFound");
	fake.state = KEY_UNREACHABLE;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_UNAVAILABLE);
	fake.state = KEY_EXPIRED;
	assert_int_equal(volume_keeper_probe(&k, false, &why), ERR_KEY_REVOKED);
	assert_string_equal(k.detail.reason, "KeyExpired");
	k.expired_revokes = false;
	assert_ok(volume_keeper_probe(&k, false, &why));
	assert_string_equal(k.detail.reason, "");
	fake.state = KEY_USABLE;
	assert_ok(volume_keeper_probe(&k, false, &why));
	d = k.detail;
	assert_int_equal(d.http_status, 200);
	volume_keeper_close(&k);
	volume_keeper_close(&k);
}

static void expired_allowed(void **state)
{
	json_t *conf = fake_conf(FAKE_A);
	struct err_why why;
	struct keeper k;
	struct volume *v;

	(void)state;
	create_with(SUITE_GCM, "file");
	json_object_set_new(conf, "expired", json_string("allow"));
	json_object_set_new(conf, "probe_seconds", json_integer(3600));
	json_object_set_new(conf, "lease_seconds", json_integer(0));
	v = kt_open();
	assert_ok(volume_customer_set(v, kt.f, NULL, conf, &why));
	fake.state = KEY_EXPIRED;
	volkeys_free(kt_unlock(v));
	assert_ok(volume_keeper_open(v, kt.f, &k, &why));
	assert_false(k.expired_revokes);
	assert_int_equal(k.probe_seconds, 3600);
	assert_int_equal(k.lease_seconds, 0);
	volume_keeper_close(&k);
	json_object_set_new(conf, "lease_seconds", json_integer(86401));
	fake.state = KEY_USABLE;
	assert_ok(volume_customer_set(v, kt.f, NULL, conf, &why));
	assert_refused(volume_keeper_open(v, kt.f, &k, &why), ERR_CORRUPT, why, "lease_seconds");
	volume_close(v);
	json_decref(conf);
}

/* ---- unlocking again ---- */

/* Puts a descriptor of v's id there that opens with a volume key of the test's. */
static void forge(const struct volume *v)
{
	char hex[64], text[16384];
	struct secret *kek = test_secret('0', 32), *key = test_secret(9, 32);
	struct wrapped w;
	struct volkeys *vk;
	json_t *j = json_loadb(text, keep(VOLUME_DESCRIPTOR, text), 0, NULL), *env;

	memset(hex, '3', sizeof(hex));
	kt_write(kt_path(kt.dir, "forged.key"), hex, sizeof(hex), 0600);
	memset(secret_bytes(kek), 0x33, 32);
	assert_ok(fips_wrap(kt.f, kek, key, w.bytes, sizeof(w.bytes), &w.len));
	b64_encode(w.bytes, w.len, hex);
	env = json_pack("{s:s, s:{s:s, s:s}, s:s, s:i, s:s, s:s}", "kind", "managed", "provider", "source", "file",
		"path", kt_path(kt.dir, "forged.key"), "key", "file", "version", 1, "wrapped_at",
		"2026-11-28T20:04:05Z", "volume_key", hex);
	assert_int_equal(json_object_set_new(j, "envelope", env), 0);
	assert_ok(volkeys_new(kt.f, SUITE_GCM, v->id, key, NULL, &vk));
	assert_ok(sealed_json_seal(j, vk, MAC_DESCRIPTOR));
	put(VOLUME_DESCRIPTOR, text, json_dumpb(j, text, sizeof(text), 0));
	put(DESCRIPTOR_BACKUP, text, keep(VOLUME_DESCRIPTOR, text));
	json_decref(j);
	volkeys_free(vk);
	secret_free(kek);
	secret_free(key);
}

/* A mount goes on with the keys it had, or none: dirty pages are not to be had by who can write the directory. */
static void reload_forged(void **state)
{
	uint8_t out[32];
	struct err_why why;
	struct volkeys *vk;
	struct volume *v;

	(void)state;
	create_with(SUITE_GCM, "file");
	run_ok(ON);
	v = kt_open();
	assert_ok(volkeys_new_empty(kt.f, v->suite, v->id, &vk)); /* a mount that waits for its keeper */
	fake.denied = FAKE_A;
	assert_int_equal(volume_reload(v, kt.f, NULL, vk, &why), ERR_KEY_REVOKED);
	fake.denied = NULL;
	assert_ok(volume_reload(v, kt.f, NULL, vk, &why));
	assert_ok(volkeys_mac(vk, MAC_AUDIT, "x", 1, out));
	volkeys_wipe(vk);
	forge(v);
	assert_ok(try_unlock(&why)); /* a volume of his own, by itself */
	assert_refused(volume_reload(v, kt.f, NULL, vk, &why), ERR_CORRUPT, why, "another volume's");
	assert_int_equal(volkeys_mac(vk, MAC_AUDIT, "x", 1, out), ERR_KEY_UNAVAILABLE);
	volkeys_free(vk);
	volume_close(v);
}

static void reload(void **state)
{
	uint8_t before[32], after[32];
	char good[16384], other[16384];
	struct err_why why = {0};
	struct volkeys *vk;
	struct volume *v;
	size_t good_len, len;

	(void)state;
	create_with(SUITE_GCM, "file");
	run_ok(ON);
	len = keep(VOLUME_DESCRIPTOR, other);
	kt_fingerprint(before);
	create_with(SUITE_XTS_GCM, "store");
	run_ok(ON);
	v = kt_open();
	kt_lock(v);
	vk = kt_unlock(v);
	kt_print_key(vk, before);
	volkeys_wipe(vk);
	fake.denied = FAKE_A;
	assert_refused(volume_reload(v, kt.f, NULL, vk, &why), ERR_KEY_REVOKED, why, "says no");
	assert_string_equal(volume_detail(v)->reason, "ForbiddenByRbac");
	assert_int_equal(volkeys_mac(vk, MAC_AUDIT, "x", 1, after), ERR_KEY_UNAVAILABLE);
	fake.denied = NULL;
	/* a whole other volume that opens with keys we have */
	good_len = keep(VOLUME_DESCRIPTOR, good);
	put(VOLUME_DESCRIPTOR, other, len);
	put(DESCRIPTOR_BACKUP, other, len);
	assert_refused(volume_reload(v, kt.f, NULL, vk, &why), ERR_CORRUPT, why, "another volume's");
	assert_int_equal(volkeys_mac(vk, MAC_AUDIT, "x", 1, after), ERR_KEY_UNAVAILABLE);
	/* the copy is mended on the way */
	put(VOLUME_DESCRIPTOR, good, good_len);
	put(DESCRIPTOR_BACKUP, good, good_len / 2);
	assert_ok(volume_reload(v, kt.f, NULL, vk, &why));
	kt_print_key(vk, after);
	assert_memory_equal(before, after, 32);
	assert_true(copies_equal());
	assert_true(v->inner_known);
	volkeys_free(vk);
	volume_close(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rotation_due_below, setup, teardown),
		cmocka_unit_test_setup_teardown(probes, setup, teardown),
		cmocka_unit_test_setup_teardown(expired_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(reload_forged, setup, teardown),
		cmocka_unit_test_setup_teardown(reload, setup, teardown),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
