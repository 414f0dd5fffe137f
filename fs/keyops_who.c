/* SPDX-License-Identifier: Apache-2.0 */
/* keyops_who - who this machine or process is to a vault, and how that one is given access; see keyops.h. */
#include "fs/cli.h"
#include "fs/keyops.h"
#include <string.h>

#define GRANT_CAP 4096

int keyops_code_vault(enum err e, const struct err_why *why)
{
	if (e == ERR_KEY_REVOKED)
		return EXIT_KEY_DENIED;
	if (e == ERR_CORRUPT) /* an answer that makes no sense: nothing of ours is damaged */
		return EXIT_KEY_UNAVAILABLE;
	return cli_exit_code(e, why);
}

/* Everything in it comes from a token or a vault: text that is no UTF-8 must not cost the whole report. */
static json_t *text_or_null(const char *s)
{
	json_t *o = s[0] ? json_string(s) : NULL;

	return o ? o : json_null();
}

static json_t *describe(const struct azure_key_id *id, const struct azid_info *who, const char *tenant,
	const char *region, const char *trouble)
{
	char grant[GRANT_CAP];
	json_t *o;

	vault_grant_commands(id, who, grant, sizeof(grant));
	o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:s}", "kind", text_or_null(who->kind), "oid",
		text_or_null(who->oid), "appid", text_or_null(who->appid), "tenant", text_or_null(who->tenant),
		"resource", text_or_null(who->resource), "vault", id->base, "vault_tenant", text_or_null(tenant),
		"vault_region", text_or_null(region), "grant", grant);
	if (o && trouble[0])
		json_object_set_new(o, "vault_trouble", text_or_null(trouble));
	return o;
}

static enum err ask(struct azid *identity, const struct azure_cloud *cloud, const struct fips *f,
	const struct keyops_where *w, json_t **out, struct err_why *why)
{
	const struct akv_config cfg = {.fips = f,
		.cloud = cloud,
		.id = &w->id,
		.identity = identity,
		.api_version = w->api_version,
		.tenant = w->tenant};
	char tenant[AZURE_GUID] = "", region[64] = "";
	struct err_why trouble = {0};
	struct keyprov_detail detail = {0};
	const struct secret *token;
	struct azid_info who = {0};
	struct akv *vault = NULL;
	enum err e = akv_open(&cfg, &vault, why);

	if (e != ERR_OK)
		return e;
	/* Who we are can be told without the vault too, and is what one wants to know when the vault says no. */
	if (akv_contact(vault, tenant, region, &trouble) != ERR_OK)
		tenant[0] = region[0] = '\0';
	akv_close(vault);
	e = azid_token(identity, w->id.hsm ? cloud->hsm_audience : cloud->vault_audience,
		tenant[0] ? tenant : w->tenant, NULL, &token, &detail, why);
	if (e == ERR_OK)
		e = azid_info_get(identity, &who);
	if (e != ERR_OK)
		return e;
	*out = describe(&w->id, &who, tenant, region, trouble.text);
	return *out ? ERR_OK : err_set(why, ERR_NOMEM, 0, "There is not enough memory for the answer.");
}

enum err keyops_who(const struct fips *f, const struct keyops_where *w, json_t **out, struct err_why *why)
{
	struct azure_cloud cloud;
	struct azid *identity = NULL;
	json_t *conf = NULL;
	enum err e = azure_cloud_find(w->cloud, &cloud, why);

	*out = NULL;
	if (e == ERR_OK && !w->identity) {
		conf = azid_conf("auto", why);
		if (!conf)
			e = ERR_NOMEM;
	}
	if (e == ERR_OK)
		e = azid_open(f, &cloud, w->identity ? w->identity : conf, w->allow_cli, &identity, why);
	if (e == ERR_OK)
		e = ask(identity, &cloud, f, w, out, why);
	azid_close(identity);
	json_decref(conf);
	return e;
}
