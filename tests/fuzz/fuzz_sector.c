/* SPDX-License-Identifier: Apache-2.0 */
/* Sectors: nothing but what was sealed opens, and what does not open leaves no plaintext behind. First byte: the
 * sector; the next two: which byte of a good one is changed, and how. */
#include "fuzzlib.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_start();
	return 0;
}

static void check_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		check(p[i] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t sector[SECTOR_BYTES], payload[PAYLOAD], out[PAYLOAD], header[HEADER_BYTES];
	struct file_header h = {.version = 1, .suite = SUITE_GCM};
	struct sealer *s = NULL;
	uint64_t number = size > 0 ? data[0] & 3 : 0;
	uint32_t cap = sector_capacity(number), meta = 0, len;
	size_t at;

	if (size < 4)
		return 0;
	check(sealer_get(fuzz_keys, FUZZ_FILE, number, &s) == ERR_OK);
	memset(sector, 0, sizeof(sector));
	memcpy(sector, data + 3, size - 3 < SECTOR_BYTES ? size - 3 : SECTOR_BYTES);
	memset(out, 0xee, sizeof(out));
	check(sector_open(s, number, sector, out, &meta) != ERR_OK);
	check_zero(out, cap);
	len = (uint32_t)(size - 3 < cap ? size - 3 : cap);
	memcpy(payload, data + 3, len);
	memcpy(h.file_id, FUZZ_FILE, ID_BYTES);
	header_encode(&h, header);
	check(sector_seal(s, number, META(7, true, len), number ? NULL : header, payload, sector) == ERR_OK);
	check(sector_open(s, number, sector, out, &meta) == ERR_OK);
	check(meta == META(7, true, len) && memcmp(out, payload, len) == 0);
	check_zero(out + len, cap - len);
	at = (data[1] * 16u + (data[2] >> 4)) % SECTOR_BYTES;
	sector[at] ^= (uint8_t)(1u << (data[2] & 7));
	check(sector_open(s, number, sector, out, &meta) != ERR_OK);
	check_zero(out, cap);
	sealer_put(s);
	return 0;
}
