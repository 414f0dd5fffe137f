/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles of clouds: the administrator's, so not hostile, but they say whom to trust. */
#include "keyprov/azure_internal.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static bool starts_with(const char *s, const char *start)
{
	return strncmp(s, start, strlen(start)) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	struct azure_cloud c;
	struct err_why why = {0};

	if (!j)
		return 0;
	if (azure_cloud_parse(j, "test", &c, &why) == ERR_OK) {
		check(c.vault_suffix[0] == '.' && c.hsm_suffix[0] == '.');
		check(azure_host_is_name(c.vault_suffix + 1, strlen(c.vault_suffix + 1)));
		check(azure_host_is_name(c.hsm_suffix + 1, strlen(c.hsm_suffix + 1)));
		check(strcmp(c.vault_suffix, c.hsm_suffix) != 0);
		check(starts_with(c.vault_audience, "https://") && starts_with(c.hsm_audience, "https://"));
		check(starts_with(c.authority, "https://") && c.authority[strlen(c.authority) - 1] != '/');
		check(c.port[0] == '\0' || (atoi(c.port) > 0 && atoi(c.port) <= 65535));
		check(c.ca_file[0] == '\0' || c.ca_file[0] == '/');
		check(c.imds[0] == '\0' || starts_with(c.imds, "http://"));
		check(c.arc[0] == '\0' || starts_with(c.arc, "http://"));
		check(strpbrk(c.authority, "@?# \r\n") == NULL && strpbrk(c.imds, "@?# \r\n") == NULL);
	} else {
		check(why.text[0] != '\0');
	}
	json_decref(j);
	return 0;
}
