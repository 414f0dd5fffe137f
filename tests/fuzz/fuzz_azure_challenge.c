/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate headers of whoever answers. */
#include "keyprov/azure_internal.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct azure_challenge ch;
	struct azure_cloud c;
	struct azure_key_id id = {.host = "v12.vault.azure.net"};
	struct err_why why = {0};
	char guid[AZURE_GUID], *text = calloc(1, size + 1);
	json_t *claims;

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	if (azure_challenge_parse(text, &ch) == ERR_OK) {
		check(ch.tenant[0] == '\0' || azure_guid(ch.tenant, strlen(ch.tenant), guid));
		check(strlen(ch.resource) < sizeof(ch.resource) && strlen(ch.claims) < sizeof(ch.claims));
		for (const char *p = ch.resource; *p; p++)
			check(*p > ' ' && *p < 0x7f);
		claims = ch.claims[0] ? json_loads(ch.claims, 0, NULL) : NULL;
		check(ch.claims[0] == '\0' || json_is_object(claims));
		json_decref(claims);
		check(azure_cloud_find("public", &c, NULL) == ERR_OK);
		if (azure_challenge_check(&ch, &c, &id, &why) != ERR_OK)
			check(why.text[0] != '\0');
		else
			check(strcasecmp(ch.resource, "https://vault.azure.net") == 0 ||
				(ch.resource[0] == '\0' && ch.claims[0] != '\0'));
	} else {
		check(ch.tenant[0] == '\0' && ch.resource[0] == '\0' && ch.claims[0] == '\0');
	}
	free(text);
	return 0;
}
