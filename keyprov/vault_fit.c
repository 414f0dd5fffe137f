/* SPDX-License-Identifier: Apache-2.0 */
/* vault_fit - what can be said without asking the vault: is a key fit, and who has to be granted what.  Pure. */
#include "keyprov/vault.h"
#include "keyprov/vault_internal.h"
#include <stdio.h>
#include <string.h>

static bool unfit(char reason[static 256], const char *text)
{
	snprintf(reason, 256, "%s", text);
	return false;
}

bool vault_key_fit(const struct akv_key *k, time_t now, char reason[static 256])
{
	if (!k->enabled)
		return unfit(reason, "disabled");
	if (k->expires && k->expires <= now)
		return unfit(reason, "expired");
	if (k->not_before && k->not_before > now)
		return unfit(reason, "not valid yet");
	if (k->kty[0] == '\0')
		return unfit(reason, "this identity may not look at it");
	if (!akv_algorithm(k)) {
		if (k->bits)
			snprintf(reason, 256, "%s of %u bits: RSA of 2048, 3072 or 4096, or oct-HSM of 256 is needed",
				k->kty, k->bits);
		else
			snprintf(reason, 256, "%s: RSA, RSA-HSM or oct-HSM is needed", k->kty);
		return false;
	}
	if (!k->can_wrap || !k->can_unwrap)
		return unfit(reason, "its operations don't include wrapKey and unwrapKey");
	if (!k->soft_delete)
		return unfit(reason, "its vault has no soft delete");
	if (!k->purge_protection)
		return unfit(reason, "its vault has no purge protection");
	reason[0] = '\0';
	return true;
}

void vault_grant_commands(const struct azure_key_id *id, const struct azid_info *who, char *out, size_t cap)
{
	const char *oid = who && who->oid[0] ? who->oid : "OBJECT_ID";
	char place[96];
	const char *name;

	vault_az_place(id, place);
	name = strchr(place, ' ') + 1;
	if (id->hsm)
		snprintf(out, cap,
			"az keyvault role assignment create --hsm-name %s --role \"Managed HSM Crypto Service "
			"Encryption User\" "
			"--assignee-object-id %s --assignee-principal-type ServicePrincipal --scope /keys%s%s",
			name, oid, id->name[0] ? "/" : "", id->name);
	else
		snprintf(out, cap,
			"az role assignment create --role \"Key Vault Crypto Service Encryption User\" "
			"--assignee-object-id %s "
			"--assignee-principal-type ServicePrincipal --scope \"$(az keyvault show --name %s --query id "
			"-o tsv)\"\n"
			"az keyvault set-policy --name %s --object-id %s --key-permissions get wrapKey unwrapKey",
			oid, name, name, oid);
}
