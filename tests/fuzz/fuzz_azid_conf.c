/* SPDX-License-Identifier: Apache-2.0 */
/* The text of --identity, and the object of a descriptor that is not authenticated yet.  First byte: which of them. */
#include "keyprov/azid_internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_object(const json_t *j)
{
	struct azid_spec s;
	struct err_why why = {0};
	char text[256], copy[AZURE_GUID];
	enum err e = azid_spec_parse(j, &s, &why);

	check(e == azid_conf_check(j, NULL));
	azid_conf_text(j, text);
	for (const char *c = text; *c; c++)
		check((unsigned char)*c >= ' ' && *c != 0x7f);
	for (const char *c = why.text; *c; c++)
		check((unsigned char)*c >= ' ' && *c != 0x7f);
	if (e != ERR_OK)
		return;
	check(s.client_id[0] == '\0' || azid_guid(s.client_id, copy));
	check(s.tenant[0] == '\0' || azid_guid(s.tenant, copy));
	check(s.file[0] == '\0' || (s.credential ? !strchr(s.file, '/') && s.file[0] != '.' : s.file[0] == '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = NULL;
	char *text;

	if (size == 0)
		return 0;
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] == '{') {
		j = json_loadb((const char *)data, size, 0, NULL);
		check_object(j);
	} else {
		j = azid_conf(text, NULL);
		if (j) {
			check(azid_conf_check(j, NULL) == ERR_OK);
			check_object(j);
		}
	}
	json_decref(j);
	free(text);
	return 0;
}
