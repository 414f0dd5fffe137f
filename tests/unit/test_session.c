/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of keyprov/session.c: numbers, unclean ends, stamps, damage.  FORMAT.md section 8. */
#include "keyprov/sealed_json.h"
#include "keytest.h"

static struct volume *vol;
static struct volkeys *keys;

static int open_all(void **state)
{
	if (kt_setup(state) != 0)
		return -1;
	kt_create(SUITE_GCM);
	vol = kt_open();
	kt_lock(vol);
	keys = kt_unlock(vol);
	return 0;
}

static int close_all(void **state)
{
	volkeys_free(keys);
	volume_close(vol);
	return kt_teardown(state);
}

static struct session *begin(bool read_only)
{
	struct err_why why = {0};
	struct session *s;
	enum err e = session_begin(vol, keys, read_only, &s, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return s;
}

static void end(struct session *s)
{
	struct err_why why;

	assert_ok(session_end(vol, keys, s, &why));
	session_free(s);
}

/* Writes a state with a right MAC, in both copies. */
static void plant(const char *json)
{
	json_t *j = json_loads(json, 0, NULL);

	assert_non_null(j);
	assert_ok(sealed_json_seal(j, keys, MAC_STATE));
	assert_ok(sealed_json_write(vol->dirfd, VOLUME_STATE, j, NULL, NULL));
	assert_ok(sealed_json_write(vol->dirfd, VOLUME_STATE ".bak", j, NULL, NULL));
	json_decref(j);
}

static void clean_and_unclean(void **state)
{
	struct session *s = begin(false);

	(void)state;
	assert_int_equal(s->number, 1);
	assert_false(session_any_unclean(s));
	end(s);
	s = begin(false);
	assert_int_equal(s->number, 2);
	assert_false(session_any_unclean(s));
	session_free(s); /* killed */
	s = begin(true);
	assert_int_equal(s->number, 2);
	assert_true(session_stamp_unclean(s, 2));
	session_free(s);
	s = begin(false);
	assert_int_equal(s->number, 3);
	assert_true(session_stamp_unclean(s, 2));
	assert_false(session_stamp_unclean(s, 1));
	assert_false(session_stamp_unclean(s, 3));
	session_free(s); /* killed again: 2 and 3 are one range */
	s = begin(false);
	assert_int_equal(s->n_unclean, 1);
	assert_int_equal(s->unclean[0].first, 2);
	assert_int_equal(s->unclean[0].last, 3);
	end(s);
	s = begin(false);
	session_free(s);
	s = begin(false);
	assert_int_equal(s->n_unclean, 2);
	end(s);
}

/* A real kill, between begin and end. */
static void killed_process(void **state)
{
	struct session *s;
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		if (session_begin(vol, keys, false, &s, NULL) != ERR_OK)
			_exit(1);
		(void)raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	s = begin(false);
	assert_int_equal(s->number, 2);
	assert_true(session_stamp_unclean(s, 1));
	end(s);
}

static void stamps_modulo(void **state)
{
	struct session *s;

	(void)state;
	plant("{\"session\":200000,\"open\":false,\"unclean\":[[65535,65537],[131080,131080]]}");
	s = begin(true);
	assert_true(session_stamp_unclean(s, 65535));
	assert_true(session_stamp_unclean(s, 0));
	assert_true(session_stamp_unclean(s, 1));
	assert_false(session_stamp_unclean(s, 2));
	assert_false(session_stamp_unclean(s, 65534));
	assert_true(session_stamp_unclean(s, 131080 - 131072));
	session_free(s);
	plant("{\"session\":200000,\"open\":false,\"unclean\":[[10,65545]]}");
	s = begin(true);
	for (uint32_t i = 0; i < 65536; i++)
		assert_true(session_stamp_unclean(s, (uint16_t)i));
	session_free(s);
	plant("{\"session\":200000,\"open\":false,\"unclean\":[[10,65544]]}");
	s = begin(true);
	assert_false(session_stamp_unclean(s, 9));
	assert_true(session_stamp_unclean(s, 8));
	session_free(s);
	plant("{\"session\":4294967295,\"open\":true,\"unclean\":[]}");
	s = begin(true);
	assert_true(session_stamp_unclean(s, 65535));
	session_free(s);
}

static void no_numbers_left(void **state)
{
	struct err_why why;
	struct session *s;

	(void)state;
	plant("{\"session\":4294967295,\"open\":false,\"unclean\":[]}");
	assert_refused(session_begin(vol, keys, false, &s, &why), ERR_RANGE, why, "no session numbers left");
	assert_null(s);
}

/* More than 1000 ranges: neighbors are joined, and no unclean session is ever forgotten. */
static void many_ranges(void **state)
{
	char *json = malloc(65536), *p = json;
	struct session *s;

	(void)state;
	p += sprintf(p, "{\"session\":5000,\"open\":true,\"unclean\":[");
	for (int i = 0; i < 1000; i++)
		p += sprintf(p, "%s[%d,%d]", i ? "," : "", i == 500 ? 3 * i - 1 : 3 * i, 3 * i);
	sprintf(p, "]}");
	plant(json);
	free(json);
	s = begin(false);
	assert_int_equal(s->number, 5001);
	assert_int_equal(s->n_unclean, 1000);
	for (uint16_t i = 0; i < 1000; i++)
		assert_true(session_stamp_unclean(s, (uint16_t)(3 * i)));
	assert_true(session_stamp_unclean(s, 5000));
	assert_true(session_stamp_unclean(s, 1498)); /* the smallest gap: 1497..1499 */
	assert_false(session_stamp_unclean(s, 1495));
	end(s);
	s = begin(true);
	assert_int_equal(s->n_unclean, 1000);
	session_free(s);
}

static void impossible_states(void **state)
{
	static const char *const bad[] = {
		"{\"session\":-1,\"open\":false,\"unclean\":[]}",
		"{\"session\":4294967296,\"open\":false,\"unclean\":[]}",
		"{\"session\":1.0,\"open\":false,\"unclean\":[]}",
		"{\"open\":false,\"unclean\":[]}",
		"{\"session\":1,\"open\":0,\"unclean\":[]}",
		"{\"session\":1,\"unclean\":[]}",
		"{\"session\":1,\"open\":false}",
		"{\"session\":1,\"open\":false,\"unclean\":{}}",
		"{\"session\":1,\"open\":false,\"unclean\":[],\"more\":1}",
		"{\"session\":9,\"open\":false,\"unclean\":[[1]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[[1,2,3]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[[2,1]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[[1,10]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[[3,4],[4,5]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[[5,6],[1,2]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[[\"1\",2]]}",
		"{\"session\":9,\"open\":false,\"unclean\":[7]}",
	};
	struct err_why why;
	struct session *s;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		plant(bad[i]);
		assert_refused(session_begin(vol, keys, false, &s, &why), ERR_CORRUPT, why, "-o reset_state");
	}
}

/* Every bit of the file that matters, in one copy and in both. */
static void flipped_bytes(void **state)
{
	struct session *s = begin(false);
	char text[4096], bad[4096];
	size_t len;

	(void)state;
	session_free(s);
	s = begin(false); /* session 2, open; 1 unclean */
	session_free(s);
	len = kt_read(kt_path(kt.back, VOLUME_STATE), text, sizeof(text));
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit += 3) {
			enum err e;

			memcpy(bad, text, len);
			bad[i] = (char)(bad[i] ^ 1 << bit);
			kt_write(kt_path(kt.back, VOLUME_STATE), bad, len, 0600);
			s = begin(true); /* the second copy serves */
			assert_int_equal(s->number, 2);
			assert_true(session_stamp_unclean(s, 1) && session_stamp_unclean(s, 2));
			session_free(s);
			kt_write(kt_path(kt.back, VOLUME_STATE ".bak"), bad, len, 0600);
			e = session_begin(vol, keys, true, &s, NULL);
			if (e == ERR_OK) { /* white space, and nothing else */
				assert_int_equal(s->number, 2);
				assert_true(session_stamp_unclean(s, 1) && session_stamp_unclean(s, 2));
				assert_int_equal(s->n_unclean, 1);
				session_free(s);
			} else {
				assert_int_equal(e, ERR_CORRUPT);
			}
			kt_write(kt_path(kt.back, VOLUME_STATE ".bak"), text, len, 0600);
		}
	}
}

static void lost_state(void **state)
{
	struct err_why why;
	struct session *s;

	(void)state;
	end(begin(false));
	assert_ok(session_reset(vol, keys, &why)); /* nothing is lost: nothing happens */
	s = begin(false);
	assert_int_equal(s->number, 2);
	assert_false(session_any_unclean(s));
	end(s);
	assert_int_equal(unlink(kt_path(kt.back, VOLUME_STATE)), 0);
	s = begin(true); /* from the second copy */
	assert_int_equal(s->number, 2);
	session_free(s);
	assert_int_equal(unlink(kt_path(kt.back, VOLUME_STATE ".bak")), 0);
	assert_refused(session_begin(vol, keys, false, &s, &why), ERR_CORRUPT, why, "-o reset_state");
	assert_refused(session_begin(vol, keys, true, &s, &why), ERR_CORRUPT, why, "is missing");
	assert_ok(session_reset(vol, keys, &why));
	s = begin(false);
	assert_int_equal(s->number, 65537);
	for (uint32_t i = 0; i < 65536; i++)
		assert_true(session_stamp_unclean(s, (uint16_t)i));
	end(s);
}

/* The state of another volume is no state of this one. */
static void foreign_state(void **state)
{
	struct volkeys *other = test_volume(kt.f, SUITE_GCM), *mine = keys;
	struct err_why why;
	struct session *s;

	(void)state;
	keys = other;
	plant("{\"session\":7,\"open\":false,\"unclean\":[]}");
	keys = mine;
	assert_refused(session_begin(vol, keys, false, &s, &why), ERR_CORRUPT, why, "MAC is wrong");
	volkeys_free(other);
}

/* Killed at each durable step of begin and end, and each step failing once. */
static void crash_points(void **state)
{
	(void)state;
	for (int mode = 0; mode < 3; mode++) {
		for (unsigned n = 1;; n++) {
			struct session *s;
			uint32_t before, after;
			int status;
			pid_t pid;

			s = begin(true);
			before = s->number;
			session_free(s);
			pid = fork();
			if (pid == 0) {
				enum err e;

				kt_arm(n, mode == 0 ? 0 : mode == 1 ? -1 : EIO);
				e = session_begin(vol, keys, false, &s, NULL);
				if (e == ERR_OK)
					e = session_end(vol, keys, s, NULL);
				_exit(e == ERR_OK && kt_step < n ? 0 : KT_CRASHED);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFEXITED(status));
			s = begin(false);
			after = s->number;
			assert_in_range(after, before + 1, before + 2);
			end(s);
			if (WEXITSTATUS(status) == 0)
				break;
			assert_int_equal(WEXITSTATUS(status), KT_CRASHED);
			assert_true(n < 100);
		}
	}
}

/* The session lock is shared when the backing directory can't be written. */
static void read_only_backing(void **state)
{
	struct err_why why;
	struct session *s;

	(void)state;
	vol->lock_shared = true;
	assert_refused(session_begin(vol, keys, false, &s, &why), ERR_IO, why, "-o ro");
	assert_int_equal(why.sys_errno, EROFS);
	session_free(begin(true));
	vol->lock_shared = false;
	kt_arm(2, EROFS); /* the removal of an old temporary file comes first and may fail like this */
	assert_int_equal(session_begin(vol, keys, false, &s, &why), ERR_IO);
	kt_arm(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(clean_and_unclean, open_all, close_all),
		cmocka_unit_test_setup_teardown(killed_process, open_all, close_all),
		cmocka_unit_test_setup_teardown(stamps_modulo, open_all, close_all),
		cmocka_unit_test_setup_teardown(no_numbers_left, open_all, close_all),
		cmocka_unit_test_setup_teardown(many_ranges, open_all, close_all),
		cmocka_unit_test_setup_teardown(impossible_states, open_all, close_all),
		cmocka_unit_test_setup_teardown(flipped_bytes, open_all, close_all),
		cmocka_unit_test_setup_teardown(lost_state, open_all, close_all),
		cmocka_unit_test_setup_teardown(foreign_state, open_all, close_all),
		cmocka_unit_test_setup_teardown(crash_points, open_all, close_all),
		cmocka_unit_test_setup_teardown(read_only_backing, open_all, close_all),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
