/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault_check - everything a key and its vault have to be, asked and told in one go, each with its remedy.
 *
 * What can't be known any more after a failure is skipped and says so.
 */
#include "crypto/secret.h"
#include "keyprov/vault.h"
#include "keyprov/vault_internal.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOON_SECONDS  (30L * 24 * 3600) /* an end so near is worth a warning */
#define PROBE_KEY_LEN 32

enum {
	REACHABLE,
	AUTHENTICATED,
	TENANT,
	REGION,
	SOFT_DELETE,
	PURGE_PROTECTION,
	ENABLED,
	VALIDITY,
	OPERATIONS,
	KIND,
	ROUND_TRIP,
};

static const char *const names[VAULT_CHECKS] = {
	[REACHABLE] = "reachable",
	[AUTHENTICATED] = "authenticated",
	[TENANT] = "tenant",
	[REGION] = "region",
	[SOFT_DELETE] = "soft delete",
	[PURGE_PROTECTION] = "purge protection",
	[ENABLED] = "enabled",
	[VALIDITY] = "validity",
	[OPERATIONS] = "operations",
	[KIND] = "kind",
	[ROUND_TRIP] = "round trip",
};

struct exam {
	const struct fips *fips;
	const struct vault_want *want;
	struct azure_cloud cloud;
	struct azure_key_id id;
	json_t *identity; /* new reference */
	struct azid *azid;
	struct akv *akv;
	struct vault_check *check;
	enum err err[VAULT_CHECKS];
	char tenant[AZURE_GUID], region[64];
	char place[96]; /* for az */
	struct azid_info who;
	struct akv_key key;
	const char *algorithm; /* NULL: not known */
	struct keyprov_detail detail;
};

/* ---- lines of the report ---- */

__attribute__((format(printf, 4, 5))) static void found(
	struct exam *x, int i, enum check_state state, const char *fmt, ...)
{
	va_list ap;

	x->check[i].state = state;
	va_start(ap, fmt);
	if (vsnprintf(x->check[i].found, sizeof(x->check[i].found), fmt, ap) < 0)
		x->check[i].found[0] = '\0';
	va_end(ap);
	if (state == CHECK_FAILED && x->err[i] == ERR_OK)
		x->err[i] = ERR_CONFIG;
}

__attribute__((format(printf, 3, 4))) static void remedy(struct exam *x, int i, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(x->check[i].remedy, sizeof(x->check[i].remedy), fmt, ap) < 0)
		x->check[i].remedy[0] = '\0';
	va_end(ap);
}

/* A call failed: its sentence has the remedy behind a semicolon. */
static void failed(struct exam *x, int i, enum err e, const struct err_why *why)
{
	const char *semicolon = strstr(why->text, "; ");
	int len = semicolon ? (int)(semicolon - why->text) : (int)strlen(why->text);

	x->err[i] = e;
	found(x, i, CHECK_FAILED, "%.*s", len, why->text[0] ? why->text : err_text(e));
	remedy(x, i, "%s", semicolon ? semicolon + 2 : "try again; the sentence says what is wrong");
}

static void skip_open(struct exam *x, const char *reason)
{
	for (int i = 0; i < VAULT_CHECKS; i++)
		if (x->check[i].found[0] == '\0')
			found(x, i, CHECK_SKIPPED, "not known: %s", reason);
}

void vault_az_place(const struct azure_key_id *id, char out[static 96])
{
	size_t len = strcspn(id->host, ".");

	snprintf(out, 96, "%s %.*s", id->hsm ? "--hsm-name" : "--vault-name", (int)(len < 64 ? len : 64), id->host);
}

/* ---- the vault ---- */

static void grant_remedy(struct exam *x, int i)
{
	char commands[400];

	vault_grant_commands(&x->id, &x->who, commands, sizeof(commands));
	commands[strcspn(commands, "\n")] = '\0';
	remedy(x, i, "%s (a new grant may be refused for some minutes still)", commands);
}

static bool check_reachable(struct exam *x)
{
	struct err_why why = {0};
	enum err e = akv_contact(x->akv, x->tenant, x->region, &why);

	x->detail = *akv_detail(x->akv);
	if (e != ERR_OK) {
		failed(x, REACHABLE, e, &why);
		return false;
	}
	found(x, REACHABLE, CHECK_OK, "%s answers", x->id.host);
	return true;
}

/* Firewall and tenant are told apart from a missing role, which the key's checks tell. */
static bool check_authenticated(struct exam *x)
{
	const char *audience = x->id.hsm ? x->cloud.hsm_audience : x->cloud.vault_audience;
	const struct secret *token;
	struct err_why why = {0};
	char kind[256];
	enum err e = azid_token(x->azid, audience, x->tenant, NULL, &token, &x->detail, &why);

	if (e == ERR_OK)
		e = azid_info_get(x->azid, &x->who);
	if (e != ERR_OK) {
		failed(x, AUTHENTICATED, e, &why);
		return false;
	}
	azid_conf_text(x->identity, kind);
	found(x, AUTHENTICATED, CHECK_OK, "%s%s%s, object %s, application %s", kind,
		strcmp(kind, x->who.kind) ? ": " : "", strcmp(kind, x->who.kind) ? x->who.kind : "",
		x->who.oid[0] ? x->who.oid : "not told", x->who.appid[0] ? x->who.appid : "not told");
	return true;
}

static void check_tenant(struct exam *x)
{
	if (x->tenant[0] == '\0' || x->who.tenant[0] == '\0') {
		found(x, TENANT, CHECK_FAILED, "%s does not tell its tenant", x->tenant[0] ? "the token" : "the vault");
		remedy(x, TENANT,
			"without it nobody can tell whose the key is; use a vault and an identity that tell theirs");
	} else if (strcmp(x->tenant, x->who.tenant) != 0) {
		found(x, TENANT, CHECK_FAILED, "the vault is in tenant %s, the identity in %s", x->tenant,
			x->who.tenant);
		remedy(x, TENANT, "use a vault in the identity's tenant, or an identity of the vault's (--identity)");
	} else {
		found(x, TENANT, CHECK_OK, "%s, the vault's and the identity's", x->tenant);
	}
}

/* "West Europe" and "westeurope" are the same. */
static void plain_region(const char *in, char out[static 64])
{
	size_t n = 0;

	for (; *in && n < 63; in++)
		if ((*in >= 'a' && *in <= 'z') || (*in >= '0' && *in <= '9'))
			out[n++] = *in;
		else if (*in >= 'A' && *in <= 'Z')
			out[n++] = (char)(*in - 'A' + 'a');
	out[n] = '\0';
}

static void check_region(struct exam *x)
{
	enum check_state no = x->want->allow_other_region ? CHECK_WARNING : CHECK_FAILED;
	char ours[64] = "", told[64] = "";
	struct err_why why = {0};
	enum err e = ERR_OK;

	if (x->want->region)
		snprintf(told, sizeof(told), "%.63s", x->want->region);
	else
		e = azid_region(x->azid, told, &why);
	plain_region(e == ERR_OK ? told : "", ours);
	plain_region(akv_detail(x->akv)->region, x->region);
	if (x->region[0] && strcmp(ours, x->region) == 0) {
		found(x, REGION, CHECK_OK, "%s, the vault's and this machine's", ours);
	} else if (ours[0] == '\0') {
		found(x, REGION, no, "this machine does not know its region; the vault's is %s",
			x->region[0] ? x->region : "not told either");
		remedy(x, REGION,
			"say where this machine is with --region REGION, or take any with --allow-other-region");
	} else if (x->region[0] == '\0') {
		found(x, REGION, no, "the vault does not tell its region; this machine is in %s", ours);
		remedy(x, REGION, "take it as it is with --allow-other-region");
	} else {
		found(x, REGION, no, "the vault is in %s, this machine in %s", x->region, ours);
		remedy(x, REGION, "use a vault in %s, or take this one with --allow-other-region", ours);
	}
}

/* ---- the key ---- */

static void check_deletion(struct exam *x)
{
	const char *level = x->key.recovery_level[0] ? x->key.recovery_level : "not told";
	/* the one place where a vault's name is called otherwise */
	const char *update = x->id.hsm ? "az keyvault update-hsm --hsm-name" : "az keyvault update --name";
	const char *name = strchr(x->place, ' ') + 1;

	found(x, SOFT_DELETE, x->key.soft_delete ? CHECK_OK : CHECK_FAILED, "%s (recovery level %s)",
		x->key.soft_delete ? "on" : "off", level);
	if (!x->key.soft_delete)
		remedy(x, SOFT_DELETE, "%s %s --enable-soft-delete true", update, name);
	found(x, PURGE_PROTECTION, x->key.purge_protection ? CHECK_OK : CHECK_FAILED, "%s (recovery level %s)",
		x->key.purge_protection ? "on" : "off", level);
	if (!x->key.purge_protection)
		remedy(x, PURGE_PROTECTION, "%s %s --enable-purge-protection true", update, name);
}

static void date(time_t t, char out[static 32])
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "%lld", (long long)t);
}

static void check_validity(struct exam *x)
{
	const struct akv_key *k = &x->key;
	time_t now = time(NULL);
	char when[32];

	if (k->not_before && k->not_before > now) {
		date(k->not_before, when);
		found(x, VALIDITY, CHECK_FAILED, "not valid before %s", when);
		remedy(x, VALIDITY,
			"wait, or: az keyvault key set-attributes --not-before 2020-01-01T00:00:00Z --id %s", k->kid);
	} else if (k->expires && k->expires <= now) {
		date(k->expires, when);
		found(x, VALIDITY, CHECK_FAILED, "expired at %s", when);
		remedy(x, VALIDITY, "make a new version: az keyvault key rotate %s --name %s", x->place, x->id.name);
	} else if (k->expires && k->expires - now < SOON_SECONDS) {
		date(k->expires, when);
		found(x, VALIDITY, CHECK_WARNING, "expires at %s%s", when,
			x->want->expired_allowed ? "" : ", which will lock the volume");
		remedy(x, VALIDITY, "make a new version before: az keyvault key rotate %s --name %s", x->place,
			x->id.name);
	} else if (k->expires) {
		date(k->expires, when);
		found(x, VALIDITY, CHECK_OK, "until %s", when);
	} else {
		found(x, VALIDITY, CHECK_OK, "without an end");
	}
}

static void kind_text(const struct akv_key *k, char out[static 64])
{
	if (k->bits)
		snprintf(out, 64, "%s, %u bits", k->kty, k->bits);
	else
		snprintf(out, 64, "%s", k->kty[0] ? k->kty : "not told");
}

static void check_operations(struct exam *x)
{
	const struct akv_key *k = &x->key;

	found(x, OPERATIONS, k->can_wrap && k->can_unwrap ? CHECK_OK : CHECK_FAILED, "wrapKey %s, unwrapKey %s",
		k->can_wrap ? "yes" : "no", k->can_unwrap ? "yes" : "no");
	if (!k->can_wrap || !k->can_unwrap)
		remedy(x, OPERATIONS, "az keyvault key set-attributes --ops wrapKey unwrapKey --id %.400s", k->kid);
}

static void check_key(struct exam *x)
{
	const struct akv_key *k = &x->key;
	char kind[64];

	check_deletion(x);
	found(x, ENABLED, k->enabled ? CHECK_OK : CHECK_FAILED, "%s", k->enabled ? "yes" : "the key is disabled");
	if (!k->enabled)
		remedy(x, ENABLED, "az keyvault key set-attributes --enabled true --id %.400s", k->kid);
	check_validity(x);
	x->algorithm = akv_algorithm(k);
	kind_text(k, kind);
	found(x, KIND, x->algorithm ? CHECK_OK : CHECK_FAILED, "%s%s%s", kind, x->algorithm ? ", " : "",
		x->algorithm ? x->algorithm : "");
	if (!x->algorithm)
		remedy(x, KIND,
			"use RSA or RSA-HSM of 2048, 3072 or 4096 bits, or oct-HSM of 256: "
			"az keyvault key create %s --name NAME --kty RSA --size 3072 --ops wrapKey unwrapKey",
			x->place);
	if (x->algorithm)
		check_operations(x);
}

/* The vault did not show the key: which line does that belong to? */
static void check_refusal(struct exam *x, enum err e, const struct err_why *why)
{
	const char *reason = x->detail.reason;

	if (x->detail.network || e != ERR_KEY_REVOKED) {
		failed(x, REACHABLE, e, why);
	} else if (x->detail.http_status == 404) {
		failed(x, ENABLED, e, why);
		remedy(x, ENABLED, "az keyvault key recover %s --name %s, or make one: blobcryptfs key create",
			x->place, x->id.name);
	} else if (strcmp(reason, "KeyDisabled") == 0) {
		failed(x, ENABLED, e, why);
		remedy(x, ENABLED, "az keyvault key set-attributes --enabled true %s --name %s", x->place, x->id.name);
	} else if (strcmp(reason, "AKV10032") == 0) {
		if (x->check[TENANT].state != CHECK_FAILED) /* else both are named there already */
			failed(x, TENANT, e, why);
	} else {
		failed(x, AUTHENTICATED, e, why);
		grant_remedy(x, AUTHENTICATED);
	}
	skip_open(x, "the vault did not show the key");
}

static bool check_get(struct exam *x)
{
	struct err_why why = {0};
	enum err e = akv_get(x->akv, &x->key, &why);

	x->detail = *akv_detail(x->akv);
	if (e != ERR_OK) {
		check_refusal(x, e, &why);
		return false;
	}
	check_key(x);
	return true;
}

static enum err round_trip(struct exam *x, const struct secret *key, struct err_why *why)
{
	char kid[AZURE_URI_MAX];
	struct secret *back = NULL;
	struct wrapped wrapped;
	struct azure_key_id id;
	enum err e = akv_wrap(x->akv, x->algorithm, key, &wrapped, kid, why);

	if (e == ERR_OK)
		e = azure_key_id_parse(&x->cloud, kid, &id, why);
	if (e == ERR_OK)
		e = akv_unwrap(x->akv, id.version, x->algorithm, &wrapped, false, &back, why);
	if (e == ERR_OK && (secret_len(back) != secret_len(key) ||
				   !secret_equal(secret_view(back), secret_view(key), secret_len(key))))
		e = err_set(why, ERR_CORRUPT, 0, "%s gave back another key than it was given", x->id.host);
	secret_free(back);
	return e;
}

static void check_round_trip(struct exam *x)
{
	struct secret *key = NULL;
	struct err_why why = {0};
	enum err e = secret_new(PROBE_KEY_LEN, &key);

	if (e == ERR_OK)
		e = fips_random(x->fips, secret_bytes(key), PROBE_KEY_LEN);
	if (e == ERR_OK)
		e = round_trip(x, key, &why);
	secret_free(key);
	x->detail = *akv_detail(x->akv);
	if (e == ERR_OK) {
		found(x, ROUND_TRIP, CHECK_OK, "a key was wrapped and came back");
		return;
	}
	failed(x, ROUND_TRIP, e, &why);
	if (strncmp(x->detail.reason, "ForbiddenBy", 11) == 0 && !x->detail.network)
		grant_remedy(x, ROUND_TRIP);
}

/* ---- all of it ---- */

static enum err set_up(struct exam *x, struct err_why *why)
{
	const struct vault_want *w = x->want;
	struct akv_config cfg = {.fips = x->fips, .cloud = &x->cloud, .id = &x->id, .api_version = w->api_version};
	enum err e = azure_cloud_find(w->cloud, &x->cloud, why);

	if (e == ERR_NOT_FOUND)
		e = ERR_CONFIG;
	if (e == ERR_OK)
		e = azure_key_id_parse(&x->cloud, w->uri, &x->id, why);
	if (e != ERR_OK)
		return e;
	vault_az_place(&x->id, x->place);
	x->identity = w->identity ? json_incref(w->identity) : azid_conf("auto", why);
	if (!x->identity)
		return ERR_CONFIG;
	e = azid_open(x->fips, &x->cloud, x->identity, w->allow_cli, &x->azid, why);
	if (e != ERR_OK)
		return e;
	cfg.identity = x->azid;
	return akv_open(&cfg, &x->akv, why);
}

static void run_checks(struct exam *x)
{
	if (!check_reachable(x)) {
		skip_open(x, "the vault was not reached");
		return;
	}
	if (!check_authenticated(x)) {
		check_region(x);
		skip_open(x, "there is no token");
		return;
	}
	check_tenant(x);
	if (!check_get(x)) {
		if (x->check[REGION].state == CHECK_SKIPPED)
			check_region(x);
		return;
	}
	check_region(x);
	if (x->algorithm)
		check_round_trip(x);
	else
		skip_open(x, "the kind of the key does not fit");
}

/* The error and the sentence of the first check that failed. */
static enum err first_failure(const struct exam *x, struct err_why *why)
{
	for (int i = 0; i < VAULT_CHECKS; i++)
		if (x->check[i].state == CHECK_FAILED)
			return err_set(why, x->err[i], 0, "%s: %s; %s", x->check[i].name, x->check[i].found,
				x->check[i].remedy);
	return ERR_OK;
}

static json_t *make_conf(const struct exam *x)
{
	const struct vault_want *w = x->want;
	unsigned probe = w->probe_seconds ? w->probe_seconds : VAULT_PROBE_DEFAULT;
	unsigned lease = w->lease_seconds != UINT32_MAX ? w->lease_seconds : VAULT_LEASE_DEFAULT;
	char uri[AZURE_URI_MAX];

	azure_key_id_format(&x->id, true, uri);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:s, s:s, s:s, s:I, s:I}", "source",
		x->id.hsm ? "managed-hsm" : "vault", "cloud", x->cloud.name, "uri", uri, "tenant", x->tenant, "region",
		x->region, "identity", x->identity, "algorithm", x->algorithm, "api_version",
		w->api_version ? w->api_version : "7.4", "expired", w->expired_allowed ? "allow" : "revoke",
		"probe_seconds", (json_int_t)probe, "lease_seconds", (json_int_t)lease);
}

static void clear(struct exam *x)
{
	akv_close(x->akv);
	azid_close(x->azid);
	json_decref(x->identity);
}

enum err vault_examine(const struct fips *f, const struct vault_want *w, struct vault_check out[static VAULT_CHECKS],
	json_t **conf, struct keyprov_detail *detail, enum err *first, struct err_why *why)
{
	struct exam *x = calloc(1, sizeof(*x));
	enum err e;

	*conf = NULL;
	*first = ERR_OK;
	memset(out, 0, VAULT_CHECKS * sizeof(*out));
	memset(detail, 0, sizeof(*detail));
	if (!x)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	x->fips = f;
	x->want = w;
	x->check = out;
	for (int i = 0; i < VAULT_CHECKS; i++)
		out[i].name = names[i];
	e = set_up(x, why);
	if (e == ERR_OK) {
		run_checks(x);
		*detail = x->detail;
		*first = first_failure(x, why);
	}
	if (e == ERR_OK && *first == ERR_OK) {
		*conf = make_conf(x);
		e = *conf ? vault_conf_check(*conf, why) : err_set(why, ERR_NOMEM, 0, "out of memory");
	}
	if (e != ERR_OK) {
		json_decref(*conf);
		*conf = NULL;
	}
	clear(x);
	free(x);
	return e;
}
