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
