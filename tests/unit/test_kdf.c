/* SPDX-License-Identifier: Apache-2.0 */
/* Key derivation: KBKDF, PBKDF2, and that each key of FORMAT.md section 3 is what that section says. */
#include "tests/unit/testlib.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>

static struct fips *fips;

/* SP 800-108 counter mode, recomputed from HMAC alone. */
static void kbkdf_matches_hmac(void **state)
{
	static const size_t lengths[] = {16, 31, 32, 33, 64, 100};
	uint8_t key[32], ctx[36], got[100], want[100];

	(void)state;
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(3 * i + 1);
	for (size_t i = 0; i < sizeof(ctx); i++)
		ctx[i] = (uint8_t)(200 - i);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		assert_ok(fips_kbkdf(fips, key, 32, "bcfs1 content", ctx, sizeof(ctx), got, lengths[i]));
		test_kbkdf(fips, key, "bcfs1 content", ctx, sizeof(ctx), want, lengths[i]);
		assert_memory_equal(got, want, lengths[i]);
	}
}

static void kbkdf_separates(void **state)
{
	const uint8_t key[32] = {1}, other[32] = {2}, ctx[16] = {3}, ctx2[16] = {4};
	uint8_t out[5][32];

	(void)state;
	assert_ok(fips_kbkdf(fips, key, 32, "a", ctx, 16, out[0], 32));
	assert_ok(fips_kbkdf(fips, other, 32, "a", ctx, 16, out[1], 32));
	assert_ok(fips_kbkdf(fips, key, 32, "b", ctx, 16, out[2], 32));
	assert_ok(fips_kbkdf(fips, key, 32, "a", ctx2, 16, out[3], 32));
	assert_ok(fips_kbkdf(fips, key, 32, "a", ctx, 15, out[4], 32));
	for (size_t i = 0; i < COUNT(out); i++) {
		for (size_t k = i + 1; k < COUNT(out); k++)
			assert_memory_not_equal(out[i], out[k], 32);
	}
}

/*
 * RFC 7914 section 11, first vector.  The module's lower bounds (SP 800-132: salt 16 bytes, 1000 rounds) refuse it,
 * which is checked too; "pkcs5" turns the bounds off for the vector.
 */
static void pbkdf2_rfc_7914(void **state)
{
	unsigned rounds = 1;
	int pkcs5 = 1;
	char digest[] = "SHA256", pass[] = "passwd", salt[] = "salt";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, pass, 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, 4),
		OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_ITER, &rounds),
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &pkcs5),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF_CTX *k = EVP_KDF_CTX_new(fips->pbkdf2);
	uint8_t out[64];

	(void)state;
	assert_non_null(k);
	assert_int_equal(EVP_KDF_derive(k, out, sizeof(out), params), 1);
	EVP_KDF_CTX_free(k);
	assert_hex(out, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
			"49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
}

/* One block by hand: U1 = HMAC(pass, salt | 1), Un = HMAC(pass, Un-1), XOR of all. */
static void pbkdf2_matches_hmac(void **state)
{
	static const char pass[] = "correct horse battery staple";
	const uint8_t salt[16] = "sixteen bytes...", one[4] = {0, 0, 0, 1};
	const struct piece first[] = {{salt, 16}, {one, 4}};
	uint8_t got[32], want[32], u[32];

	(void)state;
	assert_ok(fips_hmac(fips, (const uint8_t *)pass, strlen(pass), first, 2, u));
	memcpy(want, u, 32);
	for (unsigned n = 1; n < 1000; n++) {
		const struct piece next = {u, 32};

		assert_ok(fips_hmac(fips, (const uint8_t *)pass, strlen(pass), &next, 1, u));
		for (size_t i = 0; i < 32; i++)
			want[i] ^= u[i];
	}
	assert_ok(fips_pbkdf2(fips, pass, strlen(pass), salt, 16, 1000, got, 32));
	assert_memory_equal(got, want, 32);
}

static void pbkdf2_bounds(void **state)
{
	const uint8_t salt[16] = {0};
	uint8_t out[32];

	(void)state;
	if (!fips->is_fips)
		skip();
	memset(out, 1, sizeof(out));
	assert_int_equal(fips_pbkdf2(fips, "password12345678", 16, salt, 15, 1000, out, 32), ERR_RANGE);
	for (size_t i = 0; i < sizeof(out); i++)
		assert_int_equal(out[i], 0);
	assert_int_equal(fips_pbkdf2(fips, "password12345678", 16, salt, 16, 999, out, 32), ERR_RANGE);
}

/* MAC keys: the right label, the volume id as context. */
static void mac_keys(void **state)
{
	static const struct {
		enum mac_use use;
		const char *label;
	} uses[] = {{MAC_DESCRIPTOR, "bcfs1 descriptor"}, {MAC_STATE, "bcfs1 state"}, {MAC_AUDIT, "bcfs1 audit"}};
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	struct secret *volume_key = test_secret(1, 32);
	const struct piece text = {"some text", 9};

	(void)state;
	for (size_t i = 0; i < COUNT(uses); i++) {
		uint8_t key[32], want[32], got[32];

		test_kbkdf(fips, secret_view(volume_key), uses[i].label, TEST_VOLUME, 16, key, 32);
		assert_ok(fips_hmac(fips, key, 32, &text, 1, want));
		assert_ok(volkeys_mac(vk, uses[i].use, "some text", 9, got));
		assert_memory_equal(got, want, 32);
	}
	secret_free(volume_key);
	volkeys_free(vk);
}

static void random_ids(void **state)
{
	enum { N = 2000 };
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	uint8_t(*id)[ID_BYTES] = calloc(N, ID_BYTES);

	(void)state;
	assert_non_null(id);
	for (size_t i = 0; i < N; i++)
		assert_ok(volkeys_random_id(vk, id[i]));
	for (size_t i = 0; i < N; i++) {
		for (size_t k = i + 1; k < N; k++)
			assert_true(memcmp(id[i], id[k], ID_BYTES) != 0);
	}
	free(id);
	volkeys_free(vk);
}

static void key_shapes(void **state)
{
	struct secret *k = test_secret(1, 32), *small = test_secret(1, 31);
	struct volkeys *vk = NULL;

	(void)state;
	assert_int_equal(volkeys_new(fips, SUITE_GCM, TEST_VOLUME, small, NULL, &vk), ERR_RANGE);
	assert_int_equal(volkeys_new(fips, SUITE_GCM, TEST_VOLUME, k, k, &vk), ERR_RANGE);
	assert_int_equal(volkeys_new(fips, SUITE_XTS_GCM, TEST_VOLUME, k, NULL, &vk), ERR_RANGE);
	assert_int_equal(volkeys_new(fips, SUITE_XTS_GCM, TEST_VOLUME, k, small, &vk), ERR_RANGE);
	assert_int_equal(volkeys_new(fips, (enum suite)3, TEST_VOLUME, k, NULL, &vk), ERR_RANGE);
	assert_null(vk);
	assert_ok(volkeys_new(fips, SUITE_GCM, TEST_VOLUME, k, NULL, &vk));
	assert_int_equal(volkeys_suite(vk), SUITE_GCM);
	assert_ptr_equal(volkeys_fips(vk), fips);
	assert_memory_equal(volkeys_volume_id(vk), TEST_VOLUME, 16);
	assert_int_equal(volkeys_load(vk, small, NULL), ERR_RANGE);
	volkeys_free(vk);
	volkeys_free(NULL);
	secret_free(k);
	secret_free(small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kbkdf_matches_hmac),
		cmocka_unit_test(kbkdf_separates),
		cmocka_unit_test(pbkdf2_rfc_7914),
		cmocka_unit_test(pbkdf2_matches_hmac),
		cmocka_unit_test(pbkdf2_bounds),
		cmocka_unit_test(mac_keys),
		cmocka_unit_test(random_ids),
		cmocka_unit_test(key_shapes),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
