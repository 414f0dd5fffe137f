/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azure - Azure clouds and key identifiers: which hosts may be talked to at all, and with tokens for what.
 *
 * A cloud is built in (public, china, usgov) or a profile: a JSON file of the administrator's for a private cloud or an
 * emulator, /etc/blobcryptfs/clouds/NAME.json (users: $XDG_CONFIG_HOME/blobcryptfs/clouds/NAME.json, then that), owned
 * by root or the user and writable by nobody else.  Descriptors hold the name only, so a descriptor can never say whom
 * to trust.  Sources: "Azure Key Vault keys, secrets and certificates overview" (suffixes, identifiers).
 */
#pragma once
#include "crypto/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define AZURE_GUID    37  /* text with NUL */
#define AZURE_HOST    128 /* host name with NUL */
#define AZURE_URI_MAX 512 /* key identifier with NUL */

struct azure_cloud {
	char name[32];
	char vault_suffix[64], hsm_suffix[64];	   /* with the leading dot: ".vault.azure.net" */
	char vault_audience[96], hsm_audience[96]; /* "https://vault.azure.net": no slash at the end */
	char authority[96];			   /* "https://login.microsoftonline.com" */
	/* profiles only, empty else */
	char port[8];	   /* of vaults; then key identifiers carry ":port" */
	char ca_file[256]; /* PEM bundle to trust instead of the system's */
	char imds[96];	   /* instead of http://169.254.169.254 */
	char arc[96];	   /* instead of http://127.0.0.1:40342 */
};

/* NULL or "": public.  ERR_CONFIG, ERR_NOT_FOUND with the places looked at. */
enum err azure_cloud_find(const char *name, struct azure_cloud *out, struct err_why *why) MUST_CHECK;
/* Parses a profile's JSON; strict; pure. */
enum err azure_cloud_parse(const json_t *j, const char *name, struct azure_cloud *out, struct err_why *why) MUST_CHECK;

struct azure_key_id {
	char host[AZURE_HOST];	    /* lower case, without port */
	char base[AZURE_HOST + 24]; /* "https://host[:port]" */
	char name[128];
	char version[33]; /* 32 characters, or empty: the newest */
	bool hsm;	  /* a Managed HSM */
};

/*
 * azure_key_id_parse - takes a key identifier apart: https://HOST/keys/NAME[/VERSION].
 *
 * ERR_CONFIG: not absolute, not https, user info, foreign port, host outside of the cloud's suffixes, impossible name
 * or version, query or fragment.  Never guesses.
 */
enum err azure_key_id_parse(
	const struct azure_cloud *c, const char *uri, struct azure_key_id *out, struct err_why *why) MUST_CHECK;
/* VAULT of the command line: a vault's URI or its plain name (Key Vault only).  out has no name and version. */
enum err azure_vault_parse(
	const struct azure_cloud *c, const char *vault, struct azure_key_id *out, struct err_why *why) MUST_CHECK;
/* The text of it; with_version: with its version if it has one. */
void azure_key_id_format(const struct azure_key_id *id, bool with_version, char out[static AZURE_URI_MAX]);

struct azure_challenge {
	char tenant[AZURE_GUID]; /* from the path of authorization= or authorization_uri=; empty if none */
	char resource[96];	 /* resource=, or scope= without "/.default" */
	char claims[2048];	 /* decoded claims= of error="insufficient_claims"; empty if none */
};
/* One WWW-Authenticate header, RFC 9110 section 11 and RFC 6750.  ERR_CORRUPT: no Bearer challenge in it.  Hostile
 * input. */
enum err azure_challenge_parse(const char *header, struct azure_challenge *out) MUST_CHECK;
/* Does the challenge ask for a token for this vault's cloud?  ERR_CORRUPT with both named in why if not. */
enum err azure_challenge_check(const struct azure_challenge *ch, const struct azure_cloud *c,
	const struct azure_key_id *id, struct err_why *why) MUST_CHECK;
