/* SPDX-License-Identifier: Apache-2.0 */
/* Names, long names, directory ids, names and values of extended attributes, symlink targets: what opens is what would
 * be sealed again, and what was sealed opens. */
#include "fuzzlib.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_start();
	return 0;
}

/* Hostile text in the place of something sealed. */
static void open_any(const char *text, size_t len)
{
	char out[NAME_MAX_PLAIN + 1], again[NAME_ENC_MAX];
	uint8_t id[ID_BYTES], blob[8192];
	struct enc_name name;
	size_t got = 0;

	if (name_open(fuzz_keys, FUZZ_FILE, text, len, out, &got) == ERR_OK) {
		check(got > 0 && got <= NAME_MAX_PLAIN && name_seal(fuzz_keys, FUZZ_FILE, out, got, &name) == ERR_OK);
		check(strlen(name.is_long ? name.side_target : name.text) == len);
		check(memcmp(name.is_long ? name.side_target : name.text, text, len) == 0);
	}
	if (xattr_name_open(fuzz_keys, text, len, out) == ERR_OK) {
		check(xattr_name_seal(fuzz_keys, out, again) == ERR_OK);
		check(strlen(again) == len && memcmp(again, text, len) == 0);
	}
	check(dirid_decode(fuzz_keys, text, len, id) != ERR_OK);
	check(name_long_matches(fuzz_keys, "L.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", text, len) != ERR_OK);
	if (len >= BLOB_OVERHEAD && len <= sizeof(blob))
		check(blob_open(fuzz_keys, BLOB_SYMLINK, "", 0, (const uint8_t *)text, len, blob) != ERR_OK);
}

static void seal_and_open(const char *text, size_t len)
{
	char out[NAME_MAX_PLAIN + 1];
	uint8_t blob[8192 + BLOB_OVERHEAD], plain[8192];
	struct enc_name name;
	size_t got = 0;
	enum err e = name_seal(fuzz_keys, FUZZ_FILE, text, len, &name);

	check((e == ERR_OK) == (len > 0 && len <= NAME_MAX_PLAIN && !memchr(text, 0, len) && !memchr(text, '/', len)));
	if (e == ERR_OK) {
		const char *enc = name.is_long ? name.side_target : name.text;

		check(strlen(name.text) < NAME_ENC_MAX);
		check(name_open(fuzz_keys, FUZZ_FILE, enc, strlen(enc), out, &got) == ERR_OK);
		check(got == len && memcmp(out, text, len) == 0);
		check(!name.is_long || name_long_matches(fuzz_keys, name.text, enc, strlen(enc)) == ERR_OK);
		check(name_open(fuzz_keys, FUZZ_VOLUME, enc, strlen(enc), out, &got) != ERR_OK);
	}
	if (len == 0 || len > sizeof(plain))
		return;
	check(blob_seal(fuzz_keys, BLOB_XATTR_VALUE, "x", 1, text, len, blob) == ERR_OK);
	check(blob_open(fuzz_keys, BLOB_XATTR_VALUE, "x", 1, blob, len + BLOB_OVERHEAD, plain) == ERR_OK);
	check(memcmp(plain, text, len) == 0);
	check(blob_open(fuzz_keys, BLOB_XATTR_VALUE, "y", 1, blob, len + BLOB_OVERHEAD, plain) != ERR_OK);
	blob[(size_t)(unsigned char)text[0] * len / 256] ^= 1;
	check(blob_open(fuzz_keys, BLOB_XATTR_VALUE, "x", 1, blob, len + BLOB_OVERHEAD, plain) != ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	open_any((const char *)data, size);
	seal_and_open((const char *)data, size);
	return 0;
}
