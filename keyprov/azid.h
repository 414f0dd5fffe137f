/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid - who we are to Azure: gets access tokens for a vault from the identity this machine or process has.
 *
 * SPEC of --identity, and the object in the descriptor that azid_conf makes of it:
 *   auto                          the documented order: App Service, Arc, workload identity, then the VM's
 * {"kind":"auto"} vm[:CLIENT_ID]                managed identity of a VM (IMDS) {"kind":"vm","client_id":...}
 *   app-service[:CLIENT_ID]       IDENTITY_ENDPOINT and IDENTITY_HEADER
 *   arc                           Azure Arc's agent
 *   workload                      AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE
 *   secret:TENANT/CLIENT_ID:FILE  service principal; FILE holds the secret (mode 0600), or credential:NAME
 *   certificate:TENANT/CLIENT_ID:FILE  the same, FILE is PEM with key and certificate
 *   cli                           the Azure CLI's, only if asked for on the command line of the moment
 * The object never holds a secret.  It is hostile until the descriptor is authenticated: it can choose among identities
 * of this machine, and name files that must be ours, mode 0600.
 *
 * Tokens: one per audience, in locked memory, never logged, never written; renewed ahead of expiry and at the latest an
 * hour after they were got, so that the end of the identity is noticed.  Sources: "How to use managed identities for
 * Azure resources on an Azure VM to acquire an access token", "OAuth 2.0 client credentials flow", RFC 7519, RFC 7523.
 *
 * Threads: one struct azid belongs to one thread at a time.
 */
#pragma once
#include "crypto/fips.h"
#include "keyprov/azure.h"
#include "keyprov/keyprov.h"
#include <jansson.h>

struct azid;

/* New reference; NULL with why. */
json_t *azid_conf(const char *spec, struct err_why *why);
/* Strict check of the object; pure, no I/O. */
enum err azid_conf_check(const json_t *conf, struct err_why *why) MUST_CHECK;
/* "vm:CLIENT_ID" and so on, for people. */
void azid_conf_text(const json_t *conf, char out[static 256]);

/* tenant: of the vault (from its challenge), for the flows that need one and whose conf has none; may be NULL.
 * allow_cli: the person at the command line said "cli"; never from a descriptor. */
enum err azid_open(const struct fips *f, const struct azure_cloud *c, const json_t *conf, bool allow_cli,
	struct azid **out, struct err_why *why) MUST_CHECK;
void azid_close(struct azid *a); /* wipes; NULL is fine */

/*
 * azid_token - a token for audience, from the cache or anew.
 *
 * @claims  decoded claims challenge, or NULL; given: the cache is not used
 * @token   "Bearer ..." ready for http_request.authorization; borrowed until the next call on a
 *
 * ERR_KEY_REVOKED: the identity service answered and refuses for good (identity gone, app disabled or unknown, wrong or
 * expired secret); ERR_KEY_UNAVAILABLE: it can't be reached or asks to wait; ERR_CONFIG: the environment or a file has
 * to be put right.  detail gets reason, http_status and ids.
 */
enum err azid_token(struct azid *a, const char *audience, const char *tenant, const char *claims,
	const struct secret **token, struct keyprov_detail *detail, struct err_why *why) MUST_CHECK;
/* After a 401, or to notice that the identity is gone: the next azid_token asks anew. */
void azid_forget(struct azid *a);

struct azid_info {     /* decoded from the token's payload; for information only, never trusted */
	char kind[32]; /* which source is in use: "vm", "arc", ... */
	char oid[AZURE_GUID], appid[AZURE_GUID], tenant[AZURE_GUID];
	char resource[256]; /* xms_mirid or empty */
	long long expires;  /* seconds since 1970 */
};
/* Of the last token; ERR_NOT_FOUND before there is one. */
enum err azid_info_get(const struct azid *a, struct azid_info *out) MUST_CHECK;
/* This machine's region as its metadata service tells ("westeurope"), or ERR_NOT_FOUND, ERR_KEY_UNAVAILABLE. */
enum err azid_region(struct azid *a, char out[static 64], struct err_why *why) MUST_CHECK;
