/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the managed provider: the text of its options, its four sources, and every way a key file can be wrong. */
#include "keytest.h"

static const char hex_key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
/* wrap and unwrap give the same key back */
static void round_trip(struct keyprov *p, struct keyprov *q)
{
	struct secret *key = test_secret(7, 32), *back;
	struct err_why why = {0};
	struct key_ref ref;
	struct wrapped w;
	enum err e = keyprov_wrap(p, key, &w, &ref, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	assert_int_equal(w.len, 40);
	assert_ok(keyprov_unwrap(q, &w, &ref, &back, &why));
	assert_memory_equal(secret_view(back), secret_view(key), 32);
	secret_free(back);
	w.bytes[3] ^= 1;
	assert_int_equal(keyprov_unwrap(q, &w, &ref, &back, &why), ERR_KEY_DENIED);
	assert_null(back);
	w.len = 0;
	assert_int_equal(keyprov_unwrap(q, &w, &ref, &back, &why), ERR_CORRUPT);
	secret_free(key);
}

/* ---- options ---- */

static void specs(void **state)
{
	static const struct {
		const char *spec, *json;
	} good[] = {
		{"store", "{\"source\":\"store\"}"},
		{"store:/a b", "{\"dir\":\"/a b\",\"source\":\"store\"}"},
		{"file:/k", "{\"path\":\"/k\",\"source\":\"file\"}"},
		{"credential:my.key", "{\"name\":\"my.key\",\"source\":\"credential\"}"},
		{"passphrase", "{\"source\":\"passphrase\"}"},
		{"passphrase:/p:q", "{\"file\":\"/p:q\",\"source\":\"passphrase\"}"},
	};
	static const char *const bad[] = {"", "stor", "storex", "store:", "file", "file:", "credential",
		"credential:", "credential:a/b", "credential:.", "credential:..", "credential:.x", "passphrase:", "tpm",
		"file:/\xff", "file:\xff", "credential:\xff", ":", "STORE"};
	char text[1024], cwd[256];
	struct err_why why;
	json_t *j;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		j = kt_conf("%s", good[i].spec);
		text[json_dumpb(j, text, sizeof(text) - 1, JSON_COMPACT | JSON_SORT_KEYS)] = '\0';
		assert_string_equal(text, good[i].json);
		json_decref(j);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		why.text[0] = '\0';
		assert_null(managed_conf(bad[i], &why));
		assert_true(why.text[0] != '\0');
	}
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	j = kt_conf("file:rel/key");
	snprintf(text, sizeof(text), "%s/rel/key", cwd);
	assert_string_equal(json_string_value(json_object_get(j, "path")), text);
	json_decref(j);
	memset(text, 'x', 1000);
	memcpy(text, "credential:", 11);
	text[1000] = '\0';
	assert_null(managed_conf(text, &why));
}

static void long_path(void **state)
{
	char *spec = malloc(6000);
	struct err_why why;

	(void)state;
	memset(spec, 'x', 5999);
	memcpy(spec, "file:/", 6);
	spec[5999] = '\0';
	assert_null(managed_conf(spec, &why));
	assert_non_null(strstr(why.text, "too long"));
	free(spec);
}

static void stand_ins(void **state)
{
	static const struct {
		const char *was, *now;
		bool ok;
	} cases[] = {{"store", "file:/k", true}, {"file:/a", "credential:b", true}, {"store", "passphrase", false},
		{"passphrase", "store", false}, {"passphrase", "passphrase:/p", true}};
	struct err_why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		json_t *was = kt_conf("%s", cases[i].was), *now = kt_conf("%s", cases[i].now), *j;

		json_object_set_new(was, "salt", json_string("S"));
		j = managed_conf_now(was, now, &why);
		assert_int_equal(j != NULL, cases[i].ok);
		if (j)
			assert_string_equal(json_string_value(json_object_get(j, "salt")), "S");
		else
			assert_non_null(strstr(why.text, "can't stand in for"));
		json_decref(j);
		json_decref(was);
		json_decref(now);
	}
}

/* What a hostile descriptor can put into the provider object. */
static void bad_conf(void **state)
{
	static const struct {
		const char *json;
		enum err e;
	} bad[] = {
		{"{}", ERR_CORRUPT},
		{"{\"source\":7}", ERR_CORRUPT},
		{"{\"source\":\"tpm\"}", ERR_UNSUPPORTED},
		{"{\"source\":\"store\"}", ERR_CORRUPT},
		{"{\"source\":\"store\",\"volume\":\"../../etc\"}", ERR_BUG},
		{"{\"source\":\"store\",\"dir\":\"rel\"}", ERR_CORRUPT},
		{"{\"source\":\"store\",\"dir\":7}", ERR_CORRUPT},
		{"{\"source\":\"store\",\"dir\":\"\"}", ERR_CORRUPT},
		{"{\"source\":\"store\",\"path\":\"/x\"}", ERR_UNSUPPORTED},
		{"{\"source\":\"file\"}", ERR_CORRUPT},
		{"{\"source\":\"file\",\"path\":\"x\"}", ERR_CORRUPT},
		{"{\"source\":\"credential\",\"name\":\"../x\"}", ERR_CORRUPT},
		{"{\"source\":\"credential\",\"name\":\"..\"}", ERR_CORRUPT},
		{"{\"source\":\"passphrase\",\"salt\":\"AAAA\",\"rounds\":600000}", ERR_CORRUPT},
		{"{\"source\":\"passphrase\",\"salt\":\"!\",\"rounds\":600000}", ERR_CORRUPT},
		{"{\"source\":\"passphrase\",\"rounds\":600000}", ERR_CORRUPT},
		{"{\"source\":\"passphrase\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", ERR_CORRUPT},
		{"{\"source\":\"passphrase\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"rounds\":"
		 "599999}",
			ERR_CORRUPT},
		{"{\"source\":\"passphrase\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
		 "\"rounds\":100000001}",
			ERR_CORRUPT},
	};
	struct keyprov *p;
	struct err_why why;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		json_t *j = json_loads(bad[i].json, 0, NULL);
		enum err e;

		assert_non_null(j);
		why.text[0] = '\0';
		e = keyprov_open("managed", kt.f, j, NULL, &p, &why);
		if (e != bad[i].e)
			print_error("%s: %d %s\n", bad[i].json, (int)e, why.text);
		assert_int_equal(e, bad[i].e);
		assert_true(why.text[0] != '\0');
		assert_null(p);
		json_decref(j);
	}
	assert_null(keyprov_find("azure"));
	assert_null(keyprov_find(NULL));
	assert_ptr_equal(keyprov_find("managed"), &managed_ops);
	assert_int_equal(keyprov_open("azure", kt.f, NULL, NULL, &p, &why), ERR_UNSUPPORTED);
	assert_int_equal(keyprov_open("managed", kt.f, NULL, NULL, &p, &why), ERR_BUG);
	keyprov_close(NULL);
}

/* ---- key files ---- */

static enum err try_file(const char *path, struct err_why *why)
{
	struct keyprov *p = kt_provider(kt_conf("file:%s", path), NULL);
	struct secret *key = test_secret(7, 32);
	struct key_ref ref;
	struct wrapped w;
	enum err e;

	memset(why, 0, sizeof(*why));
	e = keyprov_wrap(p, key, &w, &ref, why);
	secret_free(key);
	keyprov_close(p);
	return e;
}

static void key_files(void **state)
{
	const char *path = kt_path(kt.dir, "key");
	char raw[32], zeros[65];
	struct err_why why;

	(void)state;
	assert_refused(try_file(path, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	assert_non_null(strstr(why.text, path));
	kt_write(path, hex_key, 65, 0600);
	assert_ok(try_file(path, &why));
	kt_write(path, hex_key, 64, 0400);
	assert_ok(try_file(path, &why));
	memset(raw, 0xfe, sizeof(raw));
	kt_write(path, raw, 32, 0600);
	assert_ok(try_file(path, &why));
	for (size_t len = 0; len <= 64; len++) {
		if (len == 32 || len == 64)
			continue;
		kt_write(path, hex_key, len, 0600);
		assert_refused(try_file(path, &why), ERR_CORRUPT, why, "wrong length");
	}
	memcpy(zeros, hex_key, 65);
	zeros[64] = 'x';
	kt_write(path, zeros, 65, 0600);
	assert_refused(try_file(path, &why), ERR_CORRUPT, why, "wrong length");
	kt_write(path, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\n", 66, 0600);
	assert_refused(try_file(path, &why), ERR_CORRUPT, why, "wrong length");
	memcpy(zeros, hex_key, 65);
	zeros[40] = 'g';
	kt_write(path, zeros, 65, 0600);
	assert_refused(try_file(path, &why), ERR_CORRUPT, why, "not 64 hexadecimal digits");
	memset(zeros, '0', 64);
	kt_write(path, zeros, 64, 0600);
	assert_refused(try_file(path, &why), ERR_CORRUPT, why, "all zeros");
	memset(raw, 0, sizeof(raw));
	kt_write(path, raw, 32, 0600);
	assert_refused(try_file(path, &why), ERR_CORRUPT, why, "all zeros");
}

static void key_file_access(void **state)
{
	static const mode_t open_modes[] = {0640, 0620, 0610, 0604, 0602, 0601, 0666};
	const char *path = kt_path(kt.dir, "key"), *other = kt_path(kt.dir, "link");
	struct err_why why;

	(void)state;
	for (size_t i = 0; i < COUNT(open_modes); i++) {
		kt_write(path, hex_key, 65, open_modes[i]);
		assert_refused(try_file(path, &why), ERR_CONFIG, why, "is open to others");
	}
	kt_write(path, hex_key, 65, 0600);
	assert_int_equal(symlink(path, other), 0);
	assert_refused(try_file(other, &why), ERR_CONFIG, why, "is a symbolic link");
	assert_int_equal(unlink(other), 0);
	assert_int_equal(mkfifo(other, 0600), 0);
	assert_refused(try_file(other, &why), ERR_CONFIG, why, "not a regular file");
	assert_refused(try_file(kt.back, &why), ERR_CONFIG, why, "not a regular file");
	assert_refused(try_file(kt_path(kt.dir, "key/below"), &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	if (geteuid() != 0) {
		assert_int_equal(chmod(path, 0), 0);
		assert_refused(try_file(path, &why), ERR_CONFIG, why, "no permission");
		return;
	}
	assert_int_equal(chown(path, 12345, 0), 0);
	assert_refused(try_file(path, &why), ERR_CONFIG, why, "belongs to user 12345");
}

/* The refusals that root can't see. */
static void as_user(void **state)
{
	const char *path = kt_path(kt.dir, "key");
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	kt_write(path, hex_key, 65, 0600);
	assert_int_equal(chmod(kt.dir, 0755), 0);
	pid = fork();
	if (pid == 0) {
		struct err_why why;

		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(2);
		_exit(try_file(path, &why) == ERR_CONFIG && strstr(why.text, "no permission") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void file_source(void **state)
{
	const char *path = kt_path(kt.dir, "key");
	struct keyprov *p;
	struct err_why why;
	struct key_ref ref = {.version = 1}, newest;
	enum key_state ks;

	(void)state;
	kt_write(path, hex_key, 65, 0600);
	p = kt_provider(kt_conf("file:%s", path), NULL);
	round_trip(p, p);
	assert_refused(keyprov_rotate(p, &newest, &why), ERR_UNSUPPORTED, why, "changed by you");
	assert_ok(keyprov_state(p, &ref, &ks, &newest, &why));
	assert_int_equal(ks, KEY_USABLE);
	assert_int_equal(newest.version, 1);
	assert_ok(keyprov_remove(p, &ref, &why)); /* the user's file is never removed */
	assert_ok(keyprov_prune(p, &ref, &why));
	assert_int_equal(keyprov_prune(p, NULL, &why), ERR_BUG);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	assert_ok(keyprov_state(p, &ref, &ks, &newest, &why));
	assert_int_equal(ks, KEY_MISSING);
	keyprov_close(p);
}

static void credential_source(void **state)
{
	struct keyprov *p = kt_provider(kt_conf("credential:bcfs"), NULL);
	struct secret *key = test_secret(1, 32);
	struct err_why why;
	struct key_ref ref;
	struct wrapped w;

	(void)state;
	unsetenv("CREDENTIALS_DIRECTORY");
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_KEY_UNAVAILABLE, why, "LoadCredential=bcfs");
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", kt.dir, 1), 0);
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	kt_write(kt_path(kt.dir, "bcfs"), hex_key, 65, 0440); /* how systemd shows a credential given by ACL */
	round_trip(p, p);
	kt_write(kt_path(kt.dir, "bcfs"), hex_key, 65, 0444);
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_CONFIG, why, "open to others");
	assert_refused(keyprov_rotate(p, &ref, &why), ERR_UNSUPPORTED, why, "credential");
	unsetenv("CREDENTIALS_DIRECTORY");
	secret_free(key);
	keyprov_close(p);
}

/* ---- store ---- */

static void store_source(void **state)
{
	struct keyprov *p = kt_provider(kt_conf("%s", kt_store_spec()), NULL);
	struct secret *key = test_secret(1, 32), *back;
	struct key_ref ref = {.version = 1}, newest;
	struct err_why why;
	struct wrapped w, old;
	char dir[256];
	struct stat st;
	enum key_state ks;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/%s", kt.store, KT_VOLUME);
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_KEY_UNAVAILABLE, why, "key store");
	assert_int_equal(mkdir(kt.store, 0700), 0);
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_KEY_UNAVAILABLE, why, "key directory");
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_KEY_UNAVAILABLE, why, "has no key in it");
	kt_rm(kt.store); /* asking made nothing, rotating makes all of it */
	assert_ok(keyprov_rotate(p, &newest, &why));
	assert_int_equal(newest.version, 1);
	assert_string_equal(newest.id, KT_VOLUME);
	assert_int_equal(stat(kt.store, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(kt_path(dir, "v1.key"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 65);
	round_trip(p, p);
	assert_ok(keyprov_wrap(p, key, &old, &ref, &why));
	assert_ok(keyprov_rotate(p, &newest, &why));
	assert_int_equal(newest.version, 2);
	assert_ok(keyprov_wrap(p, key, &w, &newest, &why));
	assert_int_equal(newest.version, 2);
	assert_ok(keyprov_unwrap(p, &old, &ref, &back, &why)); /* both versions serve */
	secret_free(back);
	assert_int_equal(keyprov_unwrap(p, &old, &newest, &back, &why), ERR_KEY_DENIED);
	/* names that aren't ours don't count */
	kt_write(kt_path(dir, "v07.key"), "x", 1, 0600);
	kt_write(kt_path(dir, "v9.key.old"), "x", 1, 0600);
	kt_write(kt_path(dir, "v4294967295.key"), "x", 1, 0600);
	kt_write(kt_path(dir, ".v9.key.tmp"), "x", 1, 0600);
	assert_ok(keyprov_state(p, &ref, &ks, &newest, &why));
	assert_int_equal(newest.version, 2);
	assert_ok(keyprov_prune(p, &newest, &why));
	assert_refused(keyprov_unwrap(p, &old, &ref, &back, &why), ERR_KEY_UNAVAILABLE, why, "replaced by v2.key");
	assert_ok(keyprov_state(p, &ref, &ks, &newest, &why));
	assert_int_equal(ks, KEY_MISSING);
	/* the one to keep is not there: nothing is removed */
	ref.version = 7;
	assert_int_equal(keyprov_prune(p, &ref, &why), ERR_KEY_UNAVAILABLE);
	assert_int_equal(access(kt_path(dir, "v2.key"), F_OK), 0);
	ref.version = 2;
	assert_ok(keyprov_remove(p, &ref, &why));
	assert_ok(keyprov_remove(p, &ref, &why));
	kt_rm(kt.store);
	assert_ok(keyprov_remove(p, &ref, &why));
	assert_ok(keyprov_prune(p, &ref, &why));
	secret_free(key);
	keyprov_close(p);
}

static void store_access(void **state)
{
	struct keyprov *p = kt_provider(kt_conf("%s", kt_store_spec()), NULL);
	struct key_ref ref;
	struct err_why why;
	char dir[256];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/%s", kt.store, KT_VOLUME);
	assert_ok(keyprov_rotate(p, &ref, &why));
	assert_int_equal(chmod(kt.store, 0755), 0);
	assert_refused(keyprov_rotate(p, &ref, &why), ERR_CONFIG, why, "chmod 700");
	assert_int_equal(chmod(kt.store, 0700), 0);
	assert_int_equal(chmod(dir, 0770), 0);
	assert_refused(keyprov_rotate(p, &ref, &why), ERR_CONFIG, why, "chmod 700");
	assert_int_equal(chmod(dir, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(dir, 12345, 0), 0);
		assert_refused(keyprov_rotate(p, &ref, &why), ERR_CONFIG, why, "belongs to user 12345");
		assert_int_equal(chown(dir, 0, 0), 0);
	}
	kt_write(kt_path(dir, "v2147483647.key"), hex_key, 65, 0600);
	assert_refused(keyprov_rotate(p, &ref, &why), ERR_RANGE, why, "no version numbers left");
	kt_rm(kt.store);
	kt_write(kt.store, "", 0, 0600);
	assert_int_equal(keyprov_rotate(p, &ref, &why), ERR_IO);
	assert_true(why.text[0] != '\0');
	keyprov_close(p);
}

/* Where a user's store is, by XDG and by HOME. */
static void default_store(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(chmod(kt.dir, 0777), 0);
	pid = fork();
	if (pid == 0) {
		struct keyprov *p;
		struct err_why why;
		struct key_ref ref;
		json_t *j = kt_conf("store");

		if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
			_exit(2);
		json_object_set_new(j, "volume", json_string(KT_VOLUME));
		unsetenv("HOME");
		unsetenv("XDG_DATA_HOME");
		if (keyprov_open("managed", kt.f, j, NULL, &p, &why) != ERR_CONFIG || !strstr(why.text, "HOME"))
			_exit(3);
		setenv("HOME", kt.dir, 1);
		setenv("XDG_DATA_HOME", "relative", 1);
		if (keyprov_open("managed", kt.f, j, NULL, &p, &why) != ERR_OK ||
			keyprov_rotate(p, &ref, &why) != ERR_OK)
			_exit(4);
		keyprov_close(p);
		if (access(kt_path(kt.dir, ".local/share/blobcryptfs/keys/0123456789abcdef0123456789abcdef/v1.key"),
			    R_OK))
			_exit(5);
		setenv("XDG_DATA_HOME", kt_path(kt.dir, "xdg"), 1);
		if (keyprov_open("managed", kt.f, j, NULL, &p, &why) != ERR_OK ||
			keyprov_rotate(p, &ref, &why) != ERR_OK)
			_exit(6);
		keyprov_close(p);
		if (access(kt_path(kt.dir, "xdg/blobcryptfs/keys/0123456789abcdef0123456789abcdef/v1.key"), R_OK))
			_exit(7);
		json_decref(j);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs),
		cmocka_unit_test(long_path),
		cmocka_unit_test(stand_ins),
		cmocka_unit_test(bad_conf),
		cmocka_unit_test_setup_teardown(key_files, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(key_file_access, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(as_user, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(file_source, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(credential_source, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(store_source, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(store_access, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(default_store, kt_setup, kt_teardown),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
