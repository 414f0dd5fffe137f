/* SPDX-License-Identifier: Apache-2.0 */
/* Contents of key files: exactly 64 hexadecimal digits, with or without a newline; the user's own may be 32 bytes. */
#include "keyprov/keyfile.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void forget(void)
{
	(void)unlink(path);
}

static int open_file(void)
{
	static int fd = -1;

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "%s/fuzz_keyfile.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	fd = mkstemp(path);
	check(fd >= 0);
	atexit(forget);
	return fd;
}

/* The same by other means. */
static bool expected(const uint8_t *data, size_t size, bool raw, uint8_t out[static KEYFILE_KEY_BYTES])
{
	static const uint8_t zeros[KEYFILE_KEY_BYTES];
	char digits[3] = "";

	if (raw && size == KEYFILE_KEY_BYTES) {
		memcpy(out, data, size);
		return memcmp(out, zeros, size) != 0;
	}
	if (size != 64 && !(size == 65 && data[64] == '\n'))
		return false;
	for (size_t i = 0; i < 64; i++) {
		if (!isxdigit(data[i]))
			return false;
		digits[i % 2] = (char)data[i];
		out[i / 2] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return memcmp(out, zeros, KEYFILE_KEY_BYTES) != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = open_file();

	check(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	for (enum keyfile_kind kind = KEYFILE_STORE; kind <= KEYFILE_CREDENTIAL; kind++) {
		uint8_t want[KEYFILE_KEY_BYTES];
		struct err_why why = {0};
		struct secret *key;
		enum err e = keyfile_read(AT_FDCWD, path, "shown", kind, &key, NULL, &why);

		if (expected(data, size, kind != KEYFILE_STORE, want)) {
			check(e == ERR_OK && secret_len(key) == sizeof(want));
			check(secret_equal(secret_view(key), want, sizeof(want)));
		} else {
			check(e == ERR_CORRUPT && !key && why.text[0]);
		}
		secret_free(key);
	}
	return 0;
}
