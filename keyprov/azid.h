/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid - who we are to Azure: gets access tokens for a vault from the identity this machine or process has.
 * IDENTITY.md tells it all.
 *
 * SPEC of --identity, and the object in the descriptor that azid_conf makes of it:
 *   auto                      the first that is there of app-service, workload, arc, vm      {"kind":"auto"}
 *   vm[:CLIENT_ID]            managed identity of a VM (IMDS)               {"kind":"vm"[,"client_id":GUID]}
 *   app-service[:CLIENT_ID]   App Service, Functions, Container Apps        {"kind":"app-service"[,...]}
 *   arc[:CLIENT_ID]           Azure Arc's agent                             {"kind":"arc"[,...]}
 *   workload                  workload identity of a Kubernetes pod         {"kind":"workload"}
 *   secret:TENANT/CLIENT_ID:FILE       service principal; FILE (mode 0600) holds its secret
 *                             {"kind":"secret","tenant":GUID,"client_id":GUID,"file":"/absolute"}
 *   certificate:TENANT/CLIENT_ID:FILE  the same, FILE is PEM with RSA key and certificate  {"kind":"certificate",...}
 *                             instead of FILE also credential:NAME (systemd's)  "credential":NAME for "file"
 *   cli                       the Azure CLI's, only if asked for on the command line of the moment  {"kind":"cli"}
 * The object never holds a secret.  It is hostile until the descriptor is authenticated: it can choose among identities
 * of this machine, and name files that must be ours, mode 0600.
 *
 * Tokens: one per audience, in locked memory, never logged, never written; renewed ahead of expiry and at the latest an
 * hour after they were got, so that the end of the identity is noticed.  Sources: "How to use managed identities for
 * Azure resources on an Azure VM to acquire an access token", "OAuth 2.0 client credentials flow", RFC 7519, RFC 7523.
 *
 * Threads: one struct azid belongs to one thread at a time, but for azid_abort.
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

/* What of the environment decides whose tokens conf gets here: an object of variables, without secrets; equal for two
 * processes that are the same to Azure.  New reference; NULL: no memory. */
json_t *azid_environment(const json_t *conf);

/* No I/O.  f outlives it, c is copied; http_setup must have been called.
 * allow_cli: the person at the command line said "cli"; never from a descriptor. */
enum err azid_open(const struct fips *f, const struct azure_cloud *c, const json_t *conf, bool allow_cli,
	struct azid **out, struct err_why *why) MUST_CHECK;
void azid_close(struct azid *a); /* wipes; NULL is fine */
/* From any thread, for the end of the process: calls under way and later ones end soon with ERR_KEY_UNAVAILABLE. */
void azid_abort(struct azid *a);

/* How often azid_token asks (0: as often as the documentation of each service wants), and for how long altogether
 * (0: 90 s).  A prober that has a rhythm of its own wants one attempt. */
void azid_set_limits(struct azid *a, unsigned attempts, unsigned deadline_ms);

/*
 * azid_token - a token for audience, from the cache or anew.
 *
 * @tenant  of the vault (from its challenge), or NULL; only the Azure CLI needs to be told
 * @claims  decoded claims challenge, or NULL; given: the cache is not used
 * @token   "Bearer ..." ready for http_request.authorization; borrowed until the next call on a
 * @detail  may be NULL; on success tenant, oid, appid are set, on failure reason, http_status and request ids
 *
 * ERR_KEY_REVOKED: the identity service answered and refuses for good (identity gone, app disabled or unknown, wrong or
 * expired secret); ERR_KEY_UNAVAILABLE: it can't be reached or asks to wait; ERR_CONFIG: the environment or a file has
 * to be put right.
 */
enum err azid_token(struct azid *a, const char *audience, const char *tenant, const char *claims,
	const struct secret **token, struct keyprov_detail *detail, struct err_why *why) MUST_CHECK;
/* After a 401, or to notice that the identity is gone: wipes the tokens, the next azid_token asks anew. */
void azid_forget(struct azid *a);

struct azid_info {     /* decoded from the token's payload; for information only, never trusted */
	char kind[32]; /* which source is in use: "vm", "arc", ... */
	char oid[AZURE_GUID], appid[AZURE_GUID], tenant[AZURE_GUID];
	char resource[256]; /* xms_mirid or empty */
	long long expires;  /* seconds since 1970 */
};
/* Of the last token; ERR_NOT_FOUND before there is one. */
enum err azid_info_get(const struct azid *a, struct azid_info *out) MUST_CHECK;
/* This machine's region as its metadata service tells ("westeurope"), asked once.  ERR_NOT_FOUND: there is no such
 * service here; ERR_KEY_UNAVAILABLE: it does not answer now. */
enum err azid_region(struct azid *a, char out[static 64], struct err_why *why) MUST_CHECK;
