/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the life of a customer's key: each step of it with every durable step and every answer of the vault failing,
 * or ending the process, and what is left on the disk.  PROVIDERS.md section 8.
 */
#include "customertest.h"
#include "keyprov/atomic_file.h"

static const char *const op_names[] = {"on", "new version", "other key", "managed below", "off"};

/* Has op happened? */
static bool has_happened(const struct volume *v, enum op op, const struct key_ref *inner_before)
{
	switch (op) {
	case ON:
		return volume_has_customer(v);
	case VERSION:
		return strstr(v->key.id, "00002") != NULL;
	case OTHER:
		return strncmp(v->key.id, FAKE_B, strlen(FAKE_B)) == 0;
	case MANAGED:
		return v->inner_key.version != inner_before->version || v->key.version == 2;
	case OFF:
		break;
	}
	return !volume_has_customer(v);
}

/* Opens without the lock, so that nothing is mended: one envelope, and not around the vault. */
static void check_unmended(const uint8_t before[32])
{
	struct volume *v = kt_open();
	struct volkeys *vk;
	struct err_why why;
	uint8_t print[32];

	assert_null(v->second); /* no two different envelopes */
	vk = kt_unlock(v);
	kt_print_key(vk, print);
	volkeys_free(vk);
	assert_memory_equal(before, print, 32);
	if (volume_has_customer(v)) {
		fake.fail_all = true;
		fake.fail = ERR_KEY_REVOKED;
		assert_int_equal(unlock_quietly(v, &why), ERR_KEY_REVOKED);
		fake.fail_all = false;
	}
	volume_close(v);
}

/* After whatever: exactly one envelope, which opens; nothing bare below a customer's key; and the step can be finished.
 */
static void check_after(enum op op, const uint8_t before[32])
{
	const struct key_ref inner = {.version = 2}; /* behind ON, of a store */
	uint8_t print[32];
	struct volume *v;
	bool customer;

	check_unmended(before);
	kt_fingerprint(print); /* under the lock: mends */
	assert_memory_equal(before, print, 32);
	v = kt_open();
	assert_false(v->second_copy_bad);
	assert_true(copies_equal());
	assert_int_equal(kt_files(kt.back), 5);
	volkeys_free(kt_unlock(v));
	customer = volume_has_customer(v);
	assert_int_equal(files_with(BARE), customer ? 0 : 2);
	if (strcmp(customer ? v->inner_source : v->source, "store") == 0)
		assert_in_range(kt_files(kt.store), 1, customer ? 1 : 3); /* the next rotation sweeps */
	if (!has_happened(v, op, &inner)) {
		volume_close(v);
		run_ok(op);
		kt_fingerprint(print);
		assert_memory_equal(before, print, 32);
		assert_int_equal(kt_files(kt.back), 5);
		v = kt_open();
		volkeys_free(kt_unlock(v));
		assert_true(has_happened(v, op, &inner));
	}
	volume_close(v);
} /* What a volume says of itself, behind op and before and after it is open; below: the source of the managed key */
static void check_described(enum op op, const char *below)
{
	struct volume *v = kt_open();

	assert_int_equal(volume_has_customer(v), op != OFF);
	assert_string_equal(v->provider, op == OFF ? "managed" : VAULT_PROVIDER);
	assert_string_equal(v->source, op == OFF ? below : "vault");
	assert_false(v->inner_known);
	volkeys_free(kt_unlock(v));
	assert_int_equal(v->inner_known, op != OFF);
	if (op != OFF) {
		assert_string_equal(v->inner_source, below);
		assert_int_equal(v->key.version, op + 1);
		assert_string_equal(volume_detail(v)->kid, v->key.id);
		assert_non_null(volume_customer_conf(v));
	} else {
		assert_null(volume_customer_conf(v));
	}
	volume_close(v);
}

static void whole_life(void **state)
{
	static const char *const sources[] = {"store", "file", "credential", "passphrase"};
	static const enum suite suites[] = {SUITE_GCM, SUITE_XTS_GCM};

	(void)state;
	for (size_t i = 0; i < 2 * COUNT(sources); i++) {
		const char *below = sources[i / 2];
		bool typed = strcmp(below, "passphrase") == 0, stored = strcmp(below, "store") == 0;
		uint8_t before[32], after[32];

		if (typed && i % 2 == 0)
			continue; /* half a second for each key */
		create_with(suites[i % 2], below);
		kt_fingerprint(before);
		for (enum op op = ON; op <= OFF; op++) {
			if (op == MANAGED && typed)
				continue; /* its new one is a key file in run() */
			if (op == MANAGED && !stored)
				below = "file";
			ready_for(op);
			run_ok(op);
			check_described(op, below);
			kt_fingerprint(after);
			assert_memory_equal(before, after, 32);
			assert_true(copies_equal());
			assert_int_equal(kt_files(kt.back), 5);
			assert_int_equal(files_with(BARE), op == OFF ? 2 : 0);
			assert_int_equal(kt_files(kt.store), stored ? 1 : 0);
		}
	}
}

/* ---- crashes and failures ---- */

/* Runs op in a process that ends at the n-th durable step; true if there is none such. */
static bool run_and_die(enum op op, unsigned n, bool behind)
{
	struct err_why why;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct volume *v = kt_open();

		if (op == MANAGED)
			volkeys_free(kt_unlock(v));
		kt_arm(n, behind ? -1 : 0);
		_exit(run(v, op, &why) == ERR_OK ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KT_CRASHED);
	return WEXITSTATUS(status) == 0;
}

static void crash_points(const char *source, enum suite suite)
{
	for (enum op op = ON; op <= OFF; op++) {
		unsigned points = 0;

		for (int behind = 0; behind < 2; behind++) {
			for (unsigned n = 1;; n++, points++) {
				uint8_t before[32];
				bool done;

				fresh(op, suite, source, before);
				done = run_and_die(op, n, behind);
				check_after(op, before);
				if (done)
					break;
			}
		}
		print_message("# %s: %s: %u crash points\n", source, op_names[op], points);
		assert_true(points > 2 * 15);
	}
}

static void crash_points_store(void **state)
{
	(void)state;
	crash_points("store", SUITE_XTS_GCM);
}

static void crash_points_file(void **state)
{
	(void)state;
	crash_points("file", SUITE_GCM);
}

/* A filesystem that can't exchange names. */
static void crash_points_no_exchange(void **state)
{
	(void)state;
	kt_no_exchange = EINVAL;
	crash_points("store", SUITE_GCM);
}

/* Only the second copy is good when the step begins. */
static void crash_points_first_copy_damaged(void **state)
{
	static const enum op ops[] = {ON, VERSION, OFF};

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		for (unsigned n = 1;; n++) {
			uint8_t before[32];
			bool done;

			fresh(ops[i], SUITE_GCM, "store", before);
			put(VOLUME_DESCRIPTOR, "{", 1);
			done = run_and_die(ops[i], n, false);
			check_after(ops[i], before);
			if (done)
				break;
		}
	}
}

/* Each durable step fails once, with the process going on, and the same struct volume. */
static void failing_steps(void **state)
{
	static const int errnos[] = {ENOSPC, EIO};

	(void)state;
	for (enum op op = ON; op <= OFF; op++) {
		unsigned taken_back = 0;

		for (unsigned n = 1;; n++) {
			uint8_t before[32];
			struct err_why why = {0};
			struct volume *v;
			unsigned steps;
			enum err e;

			kt_no_exchange = n % 3 == 0 ? ENOSYS : 0;
			fresh(op, SUITE_XTS_GCM, "store", before);
			v = kt_open();
			kt_lock(v);
			volkeys_free(kt_unlock(v));
			kt_arm(n, errnos[n % 2]);
			e = run(v, op, &why);
			steps = kt_step;
			kt_arm(0, 0);
			assert_true(e == ERR_OK || why.text[0]);
			if (!has_happened(v, op, &(struct key_ref){.version = 2})) {
				assert_true(copies_equal()); /* put back */
				taken_back += kt_files(kt.store) == 1;
			}
			volkeys_free(kt_unlock(v)); /* a running mount goes on with it */
			assert_false(v->second_copy_bad);
			assert_null(v->second);
			assert_int_equal(files_with(BARE), volume_has_customer(v) ? 0 : 2);
			volume_close(v);
			check_after(op, before);
			if (n > steps)
				break;
		}
		assert_true(taken_back >= 8); /* with the new managed key, if one was made */
	}
}

/* Each question to the vault fails once: nothing has changed. */
static void failing_vault(void **state)
{
	static const enum err errors[] = {ERR_KEY_REVOKED, ERR_KEY_UNAVAILABLE, ERR_CONFIG, ERR_CORRUPT, ERR_NOMEM};

	(void)state;
	for (enum op op = ON; op <= OFF; op++) {
		for (unsigned n = 1;; n++) {
			char old[16384], new[16384];
			struct err_why why;
			uint8_t before[32];
			enum err e, want = errors[n % COUNT(errors)];
			size_t len;

			fresh(op, SUITE_GCM, "store", before);
			len = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), old, sizeof(old));
			fake.calls = op == MANAGED ? -2u : 0; /* run_once unlocks first */
			fake.fail_at = n;
			fake.fail = want;
			e = run_once(op, &why);
			fake.fail_at = 0;
			if (e == ERR_OK)
				break;
			assert_int_equal(e, want);
			assert_true(why.text[0] != '\0');
			assert_int_equal(kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), new, sizeof(new)), len);
			assert_memory_equal(old, new, len);
			assert_true(copies_equal());
			assert_int_equal(kt_files(kt.store), 1);
			check_after(op, before);
		}
	}
}

/* ---- what is left on the disk ---- */

/* The old content's own blocks: seen through a descriptor that was open before. */
static void overwritten_in_place(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		char buf[16384], link_name[128];
		int fd[2];

		kt_no_exchange = i == 1 ? ENOSYS : 0;
		create_with(SUITE_GCM, "store");
		fd[0] = open(kt_path(kt.back, VOLUME_DESCRIPTOR), O_RDONLY);
		fd[1] = open(kt_path(kt.back, DESCRIPTOR_BACKUP), O_RDONLY);
		snprintf(link_name, sizeof(link_name), "%s/mine", kt.dir);
		if (i == 2) /* a copy of the user's, who linked it: his business */
			assert_int_equal(link(kt_path(kt.back, VOLUME_DESCRIPTOR), link_name), 0);
		run_ok(ON);
		for (int c = 0; c < 2; c++) {
			ssize_t n = pread(fd[c], buf, sizeof(buf), 0);

			assert_true(n > 300);
			for (ssize_t k = 0; k < n && !(i == 2 && c == 0); k++)
				assert_int_equal(buf[k], 0);
			close(fd[c]);
		}
		if (i == 2)
			assert_non_null(memmem(buf, kt_read(link_name, buf, sizeof(buf)), BARE, strlen(BARE)));
	}
}

/* What must be durable before what, for a power cut: the exchange before the old content goes. */
static void order_of_steps(void **state)
{
	int fd = open(kt.back, O_RDONLY | O_DIRECTORY);
	struct err_why why;

	(void)state;
	kt_arm(0, 0);
	assert_ok(atomic_file_swap(fd, "f", "1", 1, NULL, &why));
	assert_string_equal(kt_trace, "uwfxrd"); /* nothing to exchange it with */
	kt_arm(0, 0);
	assert_ok(atomic_file_swap(fd, "f", "2", 1, NULL, &why));
	assert_string_equal(kt_trace, "uwfxdpfud");
	kt_no_exchange = EINVAL;
	kt_arm(0, 0);
	assert_ok(atomic_file_swap(fd, "f", "3", 1, NULL, &why));
	assert_string_equal(kt_trace, "uwfrdpf");
	kt_no_exchange = 0;
	kt_arm(0, 0);
	assert_ok(atomic_file_sweep(fd, "f", &why));
	assert_string_equal(kt_trace, "");
	put(".f.tmp", "old", 3);
	kt_arm(0, 0);
	assert_ok(atomic_file_sweep(fd, "f", &why));
	assert_string_equal(kt_trace, "dpfud");
	kt_arm(0, 0);
	assert_ok(atomic_file_scrub(fd, "f", &why));
	assert_string_equal(kt_trace, "pfud");
	close(fd);
	assert_int_equal(kt_files(kt.back), 0);
}

/* Temporary files of an earlier crash. */
static void leftovers(void **state)
{
	static const char *const names[] = {"." VOLUME_DESCRIPTOR ".tmp", "." DESCRIPTOR_BACKUP ".tmp"};
	char bare[16384], buf[16384];
	struct err_why why;
	struct volume *v;
	size_t len;
	int fd;

	(void)state;
	create_with(SUITE_GCM, "file");
	len = keep(VOLUME_DESCRIPTOR, bare);
	run_ok(ON);
	for (size_t i = 0; i < COUNT(names); i++) {
		put(names[i], bare, len);
		fd = open(kt_path(kt.back, names[i]), O_RDONLY);
		v = kt_open();
		volkeys_free(kt_unlock(v)); /* without the lock */
		assert_int_equal(files_with(BARE), 1);
		kt_lock(v);
		v->lock_shared = true;
		volkeys_free(kt_unlock(v));
		assert_int_equal(files_with(BARE), 1);
		v->lock_shared = false;
		fake.denied = FAKE_A; /* the keeper's no does not keep it alive */
		assert_int_equal(unlock_quietly(v, &why), ERR_KEY_REVOKED);
		assert_int_equal(files_with(BARE), 0);
		fake.denied = NULL;
		volkeys_free(kt_unlock(v));
		volume_close(v);
		assert_int_equal(files_with(BARE), 0);
		assert_int_equal(kt_files(kt.back), 5);
		assert_int_equal(pread(fd, buf, sizeof(buf), 0), (ssize_t)len);
		assert_int_equal(memcmp(buf, (char[16384]){0}, len), 0);
		close(fd);
		/* and a step that can't get rid of it does nothing else */
		put(names[i], bare, len);
		v = kt_open();
		kt_lock(v);
		kt_arm(4, EIO);
		memset(&why, 0, sizeof(why));
		(void)!run(v, OTHER, &why);
		kt_arm(0, 0);
		volume_close(v);
		kt_fingerprint((uint8_t[32]){0});
		assert_int_equal(files_with(BARE), 0);
	}
}

static void a_thousand_rotations(void **state)
{
	uint8_t before[32], after[32];
	struct volume *v;

	(void)state;
	fresh(VERSION, SUITE_XTS_GCM, "store", before);
	v = kt_open();
	kt_lock(v);
	for (unsigned i = 2; i <= 1000; i++) {
		struct err_why why;
		bool changed;

		fake.newest = i;
		assert_ok(volume_customer_rotate(v, kt.f, NULL, &changed, &why));
		assert_true(changed);
		assert_int_equal(v->key.version, i);
		assert_ok(volume_customer_rotate(v, kt.f, NULL, &changed, &why));
		assert_false(changed);
		assert_int_equal(v->inner_key.version, 2); /* an escrow copy of it stays good */
	}
	volume_close(v);
	kt_fingerprint(after);
	assert_memory_equal(before, after, 32);
	assert_true(copies_equal());
	assert_int_equal(kt_files(kt.back), 5);
	assert_int_equal(kt_files(kt.store), 1);
}

/* ---- odds and ends of the steps ---- */

static void refused_steps(void **state)
{
	struct err_why why;
	struct volume *v;
	json_t *conf;

	(void)state;
	create_with(SUITE_GCM, "store");
	assert_refused(run_once(OFF, &why), ERR_CONFIG, why, "no customer's key is on");
	assert_refused(run_once(VERSION, &why), ERR_CONFIG, why, "no customer's key is on");
	conf = json_pack("{s:s}", "source", "vault");
	v = kt_open();
	assert_int_equal(volume_customer_set(v, kt.f, NULL, conf, &why), ERR_CORRUPT);
	json_decref(conf);
	kt_lock(v);
	v->lock_shared = true;
	assert_refused(set_key(v, FAKE_A, &why), ERR_IO, why, "read-only");
	volume_close(v);
	assert_int_equal(kt_files(kt.back), 5);
	assert_int_equal(kt_files(kt.store), 1);
	kt_fingerprint((uint8_t[32]){0});
}

/* A key from escrow stands in for the store: there is nothing to make a new version in. */
static void key_given_elsewhere(void **state)
{
	char dir[160], text[128], escrow[128];
	struct err_why why = {0};
	struct volkeys *vk;
	struct volume *v;
	json_t *now, *conf = fake_conf(FAKE_A);

	(void)state;
	create_with(SUITE_XTS_GCM, "store");
	v = kt_open();
	kt_key_dir(v, dir);
	snprintf(escrow, sizeof(escrow), "%s/escrow", kt.dir);
	kt_write(escrow, text, kt_read(kt_path(dir, "v1.key"), text, sizeof(text)), 0600);
	kt_rm(kt.store);
	now = kt_conf("file:%s", escrow);
	assert_ok(volume_customer_set(v, kt.f, now, conf, &why));
	assert_int_equal(v->inner_key.version, 1);
	assert_string_equal(v->inner_source, "store"); /* as it was */
	assert_int_equal(unlock_quietly(v, &why), ERR_KEY_UNAVAILABLE);
	assert_ok(volume_unlock(v, kt.f, now, &vk, &why));
	volkeys_free(vk);
	assert_ok(volume_customer_off(v, kt.f, now, &why));
	assert_string_equal(v->source, "store");
	assert_ok(volume_unlock(v, kt.f, now, &vk, &why));
	volkeys_free(vk);
	volume_close(v);
	json_decref(now);
	json_decref(conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_life, setup, teardown),
		cmocka_unit_test_setup_teardown(crash_points_store, setup, teardown),
		cmocka_unit_test_setup_teardown(crash_points_file, setup, teardown),
		cmocka_unit_test_setup_teardown(crash_points_no_exchange, setup, teardown),
		cmocka_unit_test_setup_teardown(crash_points_first_copy_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(failing_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(failing_vault, setup, teardown),
		cmocka_unit_test_setup_teardown(overwritten_in_place, setup, teardown),
		cmocka_unit_test_setup_teardown(order_of_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(leftovers, setup, teardown),
		cmocka_unit_test_setup_teardown(a_thousand_rotations, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(key_given_elsewhere, setup, teardown),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
