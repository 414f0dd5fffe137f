/* SPDX-License-Identifier: Apache-2.0 */
/* What a vault answers.  First byte: an error, a key, a list, or a wrapped value. */
#include "keyprov/akv_internal.h"
#include "keyprov/azure_internal.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct azure_cloud cloud;
static struct azure_key_id key;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_word(const char *s, size_t cap)
{
	check(strnlen(s, cap) < cap);
	for (; *s; s++)
		check(*s > ' ' && *s < 0x7f && *s != '"' && *s != '\\');
}

/* Whatever came in, what goes out is a key of our vault. */
static void check_kid(const char *kid, bool version)
{
	struct azure_key_id id;

	check(azure_key_id_parse(&cloud, kid, &id, NULL) == ERR_OK);
	check(strcmp(id.host, key.host) == 0 && (!version || id.version[0] != '\0'));
}

static void error(const char *body, size_t len, int status)
{
	struct akv_answer a = {.outcome = HTTP_ANSWERED, .status = status};
	enum akv_class first, again;
	char reason[64];

	akv_answer_parse(body, len, &a);
	check_word(a.code, sizeof(a.code));
	check_word(a.inner, sizeof(a.inner));
	first = akv_classify(&a);
	a.again = true;
	again = akv_classify(&a);
	check(again != AKV_REAUTH && (first == again || status == 401));
	check((first == AKV_OK) == (status >= 200 && status < 300));
	akv_reason(&a, reason);
	check(reason[0] != '\0');
}

static void bundle(const char *body, size_t len, bool versioned)
{
	struct azure_key_id want = key;
	struct akv_key k;

	if (versioned)
		strcpy(want.version, "0123456789abcdef0123456789abcdef");
	if (akv_bundle_parse(&cloud, &want, body, len, &k) != ERR_OK) {
		check(k.kid[0] == '\0');
		return;
	}
	check_kid(k.kid, true);
	check(!versioned || strstr(k.kid, want.version) != NULL);
	check_word(k.kty, sizeof(k.kty));
	check_word(k.recovery_level, sizeof(k.recovery_level));
	check(k.bits <= 65536 && k.expires >= 0 && k.not_before >= 0 && k.created >= 0);
	check(!k.purge_protection || k.soft_delete);
}

static void list(const char *body, size_t len)
{
	struct akv_key k[3];
	char next[AKV_NEXT_MAX];
	size_t n;
	enum err e = akv_list_parse(&cloud, &key, body, len, k, 3, &n, next);

	check(n <= 3 && strnlen(next, sizeof(next)) < sizeof(next));
	check(next[0] == '\0' || (e == ERR_OK && strncmp(next, "/keys?", 6) == 0));
	for (const char *p = next; *p; p++)
		check(*p > ' ' && *p < 0x7f && *p != '#');
	for (size_t i = 0; i < n; i++)
		check_kid(k[i].kid, false);
}

static void value(const char *body, size_t len)
{
	char kid[AZURE_URI_MAX];
	uint8_t out[64];
	size_t n;

	if (akv_value_parse(&cloud, &key, body, len, kid, out, sizeof(out), &n) != ERR_OK) {
		check(n == 0);
		return;
	}
	check(n >= 1 && n <= sizeof(out));
	check_kid(kid, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *body = (const char *)data + 1;

	if (size == 0)
		return 0;
	if (key.host[0] == '\0')
		check(azure_cloud_find("public", &cloud, NULL) == ERR_OK &&
			azure_key_id_parse(&cloud, "https://v12.vault.azure.net/keys/k", &key, NULL) == ERR_OK);
	size--;
	switch (data[0] % 5) {
	case 0:
		error(body, size, 100 + data[0] / 5 * 10 + (data[0] & 1));
		error(body, size, 401);
		error(body, size, 403);
		break;
	case 1:
		bundle(body, size, false);
		break;
	case 2:
		bundle(body, size, true);
		break;
	case 3:
		list(body, size);
		break;
	default:
		value(body, size);
		break;
	}
	return 0;
}
