/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs: FORMAT.md section 6. */
#include "tests/unit/testlib.h"

static struct fips *fips;

static void round_trips(void **state)
{
	static const size_t lengths[] = {0, 1, 15, 16, 17, 255, 4095, 65536};

	(void)state;
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (size_t k = 0; k < COUNT(lengths); k++) {
			size_t n = lengths[k];
			uint8_t *in = malloc(n + 1), *out = malloc(n + BLOB_OVERHEAD),
				*out2 = malloc(n + BLOB_OVERHEAD);
			uint8_t *back = malloc(n + 1);

			assert_true(in && out && out2 && back);
			for (size_t i = 0; i < n; i++)
				in[i] = (uint8_t)(i * 13 + n);
			assert_ok(blob_seal(vk, BLOB_XATTR_VALUE, "owner", 5, in, n, out));
			assert_ok(blob_seal(vk, BLOB_XATTR_VALUE, "owner", 5, in, n, out2));
			assert_memory_not_equal(out, out2, BLOB_OVERHEAD); /* a new salt */
			assert_ok(blob_open(vk, BLOB_XATTR_VALUE, "owner", 5, out, n + BLOB_OVERHEAD, back));
			assert_memory_equal(in, back, n);
			free(in);
			free(out);
			free(out2);
			free(back);
		}
		volkeys_free(vk);
	}
}

/* Decrypts by plain EVP calls what blob_seal() made. */
static void matches_format(void **state)
{
	static const char text[] = "target/of/a/symlink";
	struct secret *volume = test_secret(1, 32), *inner = test_secret(101, 32);
	struct volkeys *vk = test_volume(fips, SUITE_XTS_GCM);
	const uint8_t head[3] = {BLOB_SYMLINK, 0, 16 + 3};
	uint8_t blob[sizeof(text) + BLOB_OVERHEAD], plain[sizeof(text)], key[32], mac[32];
	const struct piece in[] = {{head, 3}, {blob, 16}, {"ctx", 3}, {text, sizeof(text)}};
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0;

	(void)state;
	assert_ok(blob_seal(vk, BLOB_SYMLINK, "ctx", 3, text, sizeof(text), blob));
	test_kbkdf(fips, secret_view(volume), "bcfs1 blob mac", TEST_VOLUME, 16, key, 32);
	assert_ok(fips_hmac(fips, key, 32, in, COUNT(in), mac));
	assert_memory_equal(blob + 16, mac, 16);
	test_kbkdf(fips, secret_view(volume), "bcfs1 blob enc", TEST_VOLUME, 16, key, 32);
	assert_int_equal(EVP_EncryptInit_ex2(c, fips->ctr, key, mac, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(c, plain, &n, blob + 32, (int)sizeof(text)), 1);
	test_kbkdf(fips, secret_view(inner), "bcfs1 inner blob", TEST_VOLUME, 16, key, 32);
	assert_int_equal(EVP_EncryptInit_ex2(c, fips->ctr, key, mac, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(c, plain, &n, plain, (int)sizeof(text)), 1);
	assert_memory_equal(plain, text, sizeof(text));
	EVP_CIPHER_CTX_free(c);
	secret_free(volume);
	secret_free(inner);
	volkeys_free(vk);
}

static void tampering(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	const uint8_t zeros[40] = {0};
	uint8_t out[40 + BLOB_OVERHEAD], back[40];

	(void)state;
	assert_ok(blob_seal(vk, BLOB_SYMLINK, "ab", 2, "0123456789012345678901234567890123456789", 40, out));
	for (size_t bit = 0; bit < sizeof(out) * 8; bit++) {
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		memset(back, 1, sizeof(back));
		assert_int_equal(blob_open(vk, BLOB_SYMLINK, "ab", 2, out, sizeof(out), back), ERR_CORRUPT);
		assert_memory_equal(back, zeros, sizeof(back));
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t cut = 0; cut < sizeof(out); cut++)
		assert_int_equal(blob_open(vk, BLOB_SYMLINK, "ab", 2, out, cut, back), ERR_CORRUPT);
	assert_int_equal(blob_open(vk, BLOB_XATTR_VALUE, "ab", 2, out, sizeof(out), back), ERR_CORRUPT);
	assert_int_equal(blob_open(vk, BLOB_SYMLINK, "ac", 2, out, sizeof(out), back), ERR_CORRUPT);
	assert_int_equal(blob_open(vk, BLOB_SYMLINK, "a", 1, out, sizeof(out), back), ERR_CORRUPT);
	assert_int_equal(blob_open(vk, BLOB_SYMLINK, NULL, 0, out, sizeof(out), back), ERR_CORRUPT);
	assert_ok(blob_open(vk, BLOB_SYMLINK, "ab", 2, out, sizeof(out), back));
	volkeys_free(vk);
}

static void ranges(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	static uint8_t big[70000];
	uint8_t out[64];

	(void)state;
	assert_int_equal(blob_seal(vk, BLOB_SYMLINK, big, 65520, "x", 1, out), ERR_RANGE);
	assert_ok(blob_seal(vk, BLOB_SYMLINK, big, 65519, "x", 1, out));
	assert_int_equal(blob_open(vk, BLOB_SYMLINK, big, 65520, out, 33, big), ERR_RANGE);
	assert_int_equal(blob_seal(vk, BLOB_SYMLINK, NULL, 0, big, SIZE_MAX, out), ERR_RANGE);
	volkeys_wipe(vk);
	assert_int_equal(blob_seal(vk, BLOB_SYMLINK, NULL, 0, "x", 1, out), ERR_KEY_UNAVAILABLE);
	assert_int_equal(blob_open(vk, BLOB_SYMLINK, NULL, 0, out, 33, big), ERR_KEY_UNAVAILABLE);
	volkeys_free(vk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(matches_format),
		cmocka_unit_test(tampering),
		cmocka_unit_test(ranges),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
