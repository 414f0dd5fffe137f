/* SPDX-License-Identifier: Apache-2.0 */
/* vault_internal - shared by the vault_*.c files. */
#pragma once
#include "keyprov/vault.h"

/* "--vault-name v" or "--hsm-name h": how az is told where. */
void vault_az_place(const struct azure_key_id *id, char out[static 96]);
