/* SPDX-License-Identifier: Apache-2.0 */
/* akv_why - refusals in words: what it means and what to do. */
#include "keyprov/akv_internal.h"
#include <stdio.h>
#include <string.h>

static const struct {
	const char *reason, *meaning, *remedy;
} refusals[] = {
	{"KeyDisabled", "the key is disabled", "enable it: az keyvault key set-attributes --enabled true --id KEY"},
	{"KeyNotFound", "the key is not there, it was deleted or never made",
		"get it back if it was deleted: az keyvault key recover --vault-name VAULT --name KEY"},
	{"VaultNotFound", "there is no such vault", "get it back if it was deleted: az keyvault recover --name VAULT"},
	{"AccessDenied", "the vault's access policies don't allow it to this identity",
		"\"blobcryptfs key identity\" prints the commands that grant it"},
	{"ForbiddenByPolicy", "the vault's access policies don't allow it to this identity",
		"\"blobcryptfs key identity\" prints the commands that grant it"},
	{"ForbiddenByRbac", "this identity has no role that allows it",
		"\"blobcryptfs key identity\" prints the commands that grant it; a new grant takes minutes to count"},
	{"KeyOperationForbidden", "the key's permitted operations don't include it",
		"allow them: az keyvault key set-attributes --ops wrapKey unwrapKey --id KEY"},
	{"ForbiddenByFirewall", "the vault's firewall does not let this machine's address in",
		"add it: az keyvault network-rule add --name VAULT --ip-address ADDRESS"},
	{"ForbiddenByConnection", "the vault is closed to public networks and this is no private connection",
		"use a private endpoint, or open it: az keyvault update --name VAULT --public-network-access Enabled"},
	{"TenantChanged", "the vault belongs to another tenant than before", "access comes back when it is moved back"},
	{"AKV10032", "it belongs to another tenant than this identity",
		"use an identity of the vault's tenant: key set --identity"},
	{"AKV10022", "it wants tokens for another audience", "correct the audience in the cloud's profile"},
	{"ObjectIsDeletedButRecoverable", "a deleted key still holds the name",
		"get that one back (az keyvault key recover), or choose another name"},
	{"ObjectIsBeingDeleted", "a key of that name is being deleted",
		"get that one back (az keyvault key recover), or choose another name"},
	{"Throttled", "it gets too many requests", "try again later, or probe less often (probe_seconds)"},
	{"AKV10046", "it can't check tokens at the moment", "try again later"},
	{"dns", "its name is not known", "check the name, or look for a deleted vault: az keyvault list-deleted"},
	{"tls", "its certificate or the handshake is not right",
		"check the clock, the CA certificates, and what is between here and there"},
	{"connect", "it can't be connected to", "check the network"},
	{"timeout", "it did not answer in time", "check the network"},
};

#define N_REFUSALS (sizeof(refusals) / sizeof(refusals[0]))

static const char *outcome_word(enum http_outcome o)
{
	switch (o) {
	case HTTP_ANSWERED:
		return "";
	case HTTP_DNS:
		return "dns";
	case HTTP_CONNECT:
		return "connect";
	case HTTP_TLS:
		return "tls";
	case HTTP_TIMEOUT:
		return "timeout";
	case HTTP_BROKEN:
		return "broken answer";
	case HTTP_TOO_LARGE:
		return "answer too large";
	case HTTP_ABORTED:
		return "called off";
	}
	return "unknown";
}

void akv_reason(const struct akv_answer *said, char out[static 64])
{
	if (said->outcome != HTTP_ANSWERED)
		snprintf(out, 64, "%s", outcome_word(said->outcome));
	else if (said->status == 401 && said->audience)
		snprintf(out, 64, "AKV10022");
	else if (said->status == 401 && said->issuer)
		snprintf(out, 64, "AKV10032");
	else if (said->status == 401 && said->signing_key)
		snprintf(out, 64, "AKV10046");
	else if (said->inner[0])
		snprintf(out, 64, "%s", said->inner);
	else if (said->code[0])
		snprintf(out, 64, "%s", said->code);
	else
		snprintf(out, 64, "http %d", said->status);
}

enum err akv_refused(const struct akv *a, enum akv_class cls, const struct akv_answer *said, const char *text,
	const char *what, struct err_why *why)
{
	const char *reason = a->detail.reason, *meaning = NULL, *remedy = NULL, *verb;
	enum err e;

	for (size_t i = 0; i < N_REFUSALS; i++)
		if (strcmp(reason, refusals[i].reason) == 0) {
			meaning = refusals[i].meaning;
			remedy = refusals[i].remedy;
		}
	if (cls == AKV_TRANSIENT) {
		e = ERR_KEY_UNAVAILABLE;
		verb = said->outcome == HTTP_ANSWERED ? "can't" : "can't be reached to";
	} else if (cls == AKV_MISTAKE) {
		e = ERR_CONFIG;
		verb = "does not understand the request to";
	} else {
		e = ERR_KEY_REVOKED;
		verb = "refuses to";
	}
	if (!meaning && cls == AKV_TRANSIENT)
		meaning = text && text[0] ? text : "something is wrong on its side";
	return err_set(why, e, 0, "%s %s %s: %s (%s, HTTP %d)%s%s", a->id.host, verb, what,
		meaning ? meaning : "it says no", reason, said->status, remedy ? "; " : "", remedy ? remedy : "");
}
