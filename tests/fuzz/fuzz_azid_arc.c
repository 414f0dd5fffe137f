/* SPDX-License-Identifier: Apache-2.0 */
/* Arc's challenge, which names a file to be read and sent; and an address that a secret would be sent to. */
#include "keyprov/azid_internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void challenge(const char *text)
{
	char name[NAME_MAX + 1];
	size_t len;

	if (!azid_arc_challenge(text, "/var/opt/azcmagent/tokens", name)) {
		check(name[0] == '\0');
		return;
	}
	len = strnlen(name, sizeof(name));
	check(len > 4 && len <= NAME_MAX && strcmp(name + len - 4, ".key") == 0);
	check(name[0] != '.' && !strchr(name, '/') && strstr(text, "/var/opt/azcmagent/tokens/") != NULL);
}

/* Checked once more, and in another way. */
static void address(const char *text)
{
	static const char *const starts[] = {"http://127.", "http://169.254.", "http://[::1]"};
	char out[AZID_LOCAL_URL];
	bool ok = false;

	if (!azid_local_url(text, out)) {
		check(out[0] == '\0');
		return;
	}
	check(strnlen(out, sizeof(out)) < sizeof(out));
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		ok = ok || strncmp(out, starts[i], strlen(starts[i])) == 0;
	check(ok && !strpbrk(out, "@?#\\ \t\r\n"));
	ok = out[7] == '[' || strspn(out + 7, "0123456789.") == strcspn(out + 7, ":/");
	check(ok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	challenge(text);
	address(text);
	free(text);
	return 0;
}
