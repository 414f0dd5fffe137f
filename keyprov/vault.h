/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault - the provider "azure-key-vault": its configuration, and what a key has to be before a volume is put under it.
 *
 * The provider object, as in the descriptor (all required but those marked):
 *   {"source": "vault" | "managed-hsm", "cloud": "public", "uri": "https://.../keys/NAME[/VERSION]",
 *    "tenant": "GUID of the vault", "region": "westeurope" | "", "identity": {azid_conf},
 *    "algorithm": "RSA-OAEP-256" | "A256KW", "api_version": "7.4",
 *    "expired": "revoke" | "allow", "probe_seconds": 10, "lease_seconds": 600}
 * It wraps the layer key of the envelope (PROVIDERS.md section 3); key_ref.id is the versioned kid, key_ref.version
 * counts the envelopes this volume has had under a customer key.
 */
#pragma once
#include "keyprov/akv.h"
#include "keyprov/keyprov.h"

#define VAULT_PROVIDER	    "azure-key-vault"
#define VAULT_PROBE_DEFAULT 10u /* seconds; 1 to 3600 */
#define VAULT_PROBE_MAX	    3600u
#define VAULT_LEASE_DEFAULT 600u /* seconds; 0 (strict) to 86400 */
#define VAULT_LEASE_MAX	    86400u

struct vault_want { /* what the user asks for in "key set"; strings borrowed, NULL where the default shall serve */
	const char *uri, *cloud, *api_version;
	json_t *identity;   /* azid_conf; NULL: auto */
	const char *region; /* this machine's region, if it is no Azure machine */
	bool allow_other_region, allow_cli;
	bool expired_allowed;	/* an expired key goes on unwrapping, as Azure lets it */
	unsigned probe_seconds; /* 0: default */
	unsigned lease_seconds; /* UINT_MAX: default */
};

/* One line of the report. */
enum check_state { CHECK_OK, CHECK_FAILED, CHECK_WARNING, CHECK_SKIPPED };
struct vault_check {
	const char *name; /* "reachable", "authenticated", "tenant", "region", "soft delete", "purge protection",
			   * "enabled", "validity", "operations", "kind", "round trip" */
	enum check_state state;
	char found[256];  /* what is there */
	char remedy[512]; /* with CHECK_FAILED and CHECK_WARNING: what to do, with the az command */
};
#define VAULT_CHECKS 11

/*
 * vault_examine - asks the vault, runs every check that can still be run after one has failed, and makes the provider
 * object.  dry: without the wrap and unwrap round trip's write of anything (there is none to begin with).
 *
 * conf: new reference if every check passed (no CHECK_FAILED), else NULL.  Returns ERR_OK if the report is there,
 * whatever it says; the error of the first failed check is in *first (ERR_OK if none): ERR_KEY_REVOKED,
 * ERR_KEY_UNAVAILABLE or ERR_CONFIG, with the sentence in why.
 */
enum err vault_examine(const struct fips *f, const struct vault_want *w, struct vault_check out[static VAULT_CHECKS],
	json_t **conf, struct keyprov_detail *detail, enum err *first, struct err_why *why) MUST_CHECK;
/* For a prober, which has a rhythm of its own: how often a call is tried (0: 5) and how long it may take (0: 30 s),
 * from the next one on.  Nothing for providers of another kind. */
void vault_set_limits(struct keyprov *p, unsigned attempts, unsigned deadline_ms);
/* Is a key of a list fit?  Says why not in reason. */
bool vault_key_fit(const struct akv_key *k, time_t now, char reason[static 256]);
/* The "az" commands that would grant identity the role it needs; lines joined by \n. */
void vault_grant_commands(const struct azure_key_id *id, const struct azid_info *who, char *out, size_t cap);
/* Strict check of a provider object; pure. */
enum err vault_conf_check(const json_t *conf, struct err_why *why) MUST_CHECK;
