/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret - guarded secrets, process hardening and the route from OpenSSL to locked memory (crypto/locked.c).
 */
#include "crypto/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "crypto/locked_internal.h"

struct secret {
	size_t len;
	uint8_t bytes[];
};

static void *hook_malloc(size_t len, const char *file, int line)
{
	(void)file;
	(void)line;
	return len > 0 ? locked_alloc_packed(len) : NULL;
}

static void *hook_realloc(void *p, size_t len, const char *file, int line)
{
	(void)file;
	(void)line;
	return locked_realloc(p, len);
}

static void hook_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	locked_free(p);
}

enum err secret_hook_openssl(void)
{
	/* Refused once OpenSSL has allocated anything: then part of its memory would stay ordinary memory. */
	return CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) == 1 ? ERR_OK : ERR_BUG;
}

enum err secret_setup(struct err_why *why)
{
	const struct rlimit no_core = {0, 0};

	if (setrlimit(RLIMIT_CORE, &no_core))
		return err_set(why, ERR_IO, errno, "core dumps can't be turned off (setrlimit RLIMIT_CORE)");
#ifndef __SANITIZE_ADDRESS__
	/* LeakSanitizer has to trace the process; builds for people are not dumpable. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return err_set(why, ERR_IO, errno, "the process can't be made undumpable (prctl PR_SET_DUMPABLE)");
#endif
	if (locked_start() == ERR_OK)
		return ERR_OK;
	return err_set(why, ERR_NOMEM, errno,
		"memory for keys can't be locked: raise the limit to 8 MiB or more (\"memlock\" in "
		"/etc/security/limits.conf, LimitMEMLOCK= in a systemd unit, or ulimit -l)");
}

void secret_teardown(void)
{
	OPENSSL_cleanup();
	locked_stop();
}

enum err secret_new(size_t len, struct secret **out)
{
	struct secret *s;

	if (len > SECRET_MAX)
		return ERR_RANGE;
	s = locked_chunk_new(sizeof(*s) + len);
	if (!s)
		return ERR_NOMEM;
	s->len = len;
	*out = s;
	return ERR_OK;
}

enum err secret_take(void *src, size_t len, struct secret **out)
{
	struct secret *s = NULL;
	enum err e = secret_new(len, &s);

	if (e == ERR_OK && len > 0)
		memcpy(s->bytes, src, len);
	secret_wipe(src, len);
	if (e == ERR_OK)
		*out = s;
	return e;
}

uint8_t *secret_bytes(struct secret *s)
{
	return s->bytes;
}

const uint8_t *secret_view(const struct secret *s)
{
	return s->bytes;
}

size_t secret_len(const struct secret *s)
{
	return s->len;
}

void secret_free(struct secret *s)
{
	if (s)
		locked_chunk_free(s, sizeof(*s) + s->len);
}

void secret_wipe(void *p, size_t len)
{
	if (len > 0)
		sodium_memzero(p, len);
}

bool secret_equal(const void *a, const void *b, size_t len)
{
	return len == 0 || sodium_memcmp(a, b, len) == 0;
}
