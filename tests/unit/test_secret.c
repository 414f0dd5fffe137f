/* SPDX-License-Identifier: Apache-2.0 */
/* secret and the locked allocator. */
#include "tests/unit/testlib.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void secret_life(void **state)
{
	uint8_t src[5] = "abcd";
	struct secret *s = NULL;

	(void)state;
	assert_ok(secret_new(33, &s));
	assert_int_equal(secret_len(s), 33);
	for (size_t i = 0; i < 33; i++)
		assert_int_equal(secret_view(s)[i], 0);
	assert_ptr_equal(secret_bytes(s), secret_view(s));
	secret_free(s);
	assert_ok(secret_take(src, sizeof(src), &s));
	assert_memory_equal(secret_view(s), "abcd", sizeof("abcd"));
	for (size_t i = 0; i < sizeof(src); i++)
		assert_int_equal(src[i], 0);
	secret_free(s);
	secret_free(NULL);
	assert_ok(secret_new(0, &s));
	secret_free(s);
	assert_int_equal(secret_new(SIZE_MAX, &s), ERR_RANGE);
	assert_int_equal(secret_new((size_t)1 << 25, &s), ERR_RANGE);
}

static void equal_and_wipe(void **state)
{
	uint8_t a[40], b[40];

	(void)state;
	memset(a, 7, sizeof(a));
	memset(b, 7, sizeof(b));
	assert_true(secret_equal(a, b, sizeof(a)));
	assert_true(secret_equal(a, b, 0));
	b[39] = 8;
	assert_false(secret_equal(a, b, sizeof(a)));
	secret_wipe(a, sizeof(a));
	for (size_t i = 0; i < sizeof(a); i++)
		assert_int_equal(a[i], 0);
}

/* Every size: aligned, zeroed, not overlapping, wiped when freed. */
static void alloc_sizes(void **state)
{
	static const size_t sizes[] = {1, 15, 16, 17, 63, 64, 65, 500, 512, 513, 1024, 2047, 2048, 2049, 4095, 4096,
		4097, 20000, 65535, 65536, 65537, 200000};
	uint8_t *p[COUNT(sizes)][5];
	struct locked_stats before, after;

	(void)state;
	locked_stats_get(&before);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		for (size_t k = 0; k < 5; k++) {
			p[i][k] = locked_alloc(sizes[i]);
			assert_non_null(p[i][k]);
			assert_int_equal((uintptr_t)p[i][k] % 64, 0);
			for (size_t b = 0; b < sizes[i]; b++)
				assert_int_equal(p[i][k][b], 0);
			memset(p[i][k], (int)(i * 5 + k + 1), sizes[i]);
		}
	}
	for (size_t i = 0; i < COUNT(sizes); i++) {
		for (size_t k = 0; k < 5; k++) {
			for (size_t b = 0; b < sizes[i]; b++)
				assert_int_equal(p[i][k][b], i * 5 + k + 1);
			locked_free(p[i][k]);
		}
	}
	locked_stats_get(&after);
	assert_int_equal(before.in_use_bytes, after.in_use_bytes);
	assert_true(after.allocations - before.allocations == COUNT(sizes) * 5);
	locked_free(NULL);
	assert_null(locked_alloc(SIZE_MAX));
}

/* OPENSSL_realloc goes through us. */
static void realloc_keeps(void **state)
{
	uint8_t *p = NULL;
	size_t have = 0;

	(void)state;
	for (size_t len = 1; len < 300000; len = len * 3 / 2 + 1) {
		p = OPENSSL_realloc(p, len);
		assert_non_null(p);
		for (size_t b = 0; b < have; b++)
			assert_int_equal(p[b], 0x5a);
		memset(p, 0x5a, len);
		have = len;
	}
	for (size_t len = have; len > 1; len /= 3) {
		p = OPENSSL_realloc(p, len);
		assert_non_null(p);
		for (size_t b = 0; b < len; b++)
			assert_int_equal(p[b], 0x5a);
	}
	assert_null(OPENSSL_realloc(p, 0));
}

/* What is freed is gone; what is in use is found, so the scan itself works. */
static void freed_is_wiped(void **state)
{
	static const size_t sizes[] = {100, 3000, 100000};
	uint8_t pattern[24];

	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("skipped: ThreadSanitizer's shadow memory takes minutes to scan; the other builds do\n");
	skip();
#endif
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + 3);
	for (size_t k = 0; k < COUNT(sizes); k++) {
		uint8_t *p = locked_alloc(sizes[k]);

		assert_non_null(p);
		for (size_t i = 0; i < sizeof(pattern); i++)
			p[50 + i] = pattern[i] ^ 0xff;
		assert_int_equal(test_scan(pattern, 0xff, sizeof(pattern)), 1);
		locked_free(p);
		assert_int_equal(test_scan(pattern, 0xff, sizeof(pattern)), 0);
	}
}

/* Runs fn in a child; returns the signal that ended it, 0 if none. */
static int signal_of(void (*fn)(void))
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void double_free_small(void)
{
	void *p = locked_alloc(32);

	locked_free(p);
	locked_free(p);
}

static void double_free_run(void)
{
	void *p = locked_alloc(5000);

	locked_free(p);
	locked_free(p);
}

static void free_inside(void)
{
	uint8_t *p = locked_alloc(5000);

	locked_free(p + 4096);
}

static void free_foreign(void)
{
	int x = 0;

	locked_free(&x);
}

static void misuse_is_caught(void **state)
{
	(void)state;
	assert_int_equal(signal_of(double_free_small), SIGABRT);
	assert_int_equal(signal_of(double_free_run), SIGABRT);
	assert_int_equal(signal_of(free_inside), SIGABRT);
	assert_int_equal(signal_of(free_foreign), SIGABRT);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they turn mlock(2) off */
static void exhaust(void)
{
	for (size_t i = 0; i < 100000; i++) {
		if (!locked_alloc(4096)) {
			void *big = locked_alloc(1 << 20);
			struct secret *s = NULL;

			_exit(!big && secret_new(1 << 20, &s) == ERR_NOMEM ? 7 : 1);
		}
	}
	_exit(2);
}

/* Locked memory ends at RLIMIT_MEMLOCK: NULL and ERR_NOMEM, never unlocked memory.  Root is exempt, so not as root. */
static void exhaustion(void **state)
{
	const struct rlimit small = {1 << 20, 1 << 20};
	int status = 0;
	pid_t child;

	(void)state;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setrlimit(RLIMIT_MEMLOCK, &small) || (getuid() == 0 && setuid(65534)))
			_exit(3);
		exhaust();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}
#endif

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	uint8_t *p[64] = {0};
	size_t len[64] = {0};

	for (unsigned i = 0; i < 20000; i++) {
		unsigned k = (seed = seed * 1103515245u + 12345u) >> 16 & 63;

		for (size_t b = 0; p[k] && b < len[k]; b += 97) {
			if (p[k][b] != (uint8_t)k)
				return arg;
		}
		locked_free(p[k]);
		len[k] = (size_t)1 << (seed >> 8 & 12);
		p[k] = locked_alloc(len[k]);
		if (!p[k])
			return arg;
		memset(p[k], (int)k, len[k]);
	}
	for (unsigned k = 0; k < 64; k++)
		locked_free(p[k]);
	return NULL;
}

static void threads(void **state)
{
	pthread_t t[4];

	(void)state;
	for (uintptr_t i = 0; i < COUNT(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
	for (size_t i = 0; i < COUNT(t); i++) {
		void *bad = NULL;

		assert_int_equal(pthread_join(t[i], &bad), 0);
		assert_null(bad);
	}
}

static void setup_twice(void **state)
{
	struct err_why why = {0};
	struct rlimit core;

	(void)state;
	assert_ok(secret_setup(&why));
	assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
	assert_int_equal(core.rlim_cur, 0);
#ifndef __SANITIZE_ADDRESS__
	assert_int_equal(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
#endif
}

static void err_texts(void **state)
{
	struct err_why why = {0};

	(void)state;
	for (int e = ERR_OK; e <= ERR_BUG; e++)
		assert_true(strlen(err_text((enum err)e)) > 3);
	assert_string_equal(err_text((enum err)999), "unknown error");
	assert_int_equal(err_set(NULL, ERR_IO, 5, "x"), ERR_IO);
	assert_int_equal(err_set(&why, ERR_CONFIG, 5, "%s %d", "a", 1), ERR_CONFIG);
	assert_string_equal(why.text, "a 1");
	assert_int_equal(why.sys_errno, 5);
	err_set(&why, ERR_CONFIG, 0, "%0600d", 1);
	assert_int_equal(strlen(why.text), sizeof(why.text) - 1);
}

/* The hook after OpenSSL's first allocation: refused.  In a child, it is before ours. */
static int late_hook_is_refused(void)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		OPENSSL_free(OPENSSL_malloc(1));
		_exit(secret_hook_openssl() == ERR_BUG ? 0 : 1);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(setup_twice),
		cmocka_unit_test(secret_life),
		cmocka_unit_test(equal_and_wipe),
		cmocka_unit_test(alloc_sizes),
		cmocka_unit_test(realloc_keeps),
		cmocka_unit_test(freed_is_wiped),
		cmocka_unit_test(misuse_is_caught),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		cmocka_unit_test(exhaustion),
#endif
		cmocka_unit_test(threads),
		cmocka_unit_test(err_texts),
	};
	int late = late_hook_is_refused();
	struct fips *f = test_start();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	void *p;

	failed = test_end(f, failed) + !late;
	/* After the end: nothing is given out, frees are ignored. */
	p = locked_alloc(10);
	if (p)
		failed++;
	locked_free(&failed);
	return failed;
}
