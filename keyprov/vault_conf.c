/* SPDX-License-Identifier: Apache-2.0 */
/* vault_conf - the provider object, checked as the hostile text it is.  Pure. */
#include "keyprov/azure_internal.h"
#include "keyprov/vault.h"
#include <stdint.h>
#include <string.h>

static bool is_source(const char *s)
{
	return strcmp(s, "vault") == 0 || strcmp(s, "managed-hsm") == 0;
}

static bool is_cloud(const char *s)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len >= 1 && len <= 31 && s[len] == '\0' && s[0] != '-';
}

/* Whose vault it is depends on the cloud, which may be a file: the provider looks at that. */
static bool is_uri(const char *s)
{
	size_t len = strnlen(s, AZURE_URI_MAX);

	if (len >= AZURE_URI_MAX || strncmp(s, "https://", 8) != 0)
		return false;
	return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:/")] == '\0';
}

static bool is_guid(const char *s)
{
	char guid[AZURE_GUID];

	return azure_guid(s, strlen(s), guid);
}

static bool is_region(const char *s)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");

	return len <= 63 && s[len] == '\0';
}

static bool is_algorithm(const char *s)
{
	return strcmp(s, "RSA-OAEP-256") == 0 || strcmp(s, "A256KW") == 0;
}

static bool is_policy(const char *s)
{
	return strcmp(s, "revoke") == 0 || strcmp(s, "allow") == 0;
}

static bool is_hex_id(const char *s)
{
	return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

static const struct text_member {
	const char *name;
	bool (*check)(const char *s);
	bool required;
} texts[] = {
	{"source", is_source, true}, {"cloud", is_cloud, true}, {"uri", is_uri, true}, {"tenant", is_guid, true},
	{"region", is_region, true}, {"algorithm", is_algorithm, true}, {"api_version", akv_api_version, true},
	{"expired", is_policy, true}, {"volume", is_hex_id, false}, /* not stored; comes from volume.c */
};

static const struct number_member {
	const char *name;
	json_int_t min, max;
} numbers[] = {
	{"probe_seconds", 1, VAULT_PROBE_MAX},
	{"lease_seconds", 0, VAULT_LEASE_MAX},
};

#define N_TEXTS	  (sizeof(texts) / sizeof(texts[0]))
#define N_NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static bool known(const char *name)
{
	for (size_t i = 0; i < N_TEXTS; i++)
		if (strcmp(name, texts[i].name) == 0)
			return true;
	for (size_t i = 0; i < N_NUMBERS; i++)
		if (strcmp(name, numbers[i].name) == 0)
			return true;
	return strcmp(name, "identity") == 0;
}

static enum err damaged(struct err_why *why, const char *member)
{
	return err_set(
		why, ERR_CORRUPT, 0, "the description of the customer's key is damaged: bad or missing %s", member);
}

enum err vault_conf_check(const json_t *conf, struct err_why *why)
{
	/* the iterator takes a json_t that is not const, and only reads */
	json_t *j = (json_t *)(uintptr_t)conf;

	if (!json_is_object(conf))
		return damaged(why, "object");
	for (void *at = json_object_iter(j); at; at = json_object_iter_next(j, at))
		if (!known(json_object_iter_key(at)))
			return err_set(why, ERR_UNSUPPORTED, 0,
				"this program does not know %.32s in the description of the customer's key",
				json_object_iter_key(at));
	for (size_t i = 0; i < N_TEXTS; i++) {
		const json_t *value = json_object_get(conf, texts[i].name);
		const char *text = json_string_value(value);

		if (!value && !texts[i].required)
			continue;
		if (!text || strlen(text) != json_string_length(value) || !texts[i].check(text))
			return damaged(why, texts[i].name);
	}
	for (size_t i = 0; i < N_NUMBERS; i++) {
		const json_t *value = json_object_get(conf, numbers[i].name);

		if (!json_is_integer(value) || json_integer_value(value) < numbers[i].min ||
			json_integer_value(value) > numbers[i].max)
			return damaged(why, numbers[i].name);
	}
	return azid_conf_check(json_object_get(conf, "identity"), why);
}
