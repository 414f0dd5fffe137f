/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault - see vault.h: the provider.  The checks of a key are in vault_check.c.
 *
 * The configuration is hostile until the descriptor is authenticated: it can choose a key in a vault of a known cloud
 * and one of this machine's identities, no more.  Threads: a provider, and those opened with it as "like", belong to
 * one thread at a time; vault_abort may be called from any.
 */
#include "keyprov/vault.h"
#include "keyprov/vault_internal.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct identity { /* shared by providers that were opened for one volume */
	struct azid *azid;
	unsigned users;
};

struct vault {
	struct keyprov base;
	json_t *conf; /* our copy of the provider object */
	struct azure_cloud cloud;
	struct azure_key_id id;
	const char *algorithm; /* inside conf */
	struct identity *identity;
	struct akv *akv;
	bool fresh; /* for the next unwrap */
};

static struct vault *self(struct keyprov *p)
{
	return (struct vault *)p;
}

static const char *text_of(const json_t *conf, const char *member)
{
	return json_string_value(json_object_get(conf, member));
}

/* ---- open and close ---- */

static void identity_drop(struct identity *i)
{
	if (!i || --i->users > 0)
		return;
	azid_close(i->azid);
	free(i);
}

static void vault_close(struct keyprov *p)
{
	struct vault *v = self(p);

	akv_close(v->akv);
	identity_drop(v->identity);
	json_decref(v->conf);
	free(v);
}

static bool same_identity(const struct vault *a, const struct vault *b)
{
	return memcmp(&a->cloud, &b->cloud, sizeof(a->cloud)) == 0 &&
	       json_equal(json_object_get(a->conf, "identity"), json_object_get(b->conf, "identity"));
}

static enum err identity_take(struct vault *v, const struct fips *f, const struct vault *like, struct err_why *why)
{
	enum err e;

	if (like && same_identity(v, like)) {
		v->identity = like->identity;
		v->identity->users++;
		return ERR_OK;
	}
	v->identity = calloc(1, sizeof(*v->identity));
	if (!v->identity)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	v->identity->users = 1;
	e = azid_open(f, &v->cloud, json_object_get(v->conf, "identity"), false, &v->identity->azid, why);
	if (e != ERR_OK)
		v->identity->azid = NULL;
	return e;
}

static enum err set_up(struct vault *v, const struct fips *f, const struct vault *like, struct err_why *why)
{
	struct akv_config cfg = {.fips = f, .cloud = &v->cloud, .id = &v->id};
	enum err e = vault_conf_check(v->conf, why);

	if (e != ERR_OK)
		return e;
	v->algorithm = text_of(v->conf, "algorithm");
	e = azure_cloud_find(text_of(v->conf, "cloud"), &v->cloud, why);
	if (e == ERR_NOT_FOUND)
		e = ERR_CONFIG;
	if (e == ERR_OK)
		e = azure_key_id_parse(&v->cloud, text_of(v->conf, "uri"), &v->id, why);
	if (e == ERR_OK && v->id.hsm != (strcmp(text_of(v->conf, "source"), "managed-hsm") == 0))
		e = err_set(why, ERR_CORRUPT, 0,
			"the description of the customer's key is damaged: source and uri disagree");
	if (e == ERR_OK)
		e = identity_take(v, f, like, why);
	if (e != ERR_OK)
		return e;
	cfg.identity = v->identity->azid;
	cfg.tenant = text_of(v->conf, "tenant");
	cfg.api_version = text_of(v->conf, "api_version");
	return akv_open(&cfg, &v->akv, why);
}

static enum err vault_open(
	const struct fips *f, const json_t *conf, const struct keyprov *like, struct keyprov **out, struct err_why *why)
{
	struct vault *v = calloc(1, sizeof(*v));
	enum err e;

	if (!v)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	v->conf = json_deep_copy(conf);
	if (v->conf)
		e = set_up(v, f, (const struct vault *)like, why);
	else
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	if (e != ERR_OK) {
		vault_close(&v->base);
		return e;
	}
	*out = &v->base;
	return ERR_OK;
}

static json_t *vault_describe(const struct keyprov *p)
{
	json_t *j = json_deep_copy(((const struct vault *)p)->conf);

	if (j)
		(void)json_object_del(j, "volume"); /* the descriptor says it once */
	return j;
}

/* ---- the key ---- */

/* key_ref.id, which is hostile: it has to be a version of the key in the configuration. */
static enum err parse_ref(
	const struct vault *v, const struct key_ref *ref, struct azure_key_id *id, struct err_why *why)
{
	if (azure_key_id_parse(&v->cloud, ref->id, id, NULL) != ERR_OK || strcmp(id->host, v->id.host) != 0 ||
		strcasecmp(id->name, v->id.name) != 0 || id->version[0] == '\0' ||
		(v->id.version[0] && strcmp(id->version, v->id.version) != 0))
		return err_set(why, ERR_CORRUPT, 0,
			"the descriptor names another key than the one it is configured with: damaged, or tampered "
			"with");
	return ERR_OK;
}

static enum err vault_wrap(
	struct keyprov *p, const struct secret *key, struct wrapped *out, struct key_ref *ref, struct err_why *why)
{
	struct vault *v = self(p);
	char kid[AZURE_URI_MAX];
	enum err e = akv_wrap(v->akv, v->algorithm, key, out, kid, why);

	if (e != ERR_OK)
		return e;
	ref->version = 1; /* the volume counts */
	memcpy(ref->id, kid, sizeof(kid));
	return ERR_OK;
}

static enum err vault_unwrap(struct keyprov *p, const struct wrapped *in, const struct key_ref *ref,
	struct secret **key, struct err_why *why)
{
	struct vault *v = self(p);
	struct azure_key_id id;
	bool fresh = v->fresh;
	enum err e = parse_ref(v, ref, &id, why);

	if (e != ERR_OK)
		return e;
	v->fresh = false;
	return akv_unwrap(v->akv, id.version, v->algorithm, in, fresh, key, why);
}

static enum key_state state_of(const struct akv_key *k, time_t now)
{
	if (!k->enabled)
		return KEY_DISABLED;
	if ((k->expires && k->expires <= now) || (k->not_before && k->not_before > now))
		return KEY_EXPIRED;
	return KEY_USABLE;
}

/* ERR_OK with a state, whenever the answer tells one. */
static enum err look(struct vault *v, const char *version, struct akv_key *k, enum key_state *out, struct err_why *why)
{
	enum err e = akv_get_version(v->akv, version, k, why);
	const struct keyprov_detail *d = akv_detail(v->akv);

	if (e == ERR_OK)
		*out = state_of(k, time(NULL));
	else if (e == ERR_KEY_UNAVAILABLE)
		*out = KEY_UNREACHABLE;
	else if (e == ERR_KEY_REVOKED && d->http_status == 404)
		*out = KEY_MISSING;
	else if (e == ERR_KEY_REVOKED && strcmp(d->reason, "KeyDisabled") == 0)
		*out = KEY_DISABLED;
	else
		return e;
	return ERR_OK;
}

static enum err vault_state(
	struct keyprov *p, const struct key_ref *ref, enum key_state *out, struct key_ref *newest, struct err_why *why)
{
	struct vault *v = self(p);
	struct azure_key_id id;
	struct akv_key k;
	enum err e = parse_ref(v, ref, &id, why);

	if (e != ERR_OK)
		return e;
	*newest = *ref;
	if (v->id.version[0])
		return look(v, id.version, &k, out, why);
	/* One call serves for both as long as there is no newer version. */
	e = look(v, "", &k, out, why);
	if (e != ERR_OK || *out == KEY_UNREACHABLE || *out == KEY_MISSING)
		return e;
	if (strcmp(k.kid, ref->id) == 0)
		return ERR_OK;
	if (k.kid[0]) {
		memcpy(newest->id, k.kid, sizeof(k.kid));
		newest->created = k.created;
		newest->version = ref->version + 1;
	}
	return look(v, id.version, &k, out, why);
}

static enum err vault_rotate(struct keyprov *p, struct key_ref *newest, struct err_why *why)
{
	(void)newest;
	return err_set(why, ERR_UNSUPPORTED, 0,
		"a customer's key is rotated in its vault (az keyvault key rotate, or its rotation policy), not here: "
		"%s",
		self(p)->id.base);
}

/* Versions are the customer's to keep and to remove. */
static enum err vault_remove(struct keyprov *p, const struct key_ref *ref, struct err_why *why)
{
	(void)p;
	(void)ref;
	(void)why;
	return ERR_OK;
}

static const struct keyprov_detail *vault_detail(const struct keyprov *p)
{
	return akv_detail(((const struct vault *)p)->akv);
}

static void vault_abort(struct keyprov *p)
{
	akv_abort(self(p)->akv);
}

static void vault_fresh(struct keyprov *p)
{
	self(p)->fresh = true;
}

void vault_set_limits(struct keyprov *p, unsigned attempts, unsigned deadline_ms)
{
	if (p && p->ops == &vault_ops)
		akv_set_limits(self(p)->akv, attempts, deadline_ms);
}

const struct keyprov_ops vault_ops = {
	.name = VAULT_PROVIDER,
	.open = vault_open,
	.wrap = vault_wrap,
	.unwrap = vault_unwrap,
	.state = vault_state,
	.rotate = vault_rotate,
	.remove = vault_remove,
	.prune = vault_remove,
	.conf = vault_describe,
	.close = vault_close,
	.detail = vault_detail,
	.abort = vault_abort,
	.fresh = vault_fresh,
};
