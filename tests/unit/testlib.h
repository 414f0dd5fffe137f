/* SPDX-License-Identifier: Apache-2.0 */
/*
 * testlib - what the unit tests of crypto/ share: hooks, a FIPS provider, volumes with known keys, a memory scan.
 *
 * BCFS_TEST_FIPS_DIR names the directory of the module to test; without it the usual places are searched.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* needs the others before it */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "crypto/fips.h"
#include "crypto/secret.h"
#include "crypto/volkeys.h"

#define assert_ok(e) assert_int_equal((e), ERR_OK)
#define COUNT(a)     (sizeof(a) / sizeof((a)[0]))

#define TEST_VOLUME ((const uint8_t *)"test volume id 1")
#define TEST_FILE   ((const uint8_t *)"test file id 001")
#define TEST_DIR    ((const uint8_t *)"test directory 1")

/* First thing in main(): nothing may have touched OpenSSL. */
static inline struct fips *test_start(void)
{
	const struct fips_config cfg = {.dir = getenv("BCFS_TEST_FIPS_DIR")};
	struct err_why why = {0};
	struct fips *f = NULL;

	if (secret_hook_openssl() != ERR_OK || secret_setup(&why) != ERR_OK || fips_open(&cfg, &f, &why) != ERR_OK) {
		fprintf(stderr, "test_start: %s\n", why.text);
		exit(1);
	}
	print_message("# %s %s (%s)\n", f->name, f->version, f->module);
	return f;
}

static inline int test_end(struct fips *f, int failed)
{
	fips_close(f);
	secret_teardown();
	return failed;
}

/* "00ff" to bytes; returns their number. */
static inline size_t unhex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned v = 0;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
	return n;
}

static inline void assert_hex(const uint8_t *got, const char *hex)
{
	uint8_t want[1024];
	size_t n = unhex(hex, want);

	assert_memory_equal(got, want, n);
}

/* A secret of len bytes seed, seed + 1, ... */
static inline struct secret *test_secret(uint8_t seed, size_t len)
{
	struct secret *s = NULL;

	assert_ok(secret_new(len, &s));
	for (size_t i = 0; i < len; i++)
		secret_bytes(s)[i] = (uint8_t)(seed + i);
	return s;
}

static inline struct volkeys *test_volume_keys(
	struct fips *f, enum suite suite, const uint8_t *id, uint8_t outer, uint8_t inner)
{
	struct secret *k = test_secret(outer, VOLUME_KEY_BYTES);
	struct secret *i = suite == SUITE_XTS_GCM ? test_secret(inner, VOLUME_KEY_BYTES) : NULL;
	struct volkeys *vk = NULL;

	assert_ok(volkeys_new(f, suite, id, k, i, &vk));
	secret_free(k);
	secret_free(i);
	return vk;
}

static inline struct volkeys *test_volume(struct fips *f, enum suite suite)
{
	return test_volume_keys(f, suite, TEST_VOLUME, 1, 101);
}

/* KBKDF by hand, from HMAC alone: FORMAT.md section 3. */
static inline void test_kbkdf(struct fips *f, const uint8_t *key, const char *label, const void *ctx, size_t ctx_len,
	uint8_t *out, size_t out_len)
{
	for (size_t done = 0; done < out_len; done += 32) {
		uint32_t i = (uint32_t)(done / 32 + 1), bits = (uint32_t)out_len * 8;
		const uint8_t counter[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
		const uint8_t length[4] = {
			(uint8_t)(bits >> 24), (uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
		const struct piece in[] = {{counter, 4}, {label, strlen(label) + 1}, {ctx, ctx_len}, {length, 4}};
		uint8_t block[32];

		assert_ok(fips_hmac(f, key, 32, in, COUNT(in), block));
		memcpy(out + done, block, out_len - done < 32 ? out_len - done : 32);
		secret_wipe(block, sizeof(block)); /* or the scan for keys finds this one */
	}
}

/*
 * How often the len bytes that pattern holds XORed with mask occur in the writable memory of this process.  The mask
 * keeps the pattern itself from being found.
 */
static inline size_t test_scan(const uint8_t *pattern, uint8_t mask, size_t len)
{
	char line[512];
	FILE *maps, *mem;
	size_t found = 0;

	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	maps = fopen("/proc/self/maps", "r");
	mem = fopen("/proc/self/mem", "r");
	assert_non_null(maps);
	assert_non_null(mem);
	setvbuf(mem, NULL, _IONBF, 0);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;
		char perms[5];
		uint8_t *copy;

		assert_int_equal(sscanf(line, "%lx-%lx %4s", &from, &to, perms), 3);
		if (perms[0] != 'r' || perms[1] != 'w' || to - from > ((unsigned long)1 << 28))
			continue;
		copy = malloc(to - from);
		assert_non_null(copy);
		if (fseek(mem, (long)from, SEEK_SET) == 0 && fread(copy, 1, to - from, mem) == to - from) {
			const uint8_t *end = copy + (to - from), *at = copy;

			while ((at = memchr(at, pattern[0] ^ mask, (size_t)(end - at))) && (size_t)(end - at) >= len) {
				size_t k = 1;

				while (k < len && (at[k] ^ mask) == pattern[k])
					k++;
				found += k == len;
				at++;
			}
		}
		secret_wipe(copy, to - from);
		free(copy);
	}
	fclose(maps);
	fclose(mem);
	return found;
}
