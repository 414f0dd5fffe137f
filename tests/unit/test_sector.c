/* SPDX-License-Identifier: Apache-2.0 */
/* Sectors and sealers: FORMAT.md section 4. */
#include "tests/unit/testlib.h"

#include <openssl/core_names.h>

#define BIG_SECTOR ((UINT64_C(5) << SEGMENT_SHIFT) + 77)

static struct fips *fips;

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 29 + (i >> 8) + seed);
}

static void header_of(const uint8_t *file_id, enum suite suite, uint8_t *out)
{
	struct file_header h = {.version = 1, .suite = (uint16_t)suite};

	memcpy(h.file_id, file_id, ID_BYTES);
	header_encode(&h, out);
}

static enum err seal(struct volkeys *vk, const uint8_t *file_id, uint64_t sector, uint32_t meta, const uint8_t *payload,
	uint8_t *out)
{
	uint8_t header[HEADER_BYTES];
	struct sealer *s = NULL;
	enum err e = sealer_get(vk, file_id, sector, &s);

	if (e != ERR_OK)
		return e;
	header_of(file_id, volkeys_suite(vk), header);
	e = sector_seal(s, sector, meta, sector == 0 ? header : NULL, payload, out);
	sealer_put(s);
	return e;
}

static enum err open_at(struct volkeys *vk, const uint8_t *file_id, uint64_t sector, const uint8_t *in,
	uint8_t *payload, uint32_t *meta)
{
	struct sealer *s = NULL;
	enum err e = sealer_get(vk, file_id, sector, &s);

	if (e != ERR_OK)
		return e;
	e = sector_open(s, sector, in, payload, meta);
	sealer_put(s);
	return e;
}

/* Refused, and nothing of the plaintext given out. */
static void assert_refused(struct volkeys *vk, const uint8_t *file_id, uint64_t sector, const uint8_t *in)
{
	static const uint8_t zeros[SECTOR_BYTES];
	uint8_t payload[SECTOR_BYTES];
	uint32_t meta = 0x1234;

	memset(payload, 0xee, sizeof(payload));
	assert_int_equal(open_at(vk, file_id, sector, in, payload, &meta), ERR_CORRUPT);
	assert_int_equal(meta, 0x1234);
	assert_memory_equal(payload, zeros, sector_capacity(sector));
}

static void round_trips(void **state)
{
	static const uint64_t sectors[] = {0, 1, 2, (1 << SEGMENT_SHIFT) - 1, 1 << SEGMENT_SHIFT, BIG_SECTOR};
	static const uint32_t lengths[] = {0, 1, 15, 16, 17, 100, 3935, 3936, 4063, 4064};
	uint8_t in[SECTOR_BYTES], out[SECTOR_BYTES], back[SECTOR_BYTES];

	(void)state;
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (size_t i = 0; i < COUNT(sectors) * COUNT(lengths); i++) {
			uint64_t sector = sectors[i / COUNT(lengths)];
			uint32_t len = lengths[i % COUNT(lengths)], capacity = sector_capacity(sector), meta = 0;
			uint32_t want = META(0xabcd, len != capacity || i % 2, len);

			fill(in, sizeof(in), (unsigned)i);
			if (len > capacity || (len == 0 && sector != 0)) {
				assert_int_equal(seal(vk, TEST_FILE, sector, want, in, out), ERR_BUG);
				continue;
			}
			assert_ok(seal(vk, TEST_FILE, sector, want, in, out));
			memset(back, 0xee, sizeof(back));
			assert_ok(open_at(vk, TEST_FILE, sector, out, back, &meta));
			assert_int_equal(meta, want);
			assert_int_equal(META_LENGTH(meta), len);
			assert_int_equal(META_STAMP(meta), 0xabcd);
			assert_memory_equal(in, back, len);
			for (uint32_t k = len; k < capacity; k++)
				assert_int_equal(back[k], 0);
			assert_int_equal(back[capacity], 0xee); /* not one byte more */
		}
		volkeys_free(vk);
	}
}

/* Decrypts by plain EVP calls, from the keys up, what sector_seal() made. */
static void by_hand(enum suite suite, uint64_t sector, const uint8_t *in, uint8_t *payload)
{
	struct secret *volume = test_secret(1, 32), *inner = test_secret(101, 32);
	uint32_t capacity = sector_capacity(sector);
	uint8_t ctx[36], key[64], aad[32 + 128] = {0, (uint8_t)suite, 0, 1}, tweak[16] = {0}, tag[16];
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0;

	memcpy(ctx, TEST_VOLUME, 16);
	memcpy(ctx + 16, TEST_FILE, 16);
	memcpy(aad + 4, TEST_FILE, 16);
	for (unsigned i = 0; i < 8; i++) {
		aad[20 + i] = (uint8_t)(sector >> (56 - 8 * i));
		tweak[i] = (uint8_t)(sector >> (8 * i));
	}
	for (unsigned i = 0; i < 4; i++)
		ctx[32 + i] = (uint8_t)((sector >> 20) >> (24 - 8 * i));
	memcpy(aad + 28, in + 28, 4);
	memcpy(aad + 32, in + 32, 128);
	memcpy(tag, in + 12, 16);
	test_kbkdf(fips, secret_view(volume), "bcfs1 content", ctx, 36, key, 32);
	assert_int_equal(EVP_DecryptInit_ex2(c, fips->gcm, key, in, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, 16, tag), 1);
	assert_int_equal(EVP_DecryptUpdate(c, NULL, &n, aad, sector == 0 ? 160 : 32), 1);
	assert_int_equal(EVP_DecryptUpdate(c, payload, &n, in + 4096 - capacity, (int)capacity), 1);
	assert_int_equal(EVP_DecryptFinal_ex(c, payload + capacity, &n), 1);
	if (suite == SUITE_XTS_GCM) {
		test_kbkdf(fips, secret_view(inner), "bcfs1 inner content", ctx, 36, key, 64);
		assert_int_equal(EVP_DecryptInit_ex2(c, fips->xts, key, tweak, NULL), 1);
		assert_int_equal(EVP_DecryptUpdate(c, payload, &n, payload, (int)capacity), 1);
	}
	EVP_CIPHER_CTX_free(c);
	secret_free(volume);
	secret_free(inner);
}

static void matches_format(void **state)
{
	static const uint64_t sectors[] = {0, 1, BIG_SECTOR};
	uint8_t in[SECTOR_BYTES], out[SECTOR_BYTES], back[SECTOR_BYTES], header[HEADER_BYTES];

	(void)state;
	fill(in, sizeof(in), 9);
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (size_t i = 0; i < COUNT(sectors); i++) {
			assert_ok(seal(vk, TEST_FILE, sectors[i], META(0x1122, true, 1000), in, out));
			assert_hex(out + 28, "112213e8"); /* stamp, final, 1000 */
			by_hand(suite, sectors[i], out, back);
			assert_memory_equal(in, back, 1000);
			for (size_t k = 1000; k < sector_capacity(sectors[i]); k++)
				assert_int_equal(back[k], 0);
		}
		assert_ok(seal(vk, TEST_FILE, 0, META(0, true, 0), NULL, out));
		header_of(TEST_FILE, suite, header);
		assert_memory_equal(out + 32, header, HEADER_BYTES);
		volkeys_free(vk);
	}
}

/* Every byte, every bit of the first and last ones. */
static void tampering(void **state)
{
	uint8_t in[SECTOR_BYTES], out[SECTOR_BYTES];

	(void)state;
	fill(in, sizeof(in), 3);
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (uint64_t sector = 0; sector < 2; sector++) {
			assert_ok(seal(vk, TEST_FILE, sector, META(7, false, sector_capacity(sector)), in, out));
			for (size_t i = 0; i < SECTOR_BYTES; i++) {
				for (unsigned bit = 0; bit < 8; bit++) {
					if (bit != i % 8 && i >= 200 && i < 4090)
						continue;
					out[i] ^= (uint8_t)(1 << bit);
					assert_refused(vk, TEST_FILE, sector, out);
					out[i] ^= (uint8_t)(1 << bit);
				}
			}
		}
		memset(out, 0, sizeof(out));
		assert_refused(vk, TEST_FILE, 0, out);
		assert_refused(vk, TEST_FILE, 1, out);
		volkeys_free(vk);
	}
}

static void wrong_place(void **state)
{
	static const uint8_t *const other_file = (const uint8_t *)"test file id 002";
	uint8_t in[SECTOR_BYTES], zero[SECTOR_BYTES], zero2[SECTOR_BYTES], five[SECTOR_BYTES];

	(void)state;
	fill(in, sizeof(in), 4);
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);
		struct volkeys *volume = test_volume_keys(fips, suite, TEST_DIR, 1, 101);
		uint32_t meta = META(1, true, 500), m = 0;

		assert_ok(seal(vk, TEST_FILE, 0, meta, in, zero));
		assert_ok(seal(vk, TEST_FILE, 5, meta, in, five));
		assert_refused(vk, TEST_FILE, 4, five);
		assert_refused(vk, TEST_FILE, 6, five);
		assert_refused(vk, TEST_FILE, 5 + (1 << SEGMENT_SHIFT), five);
		assert_refused(vk, TEST_FILE, 0, five);
		assert_refused(vk, TEST_FILE, 5, zero);
		assert_refused(vk, other_file, 5, five);
		assert_refused(vk, other_file, 0, zero);
		assert_refused(volume, TEST_FILE, 5, five);
		assert_refused(volume, TEST_FILE, 0, zero);
		/* Another file's header on this one's sector, and the other way round. */
		assert_ok(seal(vk, other_file, 0, meta, in, zero2));
		memcpy(zero2 + 32, zero + 32, HEADER_BYTES);
		assert_refused(vk, TEST_FILE, 0, zero2);
		assert_refused(vk, other_file, 0, zero2);
		assert_ok(open_at(vk, TEST_FILE, 0, zero, zero2, &m));
		volkeys_free(volume);
		volkeys_free(vk);
	}
}

/* In suite 2 each of the two keys is needed, and the inner one changes the content. */
static void both_keys(void **state)
{
	struct volkeys *vk = test_volume_keys(fips, SUITE_XTS_GCM, TEST_VOLUME, 1, 101);
	struct volkeys *outer = test_volume_keys(fips, SUITE_XTS_GCM, TEST_VOLUME, 2, 101);
	struct volkeys *inner = test_volume_keys(fips, SUITE_XTS_GCM, TEST_VOLUME, 1, 102);
	struct volkeys *plain = test_volume_keys(fips, SUITE_GCM, TEST_VOLUME, 1, 0);
	uint8_t in[SECTOR_BYTES], out[SECTOR_BYTES], back[SECTOR_BYTES];
	uint32_t meta = 0;

	(void)state;
	fill(in, sizeof(in), 5);
	assert_ok(seal(vk, TEST_FILE, 3, META(0, false, PAYLOAD), in, out));
	assert_refused(outer, TEST_FILE, 3, out);
	assert_refused(plain, TEST_FILE, 3, out);
	/* The tag is under the outer key, so the wrong inner one shows as noise. */
	assert_ok(open_at(inner, TEST_FILE, 3, out, back, &meta));
	for (size_t at = 0; at < PAYLOAD; at += 16)
		assert_memory_not_equal(in + at, back + at, 16);
	volkeys_free(vk);
	volkeys_free(outer);
	volkeys_free(inner);
	volkeys_free(plain);
}

static void misuse(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	uint8_t in[SECTOR_BYTES] = {0}, out[SECTOR_BYTES], header[HEADER_BYTES];
	struct sealer *s = NULL;
	uint32_t meta = 0;

	(void)state;
	assert_int_equal(sealer_get(vk, TEST_FILE, UINT64_C(1) << 52, &s), ERR_RANGE);
	assert_ok(sealer_get(vk, TEST_FILE, 7, &s));
	header_of(TEST_DIR, SUITE_GCM, header);
	assert_int_equal(sector_seal(s, 0, META(0, true, 1), NULL, in, out), ERR_BUG);	 /* no header */
	assert_int_equal(sector_seal(s, 0, META(0, true, 1), header, in, out), ERR_BUG); /* another file's */
	assert_int_equal(sector_seal(s, 1, META(0, true, 1), header, in, out), ERR_BUG);
	assert_int_equal(sector_seal(s, 1, META(0, false, 1), NULL, in, out), ERR_BUG); /* short, not final */
	assert_int_equal(sector_seal(s, 1, META(0, true, 0), NULL, in, out), ERR_BUG);
	assert_int_equal(sector_seal(s, 1, META(0, true, 4065), NULL, in, out), ERR_BUG);
	assert_int_equal(sector_seal(s, 1, META(0, true, 1) | 0x2000, NULL, in, out), ERR_BUG);
	assert_int_equal(sector_seal(s, BIG_SECTOR, META(0, true, 1), NULL, in, out), ERR_BUG);
	assert_int_equal(sector_open(s, BIG_SECTOR, in, out, &meta), ERR_BUG);
	sealer_put(s);
	volkeys_free(vk);
}

static int compare_nonces(const void *a, const void *b)
{
	return memcmp(a, b, 12);
}

/*
 * A million sealings under one content key, mixed with openings and with turns of other files, so that contexts are
 * keyed again and again: no nonce comes twice.
 */
static void nonces_differ(void **state)
{
	enum { N = 1000000 };
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	uint8_t(*nonce)[12] = malloc((size_t)N * 12);
	uint8_t in[SECTOR_BYTES] = {0}, out[SECTOR_BYTES], id[ID_BYTES] = {0};
	uint32_t meta = 0;

	(void)state;
	assert_non_null(nonce);
	for (uint32_t i = 0; i < N; i++) {
		assert_ok(seal(vk, TEST_FILE, 1, META(0, false, PAYLOAD), in, out));
		memcpy(nonce[i], out, 12);
		if (i % 1000 == 7)
			assert_ok(open_at(vk, TEST_FILE, 1, out, in, &meta));
		if (i % 20000 != 3)
			continue;
		for (unsigned k = 0; k < 300; k++) {
			memcpy(id, &k, sizeof(k));
			id[4] = (uint8_t)(k * 3);
			assert_ok(seal(vk, id, 1, META(0, false, PAYLOAD), in, out));
		}
	}
	qsort(nonce, N, 12, compare_nonces);
	for (size_t i = 1; i < N; i++)
		assert_true(memcmp(nonce[i - 1], nonce[i], 12) != 0);
	free(nonce);
	volkeys_free(vk);
}

/* No allocation per sector: what makes the one mutex of the allocator harmless. */
static void no_allocation(void **state)
{
	uint8_t in[SECTOR_BYTES] = {0}, out[SECTOR_BYTES], back[SECTOR_BYTES];
	struct locked_stats before, after;
	uint32_t meta = 0;

	(void)state;
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (unsigned i = 0; i < 1100; i++) {
			if (i == 100)
				locked_stats_get(&before);
			assert_ok(seal(vk, TEST_FILE, 1, META(0, true, 1 + i), in, out));
			assert_ok(open_at(vk, TEST_FILE, 1, out, back, &meta));
		}
		locked_stats_get(&after);
		assert_true(after.allocations == before.allocations);
		volkeys_free(vk);
	}
}

/* The module itself says that it made the IVs (FIPS 140-3 IG C.H), where it has that indicator: 3.4 and later. */
static void module_says_so(void **state)
{
	uint8_t key[32] = {1}, fixed[4] = {2}, iv[12], in[64] = {0}, out[64];
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned generated = 99;
	OSSL_PARAM set[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED, fixed, 4),
		OSSL_PARAM_construct_end()};
	OSSL_PARAM get[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_GET_IV_GEN, iv, 12),
		OSSL_PARAM_construct_end()};
	OSSL_PARAM indicator[] = {OSSL_PARAM_construct_uint("iv-generated", &generated), OSSL_PARAM_construct_end()};
	int n = 0;

	(void)state;
	assert_int_equal(EVP_EncryptInit_ex2(c, fips->gcm, key, NULL, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_set_params(c, set), 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(EVP_CIPHER_CTX_get_params(c, get), 1);
		assert_memory_equal(iv, fixed, 4);
		assert_int_equal(EVP_EncryptUpdate(c, out, &n, in, 64), 1);
		assert_int_equal(EVP_EncryptFinal_ex(c, out, &n), 1);
		(void)EVP_CIPHER_CTX_get_params(c, indicator);
		if (OSSL_PARAM_modified(indicator))
			assert_int_equal(generated, 1);
	}
	print_message(
		"# iv-generated indicator: %s\n", OSSL_PARAM_modified(indicator) ? "yes, 1" : "this module has none");
	EVP_CIPHER_CTX_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(matches_format),
		cmocka_unit_test(tampering),
		cmocka_unit_test(wrong_place),
		cmocka_unit_test(both_keys),
		cmocka_unit_test(misuse),
		cmocka_unit_test(nonces_differ),
		cmocka_unit_test(no_allocation),
		cmocka_unit_test(module_says_so),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
