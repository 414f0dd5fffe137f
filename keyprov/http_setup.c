/* SPDX-License-Identifier: Apache-2.0 */
/* http_setup - libcurl and jansson made fit for secrets, once per process. */
#include "keyprov/http_internal.h"
#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local bool starved;

static void *checked(void *p)
{
	if (!p)
		starved = true;
	return p;
}

static void *hook_malloc(size_t len)
{
	return checked(locked_alloc_packed(len > 0 ? len : 1));
}

static void *hook_calloc(size_t n, size_t len)
{
	size_t all;
	void *p;

	if (__builtin_mul_overflow(n, len, &all))
		return checked(NULL);
	p = hook_malloc(all);
	if (p)
		memset(p, 0, all);
	return p;
}

static void *hook_realloc(void *p, size_t len)
{
	return checked(locked_realloc(p, len > 0 ? len : 1));
}

static char *hook_strdup(const char *s)
{
	size_t len = strlen(s) + 1;
	char *p = hook_malloc(len);

	if (p)
		memcpy(p, s, len);
	return p;
}

bool http_starved(void)
{
	bool was = starved;

	starved = false;
	return was;
}

static struct {
	pthread_once_t once;
	enum err e;
	struct err_why why;
} setup = {.once = PTHREAD_ONCE_INIT};

static enum err start(struct err_why *why)
{
	/* What was made before is freed where it came from: by free(3). */
	json_set_alloc_funcs(locked_alloc_packed, locked_free_any);
	/* Both libcurl and OpenSSL would write the keys of every connection to the file named there. */
	(void)unsetenv("SSLKEYLOGFILE");
	/* libcurl would have OpenSSL read its configuration file, which could load engines and providers. */
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return err_set(why, ERR_NOMEM, 0, "OpenSSL could not be started");
	if (curl_global_sslset(CURLSSLBACKEND_OPENSSL, NULL, NULL) != CURLSSLSET_OK)
		return err_set(why, ERR_FIPS, 0,
			"this libcurl does TLS without OpenSSL, so that the FIPS provider would not be used: install "
			"the "
			"one that is made with OpenSSL (Debian: libcurl4)");
	if (curl_global_init_mem(
		    CURL_GLOBAL_DEFAULT, hook_malloc, locked_free, hook_realloc, hook_strdup, hook_calloc) != CURLE_OK)
		return err_set(why, ERR_NOMEM, 0, "libcurl could not be started");
	ERR_clear_error();
	return ERR_OK;
}

static void start_once(void)
{
	setup.e = start(&setup.why);
}

enum err http_setup(struct err_why *why)
{
	if (pthread_once(&setup.once, start_once) != 0)
		return err_set(why, ERR_BUG, 0, "libcurl could not be started");
	if (setup.e != ERR_OK)
		return err_set(why, setup.e, 0, "%s", setup.why.text);
	return ERR_OK;
}
