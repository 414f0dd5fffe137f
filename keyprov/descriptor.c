/* SPDX-License-Identifier: Apache-2.0 */
/* descriptor - see descriptor.h. */
#include "keyprov/descriptor.h"
#include "keyprov/atomic_file.h"
#include "keyprov/sealed_json.h"
#include <sodium.h>
#include <stdio.h>
#include <string.h>

struct member {
	const char *name;
	json_type type;
	bool optional;
};

static const struct member top_members[] = {
	{"blobcryptfs", JSON_INTEGER, false},
	{"volume", JSON_STRING, false},
	{"suite", JSON_INTEGER, false},
	{"created", JSON_STRING, false},
	{"envelope", JSON_OBJECT, false},
	{"policy", JSON_OBJECT, false},
	{"mac", JSON_STRING, false},
};

#define ENVELOPE_MEMBERS                                                                                               \
	{"kind", JSON_STRING, false}, {"provider", JSON_OBJECT, false}, {"key", JSON_STRING, false},                   \
		{"version", JSON_INTEGER, false},                                                                      \
	{                                                                                                              \
		"wrapped_at", JSON_STRING, false                                                                       \
	}

static const struct member managed_members[] = {
	ENVELOPE_MEMBERS,
	{"volume_key", JSON_STRING, false},
	{"inner_key", JSON_STRING, true},
};

static const struct member customer_members[] = {
	ENVELOPE_MEMBERS,
	{"layer_key", JSON_STRING, false},
	{"managed", JSON_STRING, false},
};

static const struct member policy_members[] = {{"rotate_days", JSON_INTEGER, false}};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

void utc_format(time_t t, char out[static 32])
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "1970-01-01T00:00:00Z");
}

enum err utc_parse(const char *text, time_t *out)
{
	struct tm tm = {0};
	char again[32];
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	time_t t;

	if (!end || *end != '\0')
		return ERR_CORRUPT;
	t = timegm(&tm);
	utc_format(t, again); /* strptime takes "2026-2-3" and day 31 of any month: only the exact form is ours */
	if (strcmp(again, text) != 0)
		return ERR_CORRUPT;
	*out = t;
	return ERR_OK;
}

static enum err damaged(struct err_why *why, const char *what)
{
	return err_set(why, ERR_CORRUPT, 0, VOLUME_DESCRIPTOR " is damaged: %.100s is missing or impossible", what);
}

static enum err check_members(const json_t *obj, const struct member *table, size_t n, struct err_why *why)
{
	const char *key;
	json_t *value;
	size_t i;

	for (i = 0; i < n; i++) {
		value = json_object_get(obj, table[i].name);
		if (value ? json_typeof(value) != table[i].type : !table[i].optional)
			return damaged(why, table[i].name);
	}
	/* jansson's iterators want a non-const object, though they only read */
	json_object_foreach((json_t *)(uintptr_t)obj, key, value)
	{
		for (i = 0; i < n && strcmp(key, table[i].name) != 0; i++)
			;
		if (i == n)
			return err_set(why, ERR_UNSUPPORTED, 0,
				VOLUME_DESCRIPTOR " has a member %.32s that this program does not"
						  " know; it is damaged, or made by a newer one",
				key);
	}
	return ERR_OK;
}

/* Copies a string member that must fit. */
static enum err get_text(const json_t *obj, const char *name, char *out, size_t cap, struct err_why *why)
{
	const json_t *value = json_object_get(obj, name);
	size_t len = json_string_length(value);

	if (!json_is_string(value) || len == 0 || len >= cap)
		return damaged(why, name);
	/* They are shown to people before they are authenticated; ours are plain ASCII. */
	for (const char *c = json_string_value(value); *c; c++)
		if (*c < ' ' || *c > '~')
			return damaged(why, name);
	memcpy(out, json_string_value(value), len + 1);
	return ERR_OK;
}

static enum err get_wrapped(const json_t *obj, const char *name, struct wrapped *out, struct err_why *why)
{
	const json_t *value = json_object_get(obj, name);

	if (!json_is_string(value) || json_string_length(value) > (size_t)2 * WRAPPED_MAX ||
		b64_decode(json_string_value(value), json_string_length(value), out->bytes, sizeof(out->bytes),
			&out->len) != ERR_OK ||
		out->len == 0)
		return damaged(why, name);
	return ERR_OK;
}

static enum err parse_kind(const json_t *env, bool managed_only, struct envelope *out, struct err_why *why)
{
	enum err e = get_text(env, "kind", out->kind, sizeof(out->kind), why);

	if (e != ERR_OK)
		return e;
	if (!keyprov_find(out->kind))
		return err_set(why, ERR_UNSUPPORTED, 0,
			"the volume's key is kept by %.32s, which this program does not know;"
			" it needs a newer blobcryptfs",
			out->kind);
	if (kind_is_managed(out->kind))
		return check_members(env, managed_members, COUNT(managed_members), why);
	return managed_only ? damaged(why, "kind") : check_members(env, customer_members, COUNT(customer_members), why);
}

/* What keeps the volume key(s). */
static enum err parse_keys(const json_t *env, enum suite suite, struct envelope *out, struct err_why *why)
{
	enum err e;

	if (kind_is_managed(out->kind)) {
		e = get_wrapped(env, "volume_key", &out->volume_key, why);
		if (e != ERR_OK)
			return e;
		if ((suite == SUITE_XTS_GCM) != (json_object_get(env, "inner_key") != NULL))
			return damaged(why, "inner_key");
		return suite == SUITE_XTS_GCM ? get_wrapped(env, "inner_key", &out->inner_key, why) : ERR_OK;
	}
	out->sealed = json_object_get(env, "managed");
	if (json_string_length(out->sealed) < b64_len(GCM_OVERHEAD + 1) ||
		json_string_length(out->sealed) > b64_len(GCM_OVERHEAD + ENVELOPE_MAX))
		return damaged(why, "managed");
	return get_wrapped(env, "layer_key", &out->layer_key, why);
}

enum err envelope_parse(
	const json_t *env, enum suite suite, bool managed_only, struct envelope *out, struct err_why *why)
{
	struct envelope n;
	json_int_t version;
	char when[32];
	enum err e;

	memset(&n, 0, sizeof(n));
	e = parse_kind(env, managed_only, &n, why);
	if (e != ERR_OK)
		return e;
	n.provider = json_object_get(env, "provider");
	version = json_integer_value(json_object_get(env, "version"));
	if (version < 1 || version > INT32_MAX)
		return damaged(why, "version");
	n.key.version = (unsigned)version;
	if ((e = get_text(n.provider, "source", n.source, sizeof(n.source), why)) != ERR_OK ||
		(e = get_text(env, "key", n.key.id, sizeof(n.key.id), why)) != ERR_OK ||
		(e = get_text(env, "wrapped_at", when, sizeof(when), why)) != ERR_OK ||
		(e = parse_keys(env, suite, &n, why)) != ERR_OK)
		return e;
	if (utc_parse(when, &n.wrapped_at) != ERR_OK)
		return damaged(why, "wrapped_at");
	/* A KEK is made to be wrapped under at once, so this is its age too; file times get lost in restores. */
	n.key.created = n.wrapped_at;
	*out = n;
	return ERR_OK;
}

static enum err parse_version(const json_t *j, struct err_why *why)
{
	const json_t *version = json_object_get(j, "blobcryptfs");

	if (!version)
		return err_set(why, ERR_CORRUPT, 0, VOLUME_DESCRIPTOR " is JSON, but not the descriptor of a volume");
	if (!json_is_integer(version) || json_integer_value(version) < 1)
		return damaged(why, "blobcryptfs");
	if (json_integer_value(version) > DESCRIPTOR_VERSION)
		return err_set(why, ERR_UNSUPPORTED, 0,
			"the volume has format version %" JSON_INTEGER_FORMAT ", this program knows"
			" up to %d; use a newer blobcryptfs",
			json_integer_value(version), DESCRIPTOR_VERSION);
	return ERR_OK;
}

static enum err parse_id(const json_t *j, uint8_t id[static ID_BYTES], struct err_why *why)
{
	const json_t *value = json_object_get(j, "volume");
	const char *text = json_string_value(value);
	size_t len = json_string_length(value), got;

	if (len != (size_t)2 * ID_BYTES || strspn(text, "0123456789abcdef") != len ||
		sodium_hex2bin(id, ID_BYTES, text, len, NULL, &got, NULL) != 0 || got != ID_BYTES)
		return damaged(why, "volume");
	return ERR_OK;
}

enum err descriptor_parse(const json_t *j, struct descriptor *out, struct err_why *why)
{
	struct descriptor d;
	json_int_t suite, days;
	const json_t *policy;
	time_t created;
	enum err e = parse_version(j, why);

	memset(&d, 0, sizeof(d));
	if (e == ERR_OK)
		e = check_members(j, top_members, COUNT(top_members), why);
	if (e != ERR_OK)
		return e;
	suite = json_integer_value(json_object_get(j, "suite"));
	if (suite != SUITE_GCM && suite != SUITE_XTS_GCM)
		return err_set(why, ERR_UNSUPPORTED, 0,
			"the volume has cipher suite %" JSON_INTEGER_FORMAT ", which this program"
			" does not know; use a newer blobcryptfs",
			suite);
	d.suite = (enum suite)suite;
	if ((e = parse_id(j, d.id, why)) != ERR_OK ||
		(e = get_text(j, "created", d.created, sizeof(d.created), why)) != ERR_OK)
		return e;
	if (utc_parse(d.created, &created) != ERR_OK)
		return damaged(why, "created");
	policy = json_object_get(j, "policy");
	e = check_members(policy, policy_members, COUNT(policy_members), why);
	if (e != ERR_OK)
		return e;
	days = json_integer_value(json_object_get(policy, "rotate_days"));
	if (days < 0 || days > ROTATE_DAYS_MAX)
		return damaged(why, "rotate_days");
	d.rotate_days = (unsigned)days;
	e = envelope_parse(json_object_get(j, "envelope"), d.suite, false, &d.env, why);
	if (e == ERR_OK)
		*out = d;
	return e;
}

static json_t *wrapped_json(const struct wrapped *w)
{
	char text[2 * WRAPPED_MAX];

	b64_encode(w->bytes, w->len, text);
	return json_string(text);
}

/* Sets a member; false if out of memory.  Takes value. */
static bool put(json_t *obj, const char *name, json_t *value)
{
	return obj && json_object_set_new(obj, name, value) == 0;
}

json_t *envelope_build(const struct envelope *e, enum suite suite)
{
	char when[32];
	json_t *j;
	bool ok;

	utc_format(e->wrapped_at, when);
	j = json_pack("{s:s, s:o, s:s, s:I, s:s}", "kind", e->kind, "provider", json_deep_copy(e->provider), "key",
		e->key.id, "version", (json_int_t)e->key.version, "wrapped_at", when);
	if (kind_is_managed(e->kind)) {
		ok = put(j, "volume_key", wrapped_json(&e->volume_key));
		if (ok && suite == SUITE_XTS_GCM)
			ok = put(j, "inner_key", wrapped_json(&e->inner_key));
	} else {
		ok = put(j, "layer_key", wrapped_json(&e->layer_key)) &&
		     put(j, "managed", json_string(json_string_value(e->sealed)));
	}
	if (!ok) {
		json_decref(j);
		return NULL;
	}
	return j;
}

enum err descriptor_build(const struct descriptor *d, json_t **out)
{
	json_t *env = envelope_build(&d->env, d->suite), *j;
	char id[2 * ID_BYTES + 1];

	if (!env)
		return ERR_NOMEM;
	sodium_bin2hex(id, sizeof(id), d->id, ID_BYTES);
	j = json_pack("{s:i, s:s, s:i, s:s, s:o, s:{s:i}}", "blobcryptfs", DESCRIPTOR_VERSION, "volume", id, "suite",
		(int)d->suite, "created", d->created, "envelope", env, "policy", "rotate_days", (int)d->rotate_days);
	if (!j)
		return ERR_NOMEM;
	*out = j;
	return ERR_OK;
}

void descriptor_adopt(struct volume *v, const struct descriptor *d)
{
	memcpy(v->id, d->id, ID_BYTES);
	v->suite = d->suite;
	memcpy(v->created, d->created, sizeof(v->created));
	memcpy(v->provider, d->env.kind, sizeof(v->provider));
	memcpy(v->source, d->env.source, sizeof(v->source));
	v->key = d->env.key;
	v->wrapped_at = d->env.wrapped_at;
	v->rotate_days = d->rotate_days;
	v->inner_known = false;
}

/* ---- the two copies ---- */

struct copy {
	const char *name;
	json_t *json; /* NULL unless e is ERR_OK */
	struct descriptor d;
	enum err e;
	struct err_why why;
};

static void read_copy(int dirfd, const char *name, struct copy *c)
{
	memset(c, 0, sizeof(*c));
	c->name = name;
	c->e = sealed_json_read(dirfd, name, &c->json, &c->why);
	if (c->e != ERR_OK)
		return;
	c->e = descriptor_parse(c->json, &c->d, &c->why);
	if (c->e != ERR_OK) {
		json_decref(c->json);
		c->json = NULL;
	}
}

/* Neither copy can be used: the error that tells the user most. */
static enum err neither(const struct volume *v, const struct copy c[2], struct err_why *why)
{
	const struct copy *told = c[0].e != ERR_NOT_FOUND ? &c[0] : &c[1];

	if (c[0].e == ERR_NOT_FOUND && c[1].e == ERR_NOT_FOUND)
		return err_set(why, ERR_NOT_FOUND, 0,
			"%.200s is not a blobcryptfs volume: it has no " VOLUME_DESCRIPTOR
			"; make one with blobcryptfs init",
			v->path);
	if (told->e == ERR_CORRUPT)
		return err_set(why, ERR_CORRUPT, 0,
			"no usable descriptor in %.120s: %.150s (second copy: %.100s);"
			" restore one from a backup",
			v->path, told->why.text, told == &c[1] || !c[1].why.text[0] ? "the only one" : c[1].why.text);
	return err_set(why, told->e, told->why.sys_errno, "%s", told->why.text);
}

enum err descriptor_load(struct volume *v, struct err_why *why)
{
	struct copy c[2];
	int use;

	read_copy(v->dirfd, VOLUME_DESCRIPTOR, &c[0]);
	read_copy(v->dirfd, DESCRIPTOR_BACKUP, &c[1]);
	/* A newer program may have been stopped between the copies; its volume is not ours to touch, whichever copy it
	 * is. */
	for (int i = 0; i < 2; i++) {
		if (c[i].e == ERR_UNSUPPORTED) {
			json_decref(c[0].json);
			json_decref(c[1].json);
			return err_set(why, ERR_UNSUPPORTED, 0, "%s", c[i].why.text);
		}
	}
	use = c[0].e == ERR_OK ? 0 : 1;
	if (c[use].e != ERR_OK)
		return neither(v, c, why);
	json_decref(v->descriptor);
	json_decref(v->second);
	v->descriptor = c[use].json;
	v->second = NULL;
	v->from_backup = use == 1;
	v->second_copy_bad = use == 1 || c[1].e != ERR_OK;
	if (use == 0 && c[1].e == ERR_OK && !json_equal(c[0].json, c[1].json)) {
		v->second = c[1].json;
		v->second_copy_bad = true;
	} else if (use == 0) {
		json_decref(c[1].json);
	}
	descriptor_adopt(v, &c[use].d);
	return ERR_OK;
}

enum err descriptor_write(int dirfd, const json_t *j, bool alone, bool *replaced, struct err_why *why)
{
	enum err e = ERR_OK;

	if (replaced)
		*replaced = false;
	if (alone)
		e = atomic_file_scrub(dirfd, DESCRIPTOR_BACKUP, why);
	if (e == ERR_OK)
		e = sealed_json_write(dirfd, VOLUME_DESCRIPTOR, j, replaced, why);
	return e == ERR_OK ? sealed_json_write(dirfd, DESCRIPTOR_BACKUP, j, NULL, why) : e;
}

enum err descriptor_sweep(const struct volume *v, struct err_why *why)
{
	enum err e = atomic_file_sweep(v->dirfd, VOLUME_DESCRIPTOR, why);

	return e == ERR_OK ? atomic_file_sweep(v->dirfd, DESCRIPTOR_BACKUP, why) : e;
}

enum err descriptor_settle(struct volume *v, struct err_why *why)
{
	enum err e = descriptor_sweep(v, why);

	if (e == ERR_OK && v->second_copy_bad)
		e = sealed_json_write(
			v->dirfd, v->from_backup ? VOLUME_DESCRIPTOR : DESCRIPTOR_BACKUP, v->descriptor, NULL, why);
	if (e != ERR_OK)
		return e;
	json_decref(v->second);
	v->second = NULL;
	v->from_backup = false;
	v->second_copy_bad = false;
	return ERR_OK;
}
