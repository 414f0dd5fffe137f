/* SPDX-License-Identifier: Apache-2.0 */
/* base64url without padding: RFC 4648 section 10 (less the padding) and what has to be refused. */
#include "tests/unit/testlib.h"

static void vectors(void **state)
{
	static const char *const v[][2] = {
		{"", ""},
		{"f", "Zg"},
		{"fo", "Zm8"},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg"},
		{"fooba", "Zm9vYmE"},
		{"foobar", "Zm9vYmFy"},
		{"\xfb\xff\xbf", "-_-_"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(v); i++) {
		char text[16];
		uint8_t back[16];
		size_t len = 99;

		assert_int_equal(b64_len(strlen(v[i][0])), strlen(v[i][1]));
		b64_encode(v[i][0], strlen(v[i][0]), text);
		assert_string_equal(text, v[i][1]);
		assert_ok(b64_decode(text, strlen(text), back, sizeof(back), &len));
		assert_int_equal(len, strlen(v[i][0]));
		assert_memory_equal(back, v[i][0], len);
	}
}

static void round_trip(void **state)
{
	uint8_t in[300], back[300];
	char text[401];

	(void)state;
	for (size_t n = 0; n <= sizeof(in); n++) {
		size_t len = 0;

		for (size_t i = 0; i < n; i++)
			in[i] = (uint8_t)(i * 31 + n);
		b64_encode(in, n, text);
		assert_int_equal(strlen(text), b64_len(n));
		assert_ok(b64_decode(text, strlen(text), back, n, &len)); /* exactly enough room */
		assert_int_equal(len, n);
		assert_memory_equal(in, back, n);
	}
}

static void refused(void **state)
{
	/* padding, the other alphabet, white space, surplus bits, a lone character, foreign characters */
	static const char *const bad[] = {
		"Zg==", "Zg=", "+/+/", "Zm9v ", " Zm9v", "Zm\n9v", "Zh", "Zm9", "Z", "Zm9vY", "Zm9.", "\xc3\xa4g"};
	uint8_t out[16];
	size_t len = 77;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(b64_decode(bad[i], strlen(bad[i]), out, sizeof(out), &len), ERR_CORRUPT);
	assert_int_equal(b64_decode("Zm9v\0", 5, out, sizeof(out), &len), ERR_CORRUPT);
	assert_int_equal(b64_decode("Zm9vYmFy", 8, out, 5, &len), ERR_CORRUPT); /* too long */
	/* Every byte that is not in the alphabet, at every place of a group of four. */
	for (int c = 0; c < 256; c++) {
		for (size_t at = 0; at < 4; at++) {
			char text[9] = "ZmZmZmZm";
			bool ok =
				c != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", c);
			enum err e;

			text[at] = (char)c;
			e = b64_decode(text, 8, out, sizeof(out), &(size_t){0});
			assert_int_equal(e, ok ? ERR_OK : ERR_CORRUPT);
		}
	}
	assert_int_equal(len, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
