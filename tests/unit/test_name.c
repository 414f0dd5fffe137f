/* SPDX-License-Identifier: Apache-2.0 */
/* Names, directory ids and names of extended attributes: FORMAT.md sections 5 and 6. */
#include "tests/unit/testlib.h"

static struct fips *fips;

/* The text an N. link or a short component holds. */
static const char *cipher_text(const struct enc_name *n)
{
	return n->is_long ? n->side_target : n->text;
}

/* iv | ciphertext as FORMAT.md tells, by plain EVP calls; returns its length. */
static size_t by_hand(enum suite suite, uint8_t purpose, const uint8_t *context, size_t ctx_len, const char *name,
	size_t len, uint8_t *raw)
{
	struct secret *volume = test_secret(1, 32), *inner = test_secret(101, 32);
	const uint8_t head[3] = {purpose, 0, (uint8_t)ctx_len};
	uint8_t plain[256] = {0}, key[32], mac[32];
	size_t padded = (len + 15) / 16 * 16;
	const struct piece in[] = {{head, 3}, {context, ctx_len}, {plain, padded}};
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0;

	memcpy(plain, name, len);
	test_kbkdf(fips, secret_view(volume), "bcfs1 name mac", TEST_VOLUME, 16, key, 32);
	assert_ok(fips_hmac(fips, key, 32, in, 3, mac));
	memcpy(raw, mac, 16);
	test_kbkdf(fips, secret_view(volume), "bcfs1 name enc", TEST_VOLUME, 16, key, 32);
	assert_int_equal(EVP_EncryptInit_ex2(c, fips->ctr, key, mac, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(c, raw + 16, &n, plain, (int)padded), 1);
	if (suite == SUITE_XTS_GCM) {
		test_kbkdf(fips, secret_view(inner), "bcfs1 inner name", TEST_VOLUME, 16, key, 32);
		assert_int_equal(EVP_EncryptInit_ex2(c, fips->ctr, key, mac, NULL), 1);
		assert_int_equal(EVP_EncryptUpdate(c, raw + 16, &n, raw + 16, (int)padded), 1);
	}
	EVP_CIPHER_CTX_free(c);
	secret_free(volume);
	secret_free(inner);
	return 16 + padded;
}

static void matches_format(void **state)
{
	static const char *const names[] = {"a", "sixteen letters.", "seventeen letters", "\xff\x01 \n."};

	(void)state;
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (size_t i = 0; i < COUNT(names); i++) {
			size_t len = strlen(names[i]);
			struct enc_name enc;
			uint8_t raw[300];
			char text[400];

			assert_ok(name_seal(vk, TEST_DIR, names[i], len, &enc));
			b64_encode(raw, by_hand(suite, 1, TEST_DIR, 16, names[i], len, raw), text);
			assert_string_equal(enc.text, text);
			assert_false(enc.is_long);
			assert_ok(xattr_name_seal(vk, names[i], enc.text));
			b64_encode(raw, by_hand(suite, 3, NULL, 0, names[i], len, raw), text);
			assert_string_equal(enc.text, text);
		}
		volkeys_free(vk);
	}
}

/* The hash names of a long one. */
static void long_form(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	char name[255], text[400], want[64] = "L.";
	struct enc_name enc;
	uint8_t raw[300], hash[32];
	size_t n;

	(void)state;
	memset(name, 'x', sizeof(name));
	assert_ok(name_seal(vk, TEST_DIR, name, 161, &enc));
	assert_true(enc.is_long);
	n = by_hand(SUITE_GCM, 1, TEST_DIR, 16, name, 161, raw);
	b64_encode(raw, n, text);
	assert_string_equal(enc.side_target, text);
	assert_ok(fips_sha256(fips, raw, n, hash));
	b64_encode(hash, 32, want + 2);
	assert_string_equal(enc.text, want);
	want[0] = 'N';
	assert_string_equal(enc.side, want);
	assert_ok(name_long_matches(vk, enc.text, enc.side_target, strlen(enc.side_target)));
	assert_int_equal(name_long_matches(vk, enc.side, enc.side_target, strlen(enc.side_target)), ERR_CORRUPT);
	enc.text[5] ^= 1;
	assert_int_equal(name_long_matches(vk, enc.text, enc.side_target, strlen(enc.side_target)), ERR_CORRUPT);
	enc.text[5] ^= 1;
	enc.side_target[7] = enc.side_target[7] == 'A' ? 'B' : 'A';
	assert_int_equal(name_long_matches(vk, enc.text, enc.side_target, strlen(enc.side_target)), ERR_CORRUPT);
	assert_int_equal(name_long_matches(vk, enc.text, "!", 1), ERR_CORRUPT);
	volkeys_free(vk);
}

/* 1 to 255 bytes of any content. */
static void round_trips(void **state)
{
	(void)state;
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		struct volkeys *vk = test_volume(fips, suite);

		for (size_t n = 1; n <= 255; n++) {
			char name[255], back[256];
			struct enc_name enc, again;
			size_t len = 0, padded = (n + 15) / 16 * 16;

			for (size_t i = 0; i < n; i++) {
				name[i] = (char)(1 + (i * 37 + n * 11) % 255);
				if (name[i] == '/')
					name[i] = '\n';
			}
			assert_ok(name_seal(vk, TEST_DIR, name, n, &enc));
			assert_ok(name_seal(vk, TEST_DIR, name, n, &again));
			assert_string_equal(enc.text, again.text); /* deterministic */
			assert_int_equal(enc.is_long, n > 160);
			assert_true(strlen(enc.text) <= 235);
			assert_int_equal(strlen(cipher_text(&enc)), b64_len(16 + padded));
			assert_ok(name_open(vk, TEST_DIR, cipher_text(&enc), strlen(cipher_text(&enc)), back, &len));
			assert_int_equal(len, n);
			assert_memory_equal(name, back, n);
			assert_int_equal(back[n], 0);
		}
		volkeys_free(vk);
	}
}

static void bad_names(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	char name[256];
	struct enc_name enc;

	(void)state;
	memset(name, 'a', sizeof(name));
	assert_int_equal(name_seal(vk, TEST_DIR, name, 0, &enc), ERR_RANGE);
	assert_int_equal(name_seal(vk, TEST_DIR, name, 256, &enc), ERR_RANGE);
	assert_int_equal(name_seal(vk, TEST_DIR, "a/b", 3, &enc), ERR_RANGE);
	assert_int_equal(name_seal(vk, TEST_DIR, "a\0b", 3, &enc), ERR_RANGE);
	volkeys_free(vk);
}

static void wrong_place(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_XTS_GCM), *other[4];
	struct enc_name enc, enc2;
	char back[256] = "untouched";
	size_t len = 55;

	(void)state;
	other[0] = test_volume_keys(fips, SUITE_XTS_GCM, TEST_VOLUME, 1, 102);
	other[1] = test_volume_keys(fips, SUITE_XTS_GCM, TEST_VOLUME, 2, 101);
	other[2] = test_volume_keys(fips, SUITE_XTS_GCM, TEST_FILE, 1, 101);
	other[3] = test_volume_keys(fips, SUITE_GCM, TEST_VOLUME, 1, 0);
	assert_ok(name_seal(vk, TEST_DIR, "name", 4, &enc));
	assert_ok(name_seal(vk, TEST_FILE, "name", 4, &enc2));
	assert_string_not_equal(enc.text, enc2.text);
	assert_int_equal(name_open(vk, TEST_FILE, enc.text, strlen(enc.text), back, &len), ERR_CORRUPT);
	assert_string_equal(back, "");
	assert_int_equal(len, 55);
	/* An xattr name is not a file name. */
	assert_int_equal(xattr_name_open(vk, enc.text, strlen(enc.text), back), ERR_CORRUPT);
	for (size_t i = 0; i < COUNT(other); i++) {
		assert_int_equal(name_open(other[i], TEST_DIR, enc.text, strlen(enc.text), back, &len), ERR_CORRUPT);
		volkeys_free(other[i]);
	}
	volkeys_free(vk);
}

/* Each bit of iv and ciphertext; each cut; each foreign character. */
static void every_bit(void **state)
{
	static const size_t lengths[] = {1, 16, 30, 160, 255};
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	char name[255], back[256], text[400];
	struct enc_name enc;
	uint8_t raw[300];
	size_t n = 0, len = 0;

	(void)state;
	memset(name, 'n', sizeof(name));
	for (size_t k = 0; k < COUNT(lengths); k++) {
		assert_ok(name_seal(vk, TEST_DIR, name, lengths[k], &enc));
		assert_ok(b64_decode(cipher_text(&enc), strlen(cipher_text(&enc)), raw, sizeof(raw), &n));
		for (size_t bit = 0; bit < n * 8; bit++) {
			raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
			b64_encode(raw, n, text);
			assert_int_equal(name_open(vk, TEST_DIR, text, strlen(text), back, &len), ERR_CORRUPT);
			raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t cut = 0; cut < strlen(cipher_text(&enc)); cut++)
			assert_int_equal(name_open(vk, TEST_DIR, cipher_text(&enc), cut, back, &len), ERR_CORRUPT);
	}
	memset(text, 'A', sizeof(text));
	for (size_t i = 0; i <= sizeof(text); i++)
		assert_int_equal(name_open(vk, TEST_DIR, text, i, back, &len), ERR_CORRUPT);
	assert_int_equal(name_open(vk, TEST_DIR, "L.abc", 5, back, &len), ERR_CORRUPT);
	volkeys_free(vk);
}

static void dirids(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM), *other = test_volume_keys(fips, SUITE_GCM, TEST_FILE, 1, 0);
	struct secret *volume = test_secret(1, 32);
	const struct piece piece = {TEST_DIR, 16};
	uint8_t id[16], key[32], mac[32], raw[32];
	char text[DIRID_TEXT], want[DIRID_TEXT];

	(void)state;
	assert_ok(dirid_encode(vk, TEST_DIR, text));
	test_kbkdf(fips, secret_view(volume), "bcfs1 dirid mac", TEST_VOLUME, 16, key, 32);
	assert_ok(fips_hmac(fips, key, 32, &piece, 1, mac));
	memcpy(raw, TEST_DIR, 16);
	memcpy(raw + 16, mac, 16);
	b64_encode(raw, 32, want);
	assert_string_equal(text, want);
	assert_ok(dirid_decode(vk, text, strlen(text), id));
	assert_memory_equal(id, TEST_DIR, 16);
	assert_int_equal(dirid_decode(other, text, strlen(text), id), ERR_CORRUPT);
	for (size_t bit = 0; bit < sizeof(raw) * 8; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		b64_encode(raw, sizeof(raw), text);
		assert_int_equal(dirid_decode(vk, text, strlen(text), id), ERR_CORRUPT);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t cut = 0; cut < strlen(want); cut++)
		assert_int_equal(dirid_decode(vk, want, cut, id), ERR_CORRUPT);
	assert_int_equal(
		dirid_decode(vk, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 56, id), ERR_CORRUPT);
	secret_free(volume);
	volkeys_free(other);
	volkeys_free(vk);
}

static void xattr_names(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_XTS_GCM);
	char name[257] = {0}, text[NAME_ENC_MAX], back[256];

	(void)state;
	for (size_t n = 1; n <= 255; n++) {
		memset(name, 'x', n);
		name[n / 2] = '/'; /* allowed here */
		name[n] = '\0';
		assert_ok(xattr_name_seal(vk, name, text));
		assert_true(strlen(text) <= 200);
		if (n > 128) {
			assert_memory_equal(text, "L.", 2);
			assert_int_equal(strlen(text), 45);
			assert_int_equal(xattr_name_open(vk, text, strlen(text), back), ERR_CORRUPT);
			continue;
		}
		assert_ok(xattr_name_open(vk, text, strlen(text), back));
		assert_string_equal(name, back);
		text[3] = text[3] == 'A' ? 'B' : 'A';
		assert_int_equal(xattr_name_open(vk, text, strlen(text), back), ERR_CORRUPT);
		assert_string_equal(back, "");
	}
	memset(name, 'x', 256);
	assert_int_equal(xattr_name_seal(vk, name, text), ERR_RANGE);
	assert_int_equal(xattr_name_seal(vk, "", text), ERR_RANGE);
	volkeys_free(vk);
}

static void closed(void **state)
{
	struct volkeys *vk = test_volume(fips, SUITE_GCM);
	struct secret *k = test_secret(1, 32);
	struct enc_name enc, again;
	char text[NAME_ENC_MAX], back[256];
	uint8_t id[16];
	size_t len;

	(void)state;
	assert_ok(name_seal(vk, TEST_DIR, "name", 4, &enc));
	volkeys_wipe(vk);
	volkeys_wipe(vk); /* harmless */
	assert_int_equal(name_seal(vk, TEST_DIR, "name", 4, &again), ERR_KEY_UNAVAILABLE);
	assert_int_equal(name_open(vk, TEST_DIR, enc.text, strlen(enc.text), back, &len), ERR_KEY_UNAVAILABLE);
	assert_int_equal(xattr_name_seal(vk, "name", text), ERR_KEY_UNAVAILABLE);
	assert_int_equal(dirid_encode(vk, TEST_DIR, text), ERR_KEY_UNAVAILABLE);
	memset(text, 'A', 43);
	assert_int_equal(dirid_decode(vk, text, 42, id), ERR_CORRUPT);
	assert_int_equal(volkeys_random_id(vk, id), ERR_KEY_UNAVAILABLE);
	assert_ok(volkeys_load(vk, k, NULL));
	assert_ok(name_open(vk, TEST_DIR, enc.text, strlen(enc.text), back, &len));
	assert_string_equal(back, "name");
	secret_free(k);
	volkeys_free(vk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_format),
		cmocka_unit_test(long_form),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(bad_names),
		cmocka_unit_test(wrong_place),
		cmocka_unit_test(every_bit),
		cmocka_unit_test(dirids),
		cmocka_unit_test(xattr_names),
		cmocka_unit_test(closed),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
