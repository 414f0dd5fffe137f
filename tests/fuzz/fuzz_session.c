/* SPDX-License-Identifier: Apache-2.0 */
/* The session state: any bytes; and any JSON object with a right MAC, as whoever once had the keys could have left. */
#include "keyprov/sealed_json.h"
#include "keyprov/volume.h"

#define FUZZ_FILES VOLUME_STATE, VOLUME_STATE ".bak"
#include "fuzzlib.h"

static struct volume volume = {.lock_fd = -1};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_start();
	volume.dirfd = fuzz_directory();
	memcpy(volume.id, FUZZ_VOLUME, ID_BYTES);
	return 0;
}

static void begin(void)
{
	struct session *s = NULL;
	struct err_why why = {0};
	enum err e = session_begin(&volume, fuzz_keys, true, &s, &why);

	check((e == ERR_OK) == (s != NULL));
	for (size_t i = 0; s && i < s->n_unclean; i++) {
		check(s->unclean[i].first <= s->unclean[i].last && s->unclean[i].last <= s->number);
		check(i == 0 || s->unclean[i - 1].last < s->unclean[i].first);
	}
	session_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *o = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	char text[SEALED_JSON_MAX];
	size_t len;

	fuzz_write(volume.dirfd, VOLUME_STATE, data, size);
	fuzz_write(volume.dirfd, VOLUME_STATE ".bak", data, size);
	begin();
	if (json_is_object(o) && sealed_json_seal(o, fuzz_keys, MAC_STATE) == ERR_OK) {
		len = json_dumpb(o, text, sizeof(text), JSON_COMPACT);
		if (len > 0 && len <= sizeof(text)) {
			fuzz_write(volume.dirfd, VOLUME_STATE, text, len);
			fuzz_write(volume.dirfd, VOLUME_STATE ".bak", text, len);
			begin();
		}
	}
	json_decref(o);
	unlinkat(volume.dirfd, VOLUME_STATE, 0);
	unlinkat(volume.dirfd, VOLUME_STATE ".bak", 0);
	return 0;
}
