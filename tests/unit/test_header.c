/* SPDX-License-Identifier: Apache-2.0 */
/* File headers: FORMAT.md section 4. */
#include "tests/unit/testlib.h"

static struct file_header sample(void)
{
	struct file_header h = {
		.version = 1,
		.suite = SUITE_XTS_GCM,
		.incompat = HEADER_HOLES | HEADER_TRUNC,
		.ro_compat = 0x80,
		.compat = 0x41,
		.trunc_length = UINT64_C(0x0102030405060708),
	};

	memcpy(h.file_id, TEST_FILE, ID_BYTES);
	for (size_t i = 0; i < sizeof(h.kept); i++)
		h.kept[i] = (uint8_t)(i + 1);
	return h;
}

static void layout(void **state)
{
	struct file_header h = sample();
	uint8_t out[HEADER_BYTES];

	(void)state;
	memset(out, 0xff, sizeof(out));
	header_encode(&h, out);
	assert_hex(out, "42434631"
			"0001"
			"0002"
			"0003"
			"80"
			"41"
			"00000000");
	assert_memory_equal(out + 16, TEST_FILE, ID_BYTES);
	assert_hex(out + 32, "0102030405060708");
	for (size_t i = 40; i < HEADER_BYTES; i++)
		assert_int_equal(out[i], i - 39);
}

static void round_trip(void **state)
{
	struct file_header h = sample(), back = {0};
	uint8_t out[HEADER_BYTES], again[HEADER_BYTES];

	(void)state;
	header_encode(&h, out);
	assert_ok(header_decode(out, &back));
	header_encode(&back, again);
	assert_memory_equal(out, again, HEADER_BYTES);
	assert_int_equal(back.ro_compat, 0x80);
	assert_int_equal(back.compat, 0x41);
}

static enum err decode_with(size_t at, uint8_t value)
{
	struct file_header h = sample(), back = {0};
	uint8_t out[HEADER_BYTES];

	header_encode(&h, out);
	out[at] = value;
	return header_decode(out, &back);
}

static void refused(void **state)
{
	struct file_header h = sample(), back = {0};
	uint8_t out[HEADER_BYTES] = {0};

	(void)state;
	assert_int_equal(header_decode(out, &back), ERR_CORRUPT); /* all zero */
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(decode_with(i, 0), ERR_CORRUPT);
	assert_int_equal(decode_with(4, 1), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(5, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(5, 0), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(7, 0), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(7, 3), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(8, 1), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(9, 4 | 3), ERR_UNSUPPORTED);
	for (size_t i = 12; i < 16; i++)
		assert_int_equal(decode_with(i, 1), ERR_CORRUPT);
	assert_int_equal(decode_with(9, HEADER_HOLES), ERR_CORRUPT); /* a length without TRUNC */
	assert_int_equal(decode_with(32, 0x80), ERR_CORRUPT);	     /* no file is that long */
	h.trunc_length = 0;
	header_encode(&h, out);
	assert_ok(header_decode(out, &back)); /* cut to nothing */
}

/* Whatever the bytes: no crash, and what decodes encodes to the same bytes. */
static void noise(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (int n = 0; n < 200000; n++) {
		struct file_header h = sample(), back;
		uint8_t in[HEADER_BYTES], again[HEADER_BYTES];

		header_encode(&h, in);
		for (int k = 0; k < 3; k++) {
			seed = seed * 1664525u + 1013904223u;
			in[seed >> 8 & 127] = (uint8_t)(seed >> 24);
		}
		if (header_decode(in, &back) == ERR_OK) {
			header_encode(&back, again);
			assert_memory_equal(in, again, HEADER_BYTES);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(refused),
		cmocka_unit_test(noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
