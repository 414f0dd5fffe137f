/* SPDX-License-Identifier: Apache-2.0 */
/* Key identifiers: of the command line, of descriptors, and of what vaults answer.  First byte: which cloud. */
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

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

/* No token goes anywhere else. */
static void check_host(const struct azure_cloud *c, const struct azure_key_id *id)
{
	check(ends_with(id->host, id->hsm ? c->hsm_suffix : c->vault_suffix));
	check(id->host[strspn(id->host, "abcdefghijklmnopqrstuvwxyz0123456789-.")] == '\0');
	check(strncmp(id->base, "https://", 8) == 0);
	check(strncmp(id->base + 8, id->host, strlen(id->host)) == 0);
	check(c->port[0] ? ends_with(id->base, c->port) : strcmp(id->base + 8, id->host) == 0);
}

static void check_why(enum err e, const struct err_why *why)
{
	check(e == ERR_CONFIG && why->text[0] != '\0');
	for (const char *p = why->text; *p; p++)
		check(*p >= ' ' && *p < 0x7f);
}

static void key_id(const struct azure_cloud *c, const char *text)
{
	struct azure_key_id id, again;
	struct err_why why = {0};
	char out[AZURE_URI_MAX];
	enum err e = azure_key_id_parse(c, text, &id, &why);

	if (e != ERR_OK) {
		check_why(e, &why);
		return;
	}
	check_host(c, &id);
	check(azure_key_name(id.name, strlen(id.name)));
	check(strlen(id.version) == 0 || strlen(id.version) == 32);
	azure_key_id_format(&id, true, out);
	check(azure_key_id_parse(c, out, &again, NULL) == ERR_OK && memcmp(&id, &again, sizeof(id)) == 0);
}

static void vault(const struct azure_cloud *c, const char *text)
{
	struct azure_key_id id;
	struct err_why why = {0};
	enum err e = azure_vault_parse(c, text, &id, &why);

	if (e != ERR_OK) {
		check_why(e, &why);
		return;
	}
	check_host(c, &id);
	check(id.name[0] == '\0' && id.version[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"public", "china", "usgov"};
	struct azure_cloud c;
	char *text;

	if (size == 0)
		return 0;
	check(azure_cloud_find(names[data[0] % 3], &c, NULL) == ERR_OK);
	if (data[0] & 0x80)
		strcpy(c.port, "8443");
	text = calloc(1, size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	key_id(&c, text);
	vault(&c, text);
	free(text);
	return 0;
}
