/* SPDX-License-Identifier: Apache-2.0 */
/* File headers before they are authenticated: what is taken comes back the same from what is made of it. */
#include "fuzzlib.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t in[HEADER_BYTES] = {0}, out[HEADER_BYTES];
	struct file_header h, again;
	enum err e;

	memcpy(in, data, size < sizeof(in) ? size : sizeof(in));
	e = header_decode(in, &h);
	check(e == ERR_OK || e == ERR_CORRUPT || e == ERR_UNSUPPORTED);
	if (e != ERR_OK)
		return 0;
	header_encode(&h, out);
	check(header_decode(out, &again) == ERR_OK);
	check(h.suite == again.suite && h.version == again.version && h.trunc_length == again.trunc_length);
	check(memcmp(h.file_id, again.file_id, ID_BYTES) == 0 && memcmp(h.kept, again.kept, sizeof(h.kept)) == 0);
	return 0;
}
