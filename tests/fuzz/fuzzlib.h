/* SPDX-License-Identifier: Apache-2.0 */
/* fuzzlib - what targets that need keys share: OpenSSL's memory hooked, a FIPS provider, keys of a volume, a directory
 * in memory.  BCFS_TEST_FIPS_DIR names the provider; without it the usual places are searched. */
#pragma once
#include "crypto/fips.h"
#include "crypto/secret.h"
#include "crypto/volkeys.h"
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FUZZ_VOLUME ((const uint8_t *)"fuzz volume id 1")
#define FUZZ_FILE   ((const uint8_t *)"fuzz file id 001")

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fips *fuzz_fips;
static struct volkeys *fuzz_keys;

static inline void check(bool ok)
{
	if (!ok)
		abort();
}

/* To be called by LLVMFuzzerInitialize: nothing may have touched OpenSSL. */
static inline void fuzz_start(void)
{
	const struct fips_config cfg = {.dir = getenv("BCFS_TEST_FIPS_DIR")};
	struct err_why why = {0};
	struct secret *k = NULL;

	if (secret_hook_openssl() != ERR_OK || secret_setup(&why) != ERR_OK ||
		fips_open(&cfg, &fuzz_fips, &why) != ERR_OK) {
		fprintf(stderr, "fuzz_start: %s\n", why.text);
		exit(1);
	}
	check(secret_new(VOLUME_KEY_BYTES, &k) == ERR_OK);
	memset(secret_bytes(k), 0x5a, VOLUME_KEY_BYTES);
	check(volkeys_new(fuzz_fips, SUITE_GCM, FUZZ_VOLUME, k, NULL, &fuzz_keys) == ERR_OK);
	secret_free(k);
}

#ifdef FUZZ_FILES
static char fuzz_path[64];

static void fuzz_remove_directory(void)
{
	static const char *const names[] = {FUZZ_FILES};
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_path, names[i]);
		unlink(path);
	}
	rmdir(fuzz_path);
}

/* A new directory in memory; the target defines FUZZ_FILES, the names it writes there, and they go at the end. */
static inline int fuzz_directory(void)
{
	snprintf(fuzz_path, sizeof(fuzz_path), "%s/bcfs-fuzz.XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	check(mkdtemp(fuzz_path) != NULL && atexit(fuzz_remove_directory) == 0);
	return open(fuzz_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void fuzz_write(int dirfd, const char *name, const void *data, size_t len)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	check(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	close(fd);
}
#endif
