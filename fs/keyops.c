/* SPDX-License-Identifier: Apache-2.0 */
/* keyops - see keyops.h. */
#include "fs/keyops.h"

#include "fs/audit.h"
#include "fs/cli.h"
#include "fs/report.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SENTENCE_MAX 1024

/* ---- answers ---- */

static json_t *text(const char *s)
{
	json_t *o = json_string(s);

	return o ? o : json_null();
}

static json_t *detail_json(const struct keyprov_detail *d)
{
	const struct {
		const char *name, *value;
	} texts[] = {{"reason", d->reason}, {"request_id", d->request_id}, {"client_request_id", d->client_request_id},
		{"tenant", d->tenant}, {"oid", d->oid}, {"appid", d->appid}, {"region", d->region}, {"kid", d->kid}};
	json_t *o = json_object();

	for (size_t i = 0; o && i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].value[0])
			json_object_set_new(o, texts[i].name, text(texts[i].value));
	if (o && d->http_status)
		json_object_set_new(o, "http_status", json_integer(d->http_status));
	if (o && d->network)
		json_object_set_new(o, "network", json_true());
	return o;
}

static json_t *answer_new(bool dry_run)
{
	return json_pack("{s:i, s:b, s:b}", "code", EXIT_OK, "changed", 0, "dry_run", dry_run);
}

static void add_detail(json_t *o, const struct keyprov_detail *d)
{
	json_t *more = detail_json(d);

	if (more && json_object_size(more) > 0)
		json_object_set(o, "detail", more);
	json_decref(more);
}

/* What was done, or would be. */
static void did(json_t *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void did(json_t *o, const char *fmt, ...)
{
	char sentence[SENTENCE_MAX];
	json_t *list = json_object_get(o, "did");
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	va_end(ap);
	if (!list) {
		list = json_array();
		json_object_set_new(o, "did", list);
	}
	json_array_append_new(list, text(sentence));
}

static json_t *fail_with(json_t *o, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static json_t *fail_with(json_t *o, int code, const char *fmt, ...)
{
	char sentence[SENTENCE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	va_end(ap);
	json_object_set_new(o, "code", json_integer(code));
	json_object_set_new(o, "error", text(sentence));
	return o;
}

static const char *said(enum err e, const struct err_why *why)
{
	return why->text[0] ? why->text : err_text(e);
}

json_t *keyops_refuse(int code, const char *sentence)
{
	json_t *o = answer_new(false);

	return o ? fail_with(o, code, "%s", sentence) : NULL;
}

static const char *cause_of(const struct keyops *k)
{
	return k->cause ? k->cause : "on request";
}

static json_t *changed(const struct keyops *k, json_t *o, const char *event)
{
	const struct keyprov_detail said = *volume_detail(k->v);

	audit_key_event(event, cause_of(k), &said);
	audit_flush(); /* who is told that it was done can rely on the line */
	json_object_set_new(o, "changed", json_true());
	json_object_set_new(o, "key", report_key(k->v));
	return o;
}

static json_t *refuse_read_only(json_t *o)
{
	return fail_with(o, EXIT_BACKING, "The volume is mounted read-only, so its key can't be changed.");
}

/* The volume's own keys can't be opened: their keeper said no, or can't be reached. */
static json_t *fail_present(json_t *o, const char *what, enum err e, const struct err_why *why)
{
	int code = cli_exit_code_key(e, why);

	if (e == ERR_KEY_REVOKED)
		return fail_with(o, code, "%s while access to the customer's key is revoked: %s", what, said(e, why));
	return fail_with(o, code, "%s: %s", what, said(e, why));
}

/* Does the present customer's key still unwrap?  detail goes into o. */
static enum err probe(const struct keyops *k, json_t *o, struct err_why *why)
{
	struct keeper keeper;
	enum err e = volume_keeper_open(k->v, k->fips, &keeper, why);

	if (e != ERR_OK)
		return e;
	e = volume_keeper_probe(&keeper, true, why);
	add_detail(o, &keeper.detail);
	volume_keeper_close(&keeper);
	return e;
}

/* ---- key set ---- */

static const char *const state_names[] = {
	[CHECK_OK] = "ok", [CHECK_FAILED] = "failed", [CHECK_WARNING] = "warning", [CHECK_SKIPPED] = "skipped"};

static json_t *checks_json(const struct vault_check checks[static VAULT_CHECKS])
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < VAULT_CHECKS; i++) {
		const struct vault_check *c = &checks[i];
		json_t *one = json_pack(
			"{s:s, s:s, s:o}", "name", c->name, "state", state_names[c->state], "found", text(c->found));

		if (one && c->remedy[0])
			json_object_set_new(one, "remedy", text(c->remedy));
		json_array_append_new(list, one);
	}
	return list;
}

static int unfit_code(enum err first)
{
	switch ((int)first) {
	case ERR_KEY_REVOKED:
	case ERR_KEY_DENIED:
		return EXIT_KEY_DENIED;
	case ERR_KEY_UNAVAILABLE:
		return EXIT_KEY_UNAVAILABLE;
	default:
		return EXIT_KEY_UNFIT;
	}
}

/* What kind of change is it? */
static const char *set_event(const struct volume *v, const json_t *conf)
{
	const char *old = json_string_value(json_object_get(volume_customer_conf(v), "uri"));
	const char *next = json_string_value(json_object_get(conf, "uri"));

	if (!old)
		return "customer_key_on";
	return next && strcmp(old, next) == 0 ? "customer_key_set_again" : "customer_key_changed";
}

static void tell_set(json_t *o, const struct keyops *k, const json_t *conf, bool dry_run)
{
	const char *uri = json_string_value(json_object_get(conf, "uri"));
	const char *would = dry_run ? "would be" : "was";

	if (volume_has_customer(k->v))
		did(o, "The layer key %s made anew and wrapped by %s instead of %s.", would, uri, k->v->key.id);
	else
		did(o, "The managed envelope %s encrypted under a layer key that %s wraps.", would, uri);
	if (!volume_has_customer(k->v) && strcmp(k->v->source, "store") == 0)
		did(o,
			"The managed key %s replaced by a new version, so that older copies of the descriptor open "
			"nothing.",
			would);
	did(o, "No data %s touched.", would);
}

/*
 * The present keys have to be opened for it, by the identity they were set with.  If that one has no access any more
 * (its machine is gone, say), the one that is to follow may do it: the vault says yes to it or it doesn't.
 */
static enum err with_either_identity(
	const struct keyops *k, const json_t *conf, json_t *o, bool dry_run, struct err_why *why)
{
	const json_t *old = json_object_get(volume_customer_conf(k->v), "identity");
	const json_t *next = json_object_get(conf, "identity");
	struct err_why second = {0};
	enum err e = ERR_OK, first = ERR_OK;

	for (int i = 0; i < 2; i++) {
		k->v->identity = i ? next : NULL;
		if (!dry_run)
			e = volume_customer_set(k->v, k->fips, k->now, conf, i ? &second : why);
		else if (volume_has_customer(k->v))
			e = probe(k, o, i ? &second : why);
		if (i == 0)
			first = e;
		if (e == ERR_OK || !old || json_equal(old, next))
			break;
	}
	k->v->identity = NULL;
	return e == ERR_OK ? e : first; /* the first one is the one that why tells of */
}

static json_t *set_examined(const struct keyops *k, json_t *o, const json_t *conf, bool dry_run)
{
	const char *event = set_event(k->v, conf);
	struct err_why why = {0};
	enum err e;

	tell_set(o, k, conf, dry_run);
	e = with_either_identity(k, conf, o, dry_run, &why);
	if (e == ERR_OK)
		return dry_run ? o : changed(k, o, event);
	json_object_del(o, "did");
	if (dry_run)
		return fail_present(o, "The key could not be changed", e, &why);
	add_detail(o, volume_detail(k->v));
	audit_key_event("customer_key_set_refused", "the present keys or the new one failed", volume_detail(k->v));
	return fail_present(o, "The key can't be changed", e, &why);
}

json_t *keyops_set(const struct keyops *k, const struct vault_want *want, bool dry_run)
{
	struct vault_check checks[VAULT_CHECKS] = {0};
	struct keyprov_detail detail = {0};
	enum err first = ERR_OK, e;
	struct err_why why = {0};
	json_t *conf = NULL, *o = answer_new(dry_run);

	if (!o)
		return NULL;
	if (k->read_only && !dry_run)
		return refuse_read_only(o);
	e = keyops_set_check(want, &why);
	if (e != ERR_OK)
		return fail_with(o, cli_exit_code(e == ERR_NOT_FOUND ? ERR_CONFIG : e, &why), "%s", said(e, &why));
	e = vault_examine(k->fips, want, checks, &conf, &detail, &first, &why);
	add_detail(o, &detail);
	if (e != ERR_OK)
		return fail_with(o, keyops_code_vault(e, &why), "%s", said(e, &why));
	json_object_set_new(o, "checks", checks_json(checks));
	if (!conf && !dry_run)
		audit_key_event("customer_key_set_refused", "a check failed", &detail);
	if (conf)
		o = set_examined(k, o, conf, dry_run);
	else
		fail_with(o, unfit_code(first), "Nothing was changed: %s", said(first, &why));
	json_decref(conf);
	return o;
}

/* ---- key rotate ---- */

static json_t *rotate_managed(const struct keyops *k, json_t *o, bool dry_run)
{
	bool below = volume_has_customer(k->v);
	const char *source = below ? k->v->inner_source : k->v->source;
	struct err_why why = {0};
	enum err e;

	if (!k->next && (strcmp(source, "file") == 0 || strcmp(source, "credential") == 0))
		return fail_with(o, EXIT_USAGE,
			"The managed key is kept in a %s that this program can't make anew; unmount the volume, make a "
			"new key, and name it with --new-managed-key.",
			source);
	if (dry_run) {
		did(o, "A new managed key would wrap the volume key%s; no data would be touched.",
			below ? ", below the customer's key" : "");
		return o;
	}
	e = volume_rekey(k->v, k->fips, k->now, k->next, &why);
	if (e == ERR_UNSUPPORTED) /* that kind of source can't: nothing newer about it */
		return fail_with(o, EXIT_USAGE, "%s", said(e, &why));
	if (e != ERR_OK) {
		if (below)
			add_detail(o, volume_detail(k->v));
		return fail_with(o, cli_exit_code_key(e, &why), "%s", said(e, &why));
	}
	return changed(k, o, "key_rotated");
}

/* Which version would a rotation go to? */
static enum err newest(const struct keyops *k, json_t *o, struct key_ref *out, struct err_why *why)
{
	struct keeper keeper;
	enum key_state state;
	enum err e = volume_keeper_open(k->v, k->fips, &keeper, why);

	if (e != ERR_OK)
		return e;
	e = keyprov_state(keeper.provider, &keeper.ref, &state, out, why);
	add_detail(o, keyprov_detail_get(keeper.provider));
	volume_keeper_close(&keeper);
	return e;
}

static json_t *rotate_dry(const struct keyops *k, json_t *o)
{
	struct key_ref ref = {0};
	struct err_why why = {0};
	enum err e = newest(k, o, &ref, &why);

	if (e != ERR_OK)
		return fail_present(o, "Newer versions can't be looked for", e, &why);
	if (!ref.id[0] || strcmp(ref.id, k->v->key.id) == 0)
		did(o, "%s is the newest version; nothing would be changed.", k->v->key.id);
	else
		did(o, "The layer key would be wrapped by %s instead of %s; no data would be touched.", ref.id,
			k->v->key.id);
	return o;
}

static json_t *rotate_customer(const struct keyops *k, json_t *o, bool dry_run)
{
	const json_t *conf = volume_customer_conf(k->v);
	const char *uri = json_string_value(json_object_get(conf, "uri"));
	struct azure_cloud cloud;
	struct azure_key_id id;
	struct err_why why = {0};
	bool moved = false;
	enum err e = azure_cloud_find(json_string_value(json_object_get(conf, "cloud")), &cloud, &why);

	if (e == ERR_OK)
		e = azure_key_id_parse(&cloud, uri ? uri : "", &id, &why);
	if (e != ERR_OK)
		return fail_with(o, EXIT_KEY_UNAVAILABLE, "%s", said(e, &why));
	if (id.version[0])
		return fail_with(o, EXIT_USAGE,
			"The volume is under one version of its key, %s. Move it to another with \"blobcryptfs key set "
			"%s/keys/%s/VERSION DIR\"; named without a version, the newest one is followed from then on.",
			uri, id.base, id.name);
	if (dry_run)
		return rotate_dry(k, o);
	e = volume_customer_rotate(k->v, k->fips, k->now, &moved, &why);
	add_detail(o, volume_detail(k->v));
	if (e != ERR_OK)
		return fail_present(o, "The key can't be rotated", e, &why);
	if (moved) {
		did(o, "The layer key is wrapped by %s now; no data was touched.", k->v->key.id);
		return changed(k, o, "customer_key_rotated");
	}
	did(o, "%s is the newest version; nothing was changed.", k->v->key.id);
	json_object_set_new(o, "key", report_key(k->v));
	return o;
}

json_t *keyops_rotate(const struct keyops *k, bool managed, bool dry_run)
{
	json_t *o = answer_new(dry_run);

	if (!o)
		return NULL;
	if (k->read_only && !dry_run)
		return refuse_read_only(o);
	if (managed || k->next || !volume_has_customer(k->v))
		return rotate_managed(k, o, dry_run);
	return rotate_customer(k, o, dry_run);
}

/* ---- key off ---- */

json_t *keyops_off(const struct keyops *k, bool dry_run)
{
	static const char cant[] = "The customer's key can't be turned off";
	json_t *o = answer_new(dry_run);
	struct err_why why = {0};
	char kid[KEY_ID_MAX];
	enum err e;

	if (!o)
		return NULL;
	if (k->read_only && !dry_run)
		return refuse_read_only(o);
	if (!volume_has_customer(k->v))
		return fail_with(o, EXIT_USAGE, "No customer's key is on; the volume is under its managed key alone.");
	if (dry_run) {
		e = probe(k, o, &why);
		if (e != ERR_OK)
			return fail_present(o, cant, e, &why);
		did(o, "The layer that %s wraps would be taken away; the managed key alone would open the volume.",
			k->v->key.id);
		return o;
	}
	snprintf(kid, sizeof(kid), "%s", k->v->key.id);
	e = volume_customer_off(k->v, k->fips, k->now, &why);
	add_detail(o, volume_detail(k->v));
	if (e != ERR_OK) {
		audit_key_event("customer_key_off_refused", "access is needed once more", volume_detail(k->v));
		return fail_present(o, cant, e, &why);
	}
	did(o, "The layer that %s wrapped is gone; the managed key alone opens the volume. No data was touched.", kid);
	return changed(k, o, "customer_key_off");
}

/* ---- key verify, key identity ---- */

static enum err open_once(const struct keyops *k, struct err_why *why)
{
	struct volkeys *vk = NULL;
	enum err e = volume_unlock(k->v, k->fips, k->now, &vk, why);

	volkeys_free(vk);
	return e;
}

json_t *keyops_verify(const struct keyops *k)
{
	json_t *o = answer_new(false);
	struct err_why why = {0};
	enum err e = ERR_OK;

	if (!o)
		return NULL;
	if (volume_has_customer(k->v)) {
		e = probe(k, o, &why);
		if (e == ERR_OK)
			did(o, "%s unwraps.", k->v->key.id);
	}
	if (e == ERR_OK && !k->mounted) {
		e = open_once(k, &why);
		if (e == ERR_OK)
			did(o, "The managed key opens the volume, and its descriptor is authentic.");
	} else if (e == ERR_OK && !volume_has_customer(k->v)) {
		did(o, "The volume is open with its managed key; no customer's key is on.");
	}
	json_object_set_new(o, "key", report_key(k->v));
	return e == ERR_OK ? o : fail_with(o, cli_exit_code_key(e, &why), "%s", said(e, &why));
}

json_t *keyops_identity(const struct keyops *k)
{
	const json_t *conf = volume_customer_conf(k->v);
	json_t *o = answer_new(false), *who = NULL;
	struct keyops_where where = {0};
	struct azure_cloud cloud;
	struct err_why why = {0};
	const char *uri;
	enum err e;

	if (!o)
		return NULL;
	if (!conf)
		return fail_with(o, EXIT_USAGE,
			"No customer's key is on, so no vault is known; name the vault instead of the volume.");
	where.cloud = json_string_value(json_object_get(conf, "cloud"));
	where.identity = json_object_get(conf, "identity");
	where.api_version = json_string_value(json_object_get(conf, "api_version"));
	where.tenant = json_string_value(json_object_get(conf, "tenant"));
	uri = json_string_value(json_object_get(conf, "uri"));
	e = azure_cloud_find(where.cloud, &cloud, &why);
	if (e == ERR_OK)
		e = azure_key_id_parse(&cloud, uri ? uri : "", &where.id, &why);
	if (e == ERR_OK)
		e = keyops_who(k->fips, &where, &who, &why);
	if (e != ERR_OK)
		return fail_with(o, cli_exit_code_key(e, &why), "%s", said(e, &why));
	json_object_set_new(o, "identity", who);
	return o;
}

/* ---- by name ---- */

static json_t *run_set(const struct keyops *k, const json_t *args)
{
	struct vault_want want;
	struct err_why why = {0};

	if (keyops_set_parse(args, &want, &why) != ERR_OK)
		return keyops_refuse(EXIT_USAGE, why.text);
	return keyops_set(k, &want, keyops_flag(args, "dry_run"));
}

static json_t *run_rotate(const struct keyops *k, const json_t *args)
{
	return keyops_rotate(k, keyops_flag(args, "managed"), keyops_flag(args, "dry_run"));
}

static json_t *run_off(const struct keyops *k, const json_t *args)
{
	return keyops_off(k, keyops_flag(args, "dry_run"));
}

static json_t *run_verify(const struct keyops *k, const json_t *args)
{
	(void)args;
	return keyops_verify(k);
}

static json_t *run_identity(const struct keyops *k, const json_t *args)
{
	(void)args;
	return keyops_identity(k);
}

static json_t *run_audit(const struct keyops *k, const json_t *args)
{
	(void)args;
	return keyops_audit_here(k);
}

static const struct {
	const char *name;
	json_t *(*run)(const struct keyops *k, const json_t *args);
} requests[] = {{"key_set", run_set}, {"key_rotate", run_rotate}, {"key_off", run_off}, {"key_verify", run_verify},
	{"key_identity", run_identity}, {"audit_verify", run_audit}};
#define N_REQUESTS (sizeof(requests) / sizeof(requests[0]))

static size_t find_request(const char *name)
{
	size_t i = 0;

	while (i < N_REQUESTS && strcmp(requests[i].name, name) != 0)
		i++;
	return i;
}

bool keyops_knows(const char *request)
{
	return find_request(request) < N_REQUESTS;
}

json_t *keyops_run(const struct keyops *k, const char *request, const json_t *args)
{
	size_t i = find_request(request);

	return i < N_REQUESTS ? requests[i].run(k, args) : NULL;
}
