/* SPDX-License-Identifier: Apache-2.0 */
/* share: the record by which mounts under one key probe for each other. */
#include "tests/unit/runtime.h"

#include "fs/control.h"
#include "fs/prober.h"
#include "fs/share.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "{\"kid\":\"https://v1.vault/keys/k1/0123\"}"

static struct fips *fips;

/* The one record there is. */
static void record_path(char *out, size_t cap)
{
	char dir[CONTROL_PATH_CAP];
	const struct dirent *e;
	unsigned n = 0;
	DIR *d;

	assert_true(control_home(dir));
	d = opendir(dir);
	assert_non_null(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		snprintf(out, cap, "%s/%s", dir, e->d_name);
	}
	closedir(d);
	assert_int_equal(n, 1);
}

static int remove_record(void **state)
{
	char path[512];

	(void)state;
	record_path(path, sizeof(path));
	return unlink(path);
}

static bool woken(const struct share *s)
{
	struct pollfd p = {.fd = share_fd(s), .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static struct share_record denied(void)
{
	return (struct share_record){
		.began = boottime_ns(),
		.result = PROBE_DENIED,
		.detail =
			{
				.reason = "KeyDisabled",
				.http_status = 403,
				.request_id = "r1",
				.client_request_id = "c1",
				.tenant = "t",
				.oid = "o",
				.appid = "a",
				.region = "westeurope",
				.kid = "k",
				.network = true,
			},
		.why = "The key is disabled.",
	};
}

/* What one leaves the other finds, and is woken. */
static void passed_on(void **state)
{
	struct share *a = share_open(fips, KEY), *b = share_open(fips, KEY);
	struct share_record r = denied(), got;
	struct stat st;
	char path[512];

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	record_path(path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_false(share_read(b, &got));
	assert_false(woken(b));
	assert_true(share_trylock(a));
	assert_false(share_trylock(b));
	share_write(a, &r);
	assert_true(woken(b));
	share_heard(b);
	assert_false(woken(b));
	share_unlock(a);
	assert_true(share_trylock(b));
	assert_true(share_read(b, &got));
	assert_int_equal(got.began, r.began);
	assert_int_equal(got.result, PROBE_DENIED);
	assert_string_equal(got.detail.reason, "KeyDisabled");
	assert_int_equal(got.detail.http_status, 403);
	assert_true(got.detail.network);
	assert_string_equal(got.detail.request_id, "r1");
	assert_string_equal(got.detail.client_request_id, "c1");
	assert_string_equal(got.detail.tenant, "t");
	assert_string_equal(got.detail.oid, "o");
	assert_string_equal(got.detail.appid, "a");
	assert_string_equal(got.detail.region, "westeurope");
	assert_string_equal(got.detail.kid, "k");
	assert_string_equal(got.why, r.why);
	/* A shorter one leaves nothing of the longer one behind. */
	r = (struct share_record){.began = boottime_ns(), .result = PROBE_OK};
	share_write(b, &r);
	share_unlock(b);
	assert_true(share_read(a, &got));
	assert_int_equal(got.result, PROBE_OK);
	assert_string_equal(got.detail.reason, "");
	share_close(a);
	share_close(b);
}

/* The lock goes with its holder. */
static void holder_gone(void **state)
{
	struct share *a = share_open(fips, KEY), *b = share_open(fips, KEY);

	(void)state;
	assert_true(share_trylock(a));
	share_close(a);
	assert_true(share_trylock(b));
	share_close(b);
}

/* Another key is another record. */
static void another_key(void **state)
{
	struct share *a = share_open(fips, KEY), *b = share_open(fips, KEY "x");
	struct share_record r = denied(), got;

	(void)state;
	assert_true(share_trylock(a));
	assert_true(share_trylock(b));
	share_write(a, &r);
	assert_false(share_read(b, &got));
	assert_false(woken(b));
	share_close(a);
	share_close(b);
}

static void write_text(const char *text)
{
	char path[512];
	int fd;

	record_path(path, sizeof(path));
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* Torn, of another boot, from the future, of another key, of a kind we don't know: as good as none. */
static void unusable(void **state)
{
	struct share *a = share_open(fips, KEY);
	struct share_record r = denied(), got;
	char path[512], good[8192] = "", text[8400], *at;
	int fd;

	(void)state;
	assert_true(share_trylock(a));
	share_write(a, &r);
	record_path(path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, good, sizeof(good) - 1) > 0);
	close(fd);
	assert_true(share_read(a, &got));
	for (size_t cut = 0; cut < strlen(good); cut += 7) {
		snprintf(text, sizeof(text), "%.*s", (int)cut, good);
		write_text(text);
		assert_false(share_read(a, &got));
	}
	write_text(good);
	assert_true(share_read(a, &got));
	snprintf(text, sizeof(text), "%s", good);
	at = strstr(text, "\"boot\":\"");
	assert_non_null(at);
	at[8] = at[8] == 'x' ? 'y' : 'x';
	write_text(text);
	assert_false(share_read(a, &got));
	snprintf(text, sizeof(text), "%s", good);
	at = strstr(text, "denied");
	assert_non_null(at);
	at[0] = 'D';
	write_text(text);
	assert_false(share_read(a, &got));
	r.began = boottime_ns() + 3600 * LEASE_SECOND;
	share_write(a, &r);
	assert_false(share_read(a, &got));
	share_close(a);
}

/* A cleaner of temporary files took it away. */
static void file_removed(void **state)
{
	struct share *a = share_open(fips, KEY), *b = share_open(fips, KEY);
	struct share_record r = denied(), got;

	assert_int_equal(remove_record(state), 0);
	assert_true(share_trylock(a));
	share_write(a, &r);
	share_unlock(a);
	assert_true(share_trylock(b));
	assert_true(share_read(b, &got));
	share_unlock(b);
	share_close(a);
	share_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(passed_on, remove_record),
		cmocka_unit_test_teardown(holder_gone, remove_record),
		cmocka_unit_test_teardown(unusable, remove_record),
		cmocka_unit_test_teardown(file_removed, remove_record),
		cmocka_unit_test(another_key),
	};
	int failed;

	fips = test_start();
	runtime_start();
	failed = runtime_end(cmocka_run_group_tests(tests, NULL, NULL));
	return test_end(fips, failed);
}
