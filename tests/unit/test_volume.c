/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of making, opening and re-keying a volume, with every durable step failing or ending the process. */
#include "keyprov/descriptor.h"
#include "keytest.h"

/* ---- create ---- */

static void create_and_open(void **state)
{
	static const enum suite suites[] = {SUITE_GCM, SUITE_XTS_GCM};

	(void)state;
	for (size_t i = 0; i < COUNT(suites); i++) {
		uint8_t a[32], b[32];
		struct volume *v;

		kt_create(suites[i]);
		v = kt_open();
		assert_int_equal(v->suite, suites[i]);
		assert_string_equal(v->provider, "managed");
		assert_string_equal(v->source, "store");
		assert_int_equal(v->key.version, 1);
		assert_false(v->second_copy_bad);
		volume_close(v);
		assert_int_equal(kt_files(kt.back), 5);
		assert_int_equal(kt_files(kt.store), 1);
		kt_fingerprint(a);
		kt_fingerprint(b);
		assert_memory_equal(a, b, 32);
		kt_rm(kt.back);
		kt_rm(kt.store);
		assert_int_equal(mkdir(kt.back, 0700), 0);
	}
	volume_close(NULL);
}

static void create_refused(void **state)
{
	struct volume_init in = {.suite = (enum suite)3};
	struct err_why why;
	json_t *j = kt_conf("%s", kt_store_spec());

	(void)state;
	in.provider = j;
	assert_int_equal(volume_create(kt.back, kt.f, &in, &why), ERR_BUG);
	in.suite = SUITE_GCM;
	in.provider = NULL;
	assert_int_equal(volume_create(kt.back, kt.f, &in, &why), ERR_BUG);
	in.provider = j;
	in.rotate_days = 36501;
	assert_refused(volume_create(kt.back, kt.f, &in, &why), ERR_CONFIG, why, "at most every");
	in.rotate_days = 0;
	assert_refused(volume_create(kt_path(kt.dir, "none"), kt.f, &in, &why), ERR_NOT_FOUND, why, "make it first");
	kt_write(kt_path(kt.dir, "plain"), "", 0, 0600);
	assert_refused(volume_create(kt_path(kt.dir, "plain"), kt.f, &in, &why), ERR_IO, why, "can't open");
	json_decref(j);
	kt_write(kt_path(kt.back, "letter"), "", 0, 0600);
	assert_refused(
		kt_create_why(SUITE_GCM, kt_store_spec(), &why), ERR_CONFIG, why, "is not empty (it has letter)");
	assert_int_equal(kt_files(kt.back), 1);
	unlink(kt_path(kt.back, "letter"));
	assert_int_equal(mkdir(kt_path(kt.back, "lost+found"), 0700), 0);
	kt_create(SUITE_GCM);
	assert_refused(
		kt_create_why(SUITE_GCM, kt_store_spec(), &why), ERR_EXISTS, why, "is a blobcryptfs volume already");
	unlink(kt_path(kt.back, VOLUME_DESCRIPTOR));
	assert_refused(
		kt_create_why(SUITE_GCM, kt_store_spec(), &why), ERR_EXISTS, why, "is a blobcryptfs volume already");
	kt_fingerprint((uint8_t[32]){0});
}

/* A key that isn't there: nothing is made. */
static void create_without_key(void **state)
{
	char spec[256];
	struct err_why why;

	(void)state;
	snprintf(spec, sizeof(spec), "file:%s/nokey", kt.dir);
	assert_refused(kt_create_why(SUITE_GCM, spec, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	assert_int_equal(kt_files(kt.back), 0);
}

/* Each durable step fails once, with the process going on; then each one ends it. */
static void create_all_or_nothing(void **state)
{
	struct err_why why;
	unsigned n, steps = 0;
	int status;
	pid_t pid;

	(void)state;
	for (n = 1;; n++) {
		enum err e;

		kt_arm(n, ENOSPC);
		e = kt_create_why(SUITE_XTS_GCM, kt_store_spec(), &why);
		steps = kt_step;
		kt_arm(0, 0);
		if (e == ERR_OK && n > steps)
			break;
		if (e == ERR_OK) { /* the step was one that may fail: removing a temporary name */
			kt_fingerprint((uint8_t[32]){0});
		} else {
			assert_true(why.text[0] != '\0');
			assert_int_equal(kt_files(kt.back), 0);
			assert_int_equal(kt_files(kt.store), 0);
		}
		kt_rm(kt.back);
		kt_rm(kt.store);
		assert_int_equal(mkdir(kt.back, 0700), 0);
	}
	print_message("# %u durable steps\n", steps);
	assert_in_range(steps, 15, 60);
	for (n = 1; n <= 2 * steps; n++) {
		struct volume *v;
		enum err e;

		kt_rm(kt.back);
		kt_rm(kt.store);
		assert_int_equal(mkdir(kt.back, 0700), 0);
		pid = fork();
		if (pid == 0) {
			kt_arm((n + 1) / 2, n % 2 ? 0 : -1);
			(void)kt_create_why(SUITE_GCM, kt_store_spec(), &why);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), KT_CRASHED);
		e = volume_open(kt.back, &v, &why);
		volume_close(v);
		if (e == ERR_OK)
			kt_fingerprint((uint8_t[32]){0}); /* a volume, whole */
		else
			assert_int_equal(e, ERR_NOT_FOUND);
	}
}

/* ---- rotate ---- */

static enum err rotate(const json_t *next, struct err_why *why)
{
	struct volume *v = kt_open();
	enum err e;

	memset(why, 0, sizeof(*why));
	e = volume_rotate(v, kt.f, next, why);
	assert_int_equal(v->lock_fd, -1);
	volume_close(v);
	return e;
}

static bool copies_equal(void)
{
	char a[8192], b[8192];
	size_t n = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), a, sizeof(a));

	return kt_read(kt_path(kt.back, DESCRIPTOR_BACKUP), b, sizeof(b)) == n && memcmp(a, b, n) == 0;
}

static void rotate_100(void **state)
{
	uint8_t before[32], after[32];
	struct volume *v;
	struct err_why why;

	(void)state;
	kt_create(SUITE_XTS_GCM);
	kt_fingerprint(before);
	v = kt_open();
	kt_lock(v);
	for (unsigned i = 0; i < 100; i++) {
		assert_ok(volume_rotate(v, kt.f, NULL, &why)); /* as in a running mount: under its lock */
		assert_int_equal(v->key.version, i + 2);
		assert_int_equal(kt_files(kt.store), 1);
	}
	volkeys_free(kt_unlock(v));
	volume_close(v);
	v = kt_open();
	assert_int_equal(v->key.version, 101);
	volume_close(v);
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);
	assert_true(copies_equal());
	assert_int_equal(kt_files(kt.back), 5);
}

/* A fresh volume with its key store, and its fingerprint. */
static void fresh(uint8_t out[32])
{
	kt_rm(kt.back);
	kt_rm(kt.store);
	assert_int_equal(mkdir(kt.back, 0700), 0);
	kt_create(SUITE_XTS_GCM);
	kt_fingerprint(out);
}

static void check_after_crash(const uint8_t before[32])
{
	struct volume *v = kt_open();
	uint8_t after[32];
	struct err_why why;
	unsigned version;
	char dir[160];

	/* each copy by itself opens, with a KEK that is there */
	volkeys_free(kt_unlock(v));
	if (v->second) {
		json_t *first = v->descriptor;

		v->descriptor = v->second;
		v->second = NULL;
		volkeys_free(kt_unlock(v));
		v->second = v->descriptor;
		v->descriptor = first;
	}
	volume_close(v);
	kt_fingerprint(after); /* under the lock: mends */
	assert_memory_equal(before, after, 32);
	assert_true(copies_equal());
	v = kt_open();
	assert_false(v->second_copy_bad);
	version = v->key.version;
	kt_key_dir(v, dir);
	volume_close(v);
	assert_in_range(version, 1, 2);
	assert_int_equal(access(kt_path(dir, version == 1 ? "v1.key" : "v2.key"), F_OK), 0);
	/* and the next rotation leaves one key and no rubbish */
	assert_ok(rotate(NULL, &why));
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);
	assert_int_equal(kt_files(kt.store), 1);
	assert_int_equal(kt_files(kt.back), 5);
}

static void rotate_crash_points(void **state)
{
	uint8_t before[32];
	unsigned points = 0;

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		for (unsigned n = 1;; n++, points++) {
			int status;
			pid_t pid;

			fresh(before);
			pid = fork();
			if (pid == 0) {
				struct err_why why;
				struct volume *v = kt_open();

				kt_arm(n, mode ? -1 : 0);
				_exit(volume_rotate(v, kt.f, NULL, &why) == ERR_OK ? 0 : 1);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFEXITED(status));
			check_after_crash(before);
			if (WEXITSTATUS(status) == 0)
				break;
			assert_int_equal(WEXITSTATUS(status), KT_CRASHED);
		}
	}
	print_message("# %u crash points\n", points);
	assert_true(points > 20);
}

static void rotate_failing_steps(void **state)
{
	(void)state;
	for (unsigned n = 1;; n++) {
		uint8_t before[32], after[32];
		struct err_why why;
		unsigned steps;
		enum err e;

		fresh(before);
		kt_arm(n, EIO);
		e = rotate(NULL, &why);
		steps = kt_step;
		kt_arm(0, 0);
		if (n > steps) {
			assert_ok(e);
			break;
		}
		if (e != ERR_OK)
			assert_true(why.text[0] != '\0');
		kt_fingerprint(after);
		assert_memory_equal(before, after, 32);
		check_after_crash(before);
	}
}

/* A rotation that fails half-way in a running mount: the same struct goes on. */
static void rotate_fails_and_goes_on(void **state)
{
	struct err_why why;
	struct volume *v;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	kt_lock(v);
	for (unsigned n = 1; n < 30; n++) {
		kt_arm(n, EIO);
		(void)!volume_rotate(v, kt.f, NULL, &why);
		kt_arm(0, 0);
		volkeys_free(kt_unlock(v));
		assert_false(v->second_copy_bad);
		assert_null(v->second);
	}
	assert_ok(volume_rotate(v, kt.f, NULL, &why));
	assert_int_equal(kt_files(kt.store), 1);
	volume_close(v);
}

/* An older copy of the backing directory, after its key has gone. */
static void old_backup(void **state)
{
	char text[8192];
	struct err_why why;
	struct volkeys *vk;
	struct volume *v;
	size_t n;

	(void)state;
	kt_create(SUITE_GCM);
	n = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), text, sizeof(text));
	assert_ok(rotate(NULL, &why));
	kt_write(kt_path(kt.back, VOLUME_DESCRIPTOR), text, n, 0600);
	kt_write(kt_path(kt.back, DESCRIPTOR_BACKUP), text, n, 0600);
	v = kt_open();
	assert_refused(
		volume_unlock(v, kt.f, NULL, &vk, &why), ERR_KEY_UNAVAILABLE, why, "put the newest blobcryptfs.json");
	assert_null(vk);
	volume_close(v);
}

/* A missing store stays missing: unlocking makes nothing. */
static void missing_store(void **state)
{
	struct err_why why;
	struct volkeys *vk;
	struct volume *v;

	(void)state;
	kt_create(SUITE_GCM);
	kt_rm(kt.store);
	v = kt_open();
	kt_lock(v);
	assert_refused(volume_unlock(v, kt.f, NULL, &vk, &why), ERR_KEY_UNAVAILABLE, why, "managed_key=");
	assert_refused(volume_rotate(v, kt.f, NULL, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	assert_int_equal(access(kt.store, F_OK), -1);
	volume_close(v);
}

static void key_replaced(void **state)
{
	struct err_why why;
	struct volkeys *vk;
	struct volume *v;
	char dir[160];

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	kt_key_dir(v, dir);
	kt_write(
		kt_path(dir, "v1.key"), "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", 65, 0600);
	assert_refused(volume_unlock(v, kt.f, NULL, &vk, &why), ERR_KEY_DENIED, why, "does not open this volume");
	volume_close(v);
}

/* ---- other keys ---- */

static void write_hex_key(const char *path, char digit)
{
	char hex[64];

	memset(hex, digit, sizeof(hex));
	kt_write(path, hex, sizeof(hex), 0600);
}

/* store to file, file to file, file to passphrase, and back */
static void change_source(void **state)
{
	char a[128], b[128], pass[128];
	uint8_t before[32], after[32];
	struct err_why why;
	struct volume *v;
	json_t *j;

	(void)state;
	snprintf(a, sizeof(a), "%s/a.key", kt.dir);
	snprintf(b, sizeof(b), "%s/b.key", kt.dir);
	snprintf(pass, sizeof(pass), "%s/pass", kt.dir);
	write_hex_key(a, 'a');
	write_hex_key(b, 'b');
	kt_write(pass, "correct horse battery", 21, 0600);
	kt_create(SUITE_XTS_GCM);
	kt_fingerprint(before);

	j = kt_conf("file:%s", a);
	assert_ok(rotate(j, &why));
	assert_int_equal(kt_files(kt.store), 0); /* the store's key is not needed any more */
	assert_refused(rotate(j, &why), ERR_CONFIG, why, "in use already");
	json_decref(j);
	v = kt_open();
	assert_string_equal(v->source, "file");
	assert_false(volume_rotation_due(v, v->wrapped_at + 1000 * 86400L));
	volume_close(v);
	assert_refused(rotate(NULL, &why), ERR_UNSUPPORTED, why, "changed by you");
	j = kt_conf("file:%s/none", kt.dir);
	assert_refused(rotate(j, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	json_decref(j);
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);

	j = kt_conf("file:%s", b);
	assert_ok(rotate(j, &why));
	json_decref(j);
	assert_int_equal(unlink(a), 0);
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);

	j = kt_conf("passphrase:%s", pass);
	assert_ok(rotate(j, &why));
	json_decref(j);
	v = kt_open();
	assert_string_equal(v->source, "passphrase");
	volume_close(v);
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);
	assert_ok(rotate(NULL, &why)); /* the same passphrase, a new salt */
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);
	kt_write(pass, "another passphrase", 18, 0600);
	v = kt_open();
	assert_refused(volume_rotate(v, kt.f, NULL, &why), ERR_KEY_DENIED, why, "wrong passphrase");
	volume_close(v);
	kt_write(pass, "correct horse battery", 21, 0600);

	j = kt_conf("%s", kt_store_spec());
	assert_ok(rotate(j, &why));
	json_decref(j);
	assert_int_equal(kt_files(kt.store), 1);
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);
}

/* The store named again as the new key: the same place, so a plain rotation. */
static void same_store_again(void **state)
{
	struct err_why why;
	json_t *j = kt_conf("%s", kt_store_spec());

	(void)state;
	kt_create(SUITE_GCM);
	assert_ok(rotate(j, &why));
	assert_int_equal(kt_files(kt.store), 1);
	kt_fingerprint((uint8_t[32]){0});
	json_decref(j);
}

/* An escrow copy of the store's key file stands in for the store. */
static void override_at_mount(void **state)
{
	char key[128], dir[160], text[128];
	struct err_why why = {0};
	struct volkeys *vk;
	struct volume *v;
	json_t *j;

	(void)state;
	snprintf(key, sizeof(key), "%s/escrow", kt.dir);
	kt_create(SUITE_GCM);
	v = kt_open();
	kt_key_dir(v, dir);
	assert_int_equal(kt_read(kt_path(dir, "v1.key"), text, sizeof(text)), 65);
	kt_write(key, text, 65, 0600);
	kt_rm(kt.store);
	j = kt_conf("file:%s", key);
	assert_ok(volume_unlock(v, kt.f, j, &vk, &why));
	volkeys_free(vk);
	assert_refused(volume_unlock(v, kt.f, NULL, &vk, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	assert_int_equal(kt_files(kt.back), 5);
	/* and from it into a new store */
	{
		json_t *next = kt_conf("%s", kt_store_spec());

		assert_ok(volume_rekey(v, kt.f, j, next, &why));
		json_decref(next);
	}
	volkeys_free(kt_unlock(v));
	json_decref(j);
	j = kt_conf("passphrase");
	assert_refused(volume_unlock(v, kt.f, j, &vk, &why), ERR_CONFIG, why, "can't stand in for");
	json_decref(j);
	volume_close(v);
}

/* Copies with different salts (a rotation was cut short): the passphrase is asked for once. */
static void passphrase_two_salts(void **state)
{
	char spec[160], old[8192];
	uint8_t before[32], after[32];
	struct err_why why;
	int saved = dup(STDIN_FILENO), p[2];
	struct volkeys *vk;
	struct volume *v;
	size_t n;
	json_t *j;

	(void)state;
	snprintf(spec, sizeof(spec), "passphrase:%s/pass", kt.dir);
	kt_write(kt_path(kt.dir, "pass"), "correct horse battery", 21, 0600);
	assert_ok(kt_create_why(SUITE_GCM, spec, &why));
	kt_fingerprint(before);
	n = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), old, sizeof(old));
	j = kt_conf("%s", spec);
	kt_write(kt_path(kt.dir, "pass2"), "an entirely new one", 19, 0600);
	json_object_set_new(j, "file", json_string(kt_path(kt.dir, "pass2")));
	v = kt_open();
	assert_ok(volume_rotate(v, kt.f, j, &why));
	volume_close(v);
	json_decref(j);
	kt_write(kt_path(kt.back, DESCRIPTOR_BACKUP), old, n, 0600);
	/* The user types the old passphrase, once: the first copy refuses it, the second takes it. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "correct horse battery\n", 22), 22);
	close(p[1]);
	assert_int_equal(dup2(p[0], STDIN_FILENO), STDIN_FILENO);
	j = kt_conf("passphrase");
	v = kt_open();
	assert_ok(volume_unlock(v, kt.f, j, &vk, &why));
	assert_true(v->from_backup);
	kt_print_key(vk, after);
	assert_memory_equal(before, after, 32);
	volkeys_free(vk);
	volume_close(v);
	json_decref(j);
	assert_int_equal(dup2(saved, STDIN_FILENO), STDIN_FILENO);
	close(saved);
	close(p[0]);
}

static void rotation_due(void **state)
{
	struct volume v = {.provider = "managed", .source = "store", .rotate_days = 90, .key.created = 1000000};
	const time_t age = 90 * 86400;

	(void)state;
	assert_false(volume_rotation_due(&v, 1000000 + age - 1));
	assert_true(volume_rotation_due(&v, 1000000 + age));
	assert_false(volume_rotation_due(&v, 999999)); /* a clock set back */
	v.rotate_days = 0;
	assert_false(volume_rotation_due(&v, 1000000 + age));
	v.rotate_days = 90;
	strcpy(v.source, "passphrase");
	assert_false(volume_rotation_due(&v, 1000000 + age));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(create_and_open, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(create_refused, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(create_without_key, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(create_all_or_nothing, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(rotate_100, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(rotate_crash_points, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(rotate_failing_steps, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(rotate_fails_and_goes_on, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(old_backup, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(missing_store, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(key_replaced, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(change_source, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(same_store_again, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(override_at_mount, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(passphrase_two_salts, kt_setup, kt_teardown),
		cmocka_unit_test(rotation_due),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
