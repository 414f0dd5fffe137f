/* SPDX-License-Identifier: Apache-2.0 */
/* keyops_args - the arguments of key_set as JSON and as a struct; see keyops.h. */
#include "fs/keyops.h"
#include <limits.h>
#include <string.h>

#define API_VERSION_MAX 32
#define REGION_MAX	63

static const struct {
	const char *name;
	json_type type;
} members[] = {
	{"uri", JSON_STRING},
	{"cloud", JSON_STRING},
	{"api_version", JSON_STRING},
	{"identity", JSON_OBJECT},
	{"region", JSON_STRING},
	{"allow_other_region", JSON_TRUE}, /* or false */
	{"expired_allowed", JSON_TRUE},
	{"probe_seconds", JSON_INTEGER},
	{"lease_seconds", JSON_INTEGER},
	{"dry_run", JSON_TRUE},
};

json_t *keyops_set_args(const struct vault_want *w)
{
	json_t *o = json_pack("{s:s, s:b, s:b}", "uri", w->uri, "allow_other_region", w->allow_other_region,
		"expired_allowed", w->expired_allowed);
	bool ok = o != NULL;

	if (ok && w->cloud)
		ok = json_object_set_new(o, "cloud", json_string(w->cloud)) == 0;
	if (ok && w->api_version)
		ok = json_object_set_new(o, "api_version", json_string(w->api_version)) == 0;
	if (ok && w->identity)
		ok = json_object_set(o, "identity", w->identity) == 0;
	if (ok && w->region)
		ok = json_object_set_new(o, "region", json_string(w->region)) == 0;
	if (ok && w->probe_seconds)
		ok = json_object_set_new(o, "probe_seconds", json_integer(w->probe_seconds)) == 0;
	if (ok && w->lease_seconds != UINT_MAX)
		ok = json_object_set_new(o, "lease_seconds", json_integer(w->lease_seconds)) == 0;
	if (!ok) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static bool is_of_type(const json_t *v, json_type type)
{
	return type == JSON_TRUE ? json_is_boolean(v) : json_typeof(v) == type;
}

static enum err check_members(const json_t *args, struct err_why *why)
{
	const char *name;
	json_t *value;
	size_t i;

	if (!json_is_object(args))
		return err_set(why, ERR_CONFIG, 0, "The request has no arguments.");
	/* jansson's iterators want a non-const object, though they only read */
	json_object_foreach((json_t *)(uintptr_t)args, name, value)
	{
		for (i = 0; i < sizeof(members) / sizeof(members[0]) && strcmp(name, members[i].name) != 0; i++)
			;
		if (i == sizeof(members) / sizeof(members[0]) || !is_of_type(value, members[i].type))
			return err_set(
				why, ERR_CONFIG, 0, "The request's argument %.32s is not known, or of no use.", name);
	}
	return ERR_OK;
}

static bool get_number(const json_t *args, const char *name, unsigned *out)
{
	const json_t *v = json_object_get(args, name);

	if (!v)
		return true;
	if (json_integer_value(v) < 0 || json_integer_value(v) >= UINT_MAX)
		return false;
	*out = (unsigned)json_integer_value(v);
	return true;
}

enum err keyops_set_parse(const json_t *args, struct vault_want *w, struct err_why *why)
{
	enum err e = check_members(args, why);

	*w = (struct vault_want){.lease_seconds = UINT_MAX};
	if (e != ERR_OK)
		return e;
	w->uri = json_string_value(json_object_get(args, "uri"));
	w->cloud = json_string_value(json_object_get(args, "cloud"));
	w->api_version = json_string_value(json_object_get(args, "api_version"));
	w->identity = json_object_get(args, "identity");
	w->region = json_string_value(json_object_get(args, "region"));
	w->allow_other_region = keyops_flag(args, "allow_other_region");
	w->expired_allowed = keyops_flag(args, "expired_allowed");
	if (!w->uri)
		return err_set(why, ERR_CONFIG, 0, "The request names no key.");
	if (!get_number(args, "probe_seconds", &w->probe_seconds) ||
		!get_number(args, "lease_seconds", &w->lease_seconds))
		return err_set(why, ERR_CONFIG, 0, "The request has an impossible number of seconds.");
	return ERR_OK;
}

static bool made_of(const char *s, const char *set, size_t max)
{
	size_t len = strlen(s);

	return len > 0 && len <= max && strspn(s, set) == len;
}

/* What has to be right whoever is asked. */
static enum err check_texts(const struct vault_want *w, struct err_why *why)
{
	if (w->api_version && !made_of(w->api_version, "0123456789abcdefghijklmnopqrstuvwxyz.-", API_VERSION_MAX))
		return err_set(why, ERR_CONFIG, 0,
			"\"%.40s\" is no API version of Key Vault; it looks like 7.4 or 2025-07-01.", w->api_version);
	if (w->region && !made_of(w->region, "0123456789abcdefghijklmnopqrstuvwxyz", REGION_MAX))
		return err_set(why, ERR_CONFIG, 0,
			"\"%.70s\" is no region; it is written in small letters without spaces, as in westeurope.",
			w->region);
	if (w->probe_seconds > VAULT_PROBE_MAX)
		return err_set(why, ERR_CONFIG, 0, "The vault can be asked every 1 to %u seconds, not every %u.",
			VAULT_PROBE_MAX, w->probe_seconds);
	if (w->lease_seconds != UINT_MAX && w->lease_seconds > VAULT_LEASE_MAX)
		return err_set(why, ERR_CONFIG, 0, "The lease can be 0 to %u seconds, not %u.", VAULT_LEASE_MAX,
			w->lease_seconds);
	return ERR_OK;
}

enum err keyops_set_check(const struct vault_want *w, struct err_why *why)
{
	struct azure_cloud cloud;
	struct azure_key_id id;
	enum err e = check_texts(w, why);

	if (e == ERR_OK)
		e = azure_cloud_find(w->cloud, &cloud, why);
	if (e == ERR_OK)
		e = azure_key_id_parse(&cloud, w->uri, &id, why);
	if (e == ERR_OK && w->identity && azid_conf_check(w->identity, why) != ERR_OK)
		e = ERR_CONFIG; /* damaged or unknown: it comes from the user now, not from a descriptor */
	return e;
}

bool keyops_flag(const json_t *args, const char *name)
{
	return json_is_true(json_object_get(args, name));
}
