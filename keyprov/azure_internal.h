/* SPDX-License-Identifier: Apache-2.0 */
/* azure_internal - syntax shared by azure.c, azure_cloud.c, azure_challenge.c, akv and vault.  Pure. */
#pragma once
#include "keyprov/azure.h"

/* A GUID in its usual form; out in lower case. */
bool azure_guid(const char *s, size_t len, char out[static AZURE_GUID]);
/* DNS labels of letters, digits and dashes. */
bool azure_host_is_name(const char *s, size_t len);
/* A key's name: 1 to 127 letters, digits and dashes. */
bool azure_key_name(const char *s, size_t len);
/* "https://HOST[:PORT]" of a vault of this cloud, with nothing but '/' or the end behind it: fills host, base and hsm;
 * *rest is what follows.  ERR_CONFIG with a sentence. */
enum err azure_base_parse(const struct azure_cloud *c, const char *uri, struct azure_key_id *out, const char **rest,
	struct err_why *why) MUST_CHECK;
