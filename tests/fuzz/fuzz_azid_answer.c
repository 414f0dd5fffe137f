/* SPDX-License-Identifier: Apache-2.0 */
/* What token and metadata services answer. */
#include "keyprov/azid_internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Safe to be shown and logged: printable ASCII, and ended. */
static void check_text(const char *s, size_t cap)
{
	check(strnlen(s, cap) < cap);
	for (; *s; s++)
		check(*s >= ' ' && *s < 0x7f);
}

static void check_guid(const char *s)
{
	char copy[AZURE_GUID];

	check(s[0] == '\0' || azid_guid(s, copy));
}

static void answer(const char *body, size_t size, const char *member)
{
	struct azid_answer a;
	struct azid_info info;
	enum err e = azid_answer_parse(body, size, member, 1800000000, &a, NULL);
	const char *token;

	check(e == ERR_OK || e == ERR_CORRUPT || e == ERR_NOMEM);
	check((e == ERR_OK) == (a.token != NULL));
	check_guid(a.client_id);
	if (e != ERR_OK)
		return;
	check(a.life > 0 && a.life <= AZID_LIFE_MAX && a.refresh >= 0 && a.refresh < a.life);
	token = (const char *)secret_view(a.token);
	check(secret_len(a.token) > 7 && secret_len(a.token) <= AZID_TOKEN_MAX + 7);
	for (size_t i = 0; i < secret_len(a.token); i++)
		check((token[i] > ' ' && token[i] < 0x7f) || i == 6);
	azid_claims(token, secret_len(a.token), &info);
	secret_free(a.token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *body = (const char *)data;
	struct azid_refusal r;
	struct azid_info info;
	char location[64];

	answer(body, size, "access_token");
	answer(body, size, "accessToken");
	azid_refusal_parse(body, size, &r);
	check_text(r.error, sizeof(r.error));
	check_text(r.trace, sizeof(r.trace));
	check(r.code >= 0);
	azid_claims(body, size, &info);
	check_guid(info.oid);
	check_guid(info.appid);
	check_guid(info.tenant);
	check_text(info.resource, sizeof(info.resource));
	azid_location(body, size, location);
	check_text(location, sizeof(location));
	return 0;
}
