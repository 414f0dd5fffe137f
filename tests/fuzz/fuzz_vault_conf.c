/* SPDX-License-Identifier: Apache-2.0 */
/* The provider object of a descriptor that is not authenticated yet. */
#include "keyprov/azure_internal.h"
#include "keyprov/vault.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static const char *text(const json_t *j, const char *member)
{
	const char *s = json_string_value(json_object_get(j, member));

	check(s != NULL);
	return s;
}

static json_int_t number(const json_t *j, const char *member)
{
	check(json_is_integer(json_object_get(j, member)));
	return json_integer_value(json_object_get(j, member));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	struct err_why why = {0};
	char guid[AZURE_GUID];
	enum err e;

	if (!j)
		return 0;
	e = vault_conf_check(j, &why);
	check(e == ERR_OK || why.text[0] != '\0');
	if (e == ERR_OK) {
		check(strncmp(text(j, "uri"), "https://", 8) == 0 && strlen(text(j, "uri")) < AZURE_URI_MAX);
		check(strpbrk(text(j, "uri"), "@?#% \r\n\\") == NULL);
		check(strpbrk(text(j, "cloud"), "/. ") == NULL && strlen(text(j, "cloud")) < 32);
		check(azure_guid(text(j, "tenant"), strlen(text(j, "tenant")), guid));
		check(strlen(text(j, "region")) < 64 && strlen(text(j, "api_version")) < 32);
		check(strpbrk(text(j, "api_version"), "&?/# ") == NULL);
		check(number(j, "probe_seconds") >= 1 && number(j, "probe_seconds") <= VAULT_PROBE_MAX);
		check(number(j, "lease_seconds") >= 0 && number(j, "lease_seconds") <= VAULT_LEASE_MAX);
		check(azid_conf_check(json_object_get(j, "identity"), NULL) == ERR_OK);
	}
	json_decref(j);
	return 0;
}
