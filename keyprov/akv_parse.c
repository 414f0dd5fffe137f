/* SPDX-License-Identifier: Apache-2.0 */
/* akv_parse - a vault's answers taken apart.  Whatever comes in, what goes out is of the key that was asked for. */
#include "crypto/volkeys.h"
#include "keyprov/akv_internal.h"
#include "keyprov/answer_json.h"
#include "keyprov/azure_internal.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TIME_MAX    253402300799LL /* the year 9999 */
#define MODULUS_MAX 2048u	   /* bytes */

static enum err load(const char *body, size_t len, json_t **out)
{
	return answer_json(body, len, JSON_REJECT_DUPLICATES, out);
}

/* The identifier of a key of this vault; as we write it, not as it came. */
static enum err take_kid(const struct azure_cloud *c, const struct azure_key_id *want, const json_t *value,
	struct azure_key_id *id, char out[static AZURE_URI_MAX])
{
	const char *text = json_string_value(value);

	if (!text || azure_key_id_parse(c, text, id, NULL) != ERR_OK || strcmp(id->host, want->host) != 0)
		return ERR_CORRUPT;
	/* Names are not case sensitive; versions are, as far as anybody knows. */
	if (want->name[0] && strcasecmp(id->name, want->name) != 0)
		return ERR_CORRUPT;
	if (want->version[0] && strcmp(id->version, want->version) != 0)
		return ERR_CORRUPT;
	azure_key_id_format(id, true, out);
	return ERR_OK;
}

static bool take_time(const json_t *attributes, const char *name, time_t *out)
{
	const json_t *value = json_object_get(attributes, name);
	json_int_t t = json_integer_value(value);

	if (!value || json_is_null(value))
		return true;
	if (!json_is_integer(value) || t < 0 || t > TIME_MAX)
		return false;
	*out = (time_t)t;
	return true;
}

static bool starts_with(const char *s, const char *start)
{
	return strncmp(s, start, strlen(start)) == 0;
}

static bool take_attributes(const json_t *attributes, struct akv_key *out)
{
	const json_t *enabled = json_object_get(attributes, "enabled");
	const char *level = json_string_value(json_object_get(attributes, "recoveryLevel"));

	if (attributes && !json_is_object(attributes))
		return false;
	if (enabled && !json_is_boolean(enabled))
		return false;
	out->enabled = !enabled || json_is_true(enabled);
	if (!take_time(attributes, "nbf", &out->not_before) || !take_time(attributes, "exp", &out->expires) ||
		!take_time(attributes, "created", &out->created))
		return false;
	if (!level || strlen(level) >= sizeof(out->recovery_level))
		return !level;
	if (level[strspn(level, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+")] != '\0')
		return false;
	snprintf(out->recovery_level, sizeof(out->recovery_level), "%s", level);
	out->soft_delete = starts_with(level, "Recoverable") || starts_with(level, "CustomizedRecoverable");
	out->purge_protection = out->soft_delete && !strstr(level, "Purgeable");
	return true;
}

/* "n": the length of the number, leading zeros left out. */
static bool take_bits(const json_t *n, unsigned *bits)
{
	uint8_t modulus[MODULUS_MAX];
	size_t len = 0, i = 0;

	if (!json_is_string(n) || json_string_length(n) > b64_len(sizeof(modulus)) ||
		b64_decode(json_string_value(n), json_string_length(n), modulus, sizeof(modulus), &len) != ERR_OK)
		return false;
	while (i < len && modulus[i] == 0)
		i++;
	*bits = i < len ? (unsigned)(len - i) * 8 - (unsigned)__builtin_clz(modulus[i]) + 24 : 0;
	return true;
}

static bool take_kind(const json_t *key, struct akv_key *out)
{
	const char *kty = json_string_value(json_object_get(key, "kty"));
	const json_t *size = json_object_get(key, "key_size");

	if (!kty || strlen(kty) >= sizeof(out->kty) ||
		kty[strspn(kty, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")] != '\0')
		return false;
	snprintf(out->kty, sizeof(out->kty), "%s", kty);
	if (strcmp(kty, "RSA") == 0)
		out->kind = AKV_RSA;
	else if (strcmp(kty, "RSA-HSM") == 0)
		out->kind = AKV_RSA_HSM;
	else if (strcmp(kty, "oct-HSM") == 0)
		out->kind = AKV_OCT_HSM;
	if (out->kind == AKV_RSA || out->kind == AKV_RSA_HSM)
		return take_bits(json_object_get(key, "n"), &out->bits);
	if (json_is_integer(size) && json_integer_value(size) > 0 && json_integer_value(size) <= 65536)
		out->bits = (unsigned)json_integer_value(size);
	return true;
}

static bool take_ops(const json_t *ops, struct akv_key *out)
{
	const json_t *value;
	size_t i;

	out->has_ops = json_is_array(ops);
	out->can_wrap = !out->has_ops;
	out->can_unwrap = !out->has_ops;
	if (!out->has_ops)
		return !ops || json_is_null(ops);
	json_array_foreach(ops, i, value)
	{
		const char *op = json_string_value(value);

		if (!op)
			return false;
		out->can_wrap |= strcmp(op, "wrapKey") == 0;
		out->can_unwrap |= strcmp(op, "unwrapKey") == 0;
	}
	return true;
}

enum err akv_bundle_parse(
	const struct azure_cloud *c, const struct azure_key_id *want, const char *body, size_t len, struct akv_key *out)
{
	struct azure_key_id id;
	const json_t *key;
	json_t *j;
	enum err e = load(body, len, &j);

	memset(out, 0, sizeof(*out));
	if (e != ERR_OK)
		return e;
	key = json_object_get(j, "key");
	e = take_kid(c, want, json_object_get(key, "kid"), &id, out->kid);
	if (e == ERR_OK &&
		(id.version[0] == '\0' || !take_kind(key, out) || !take_ops(json_object_get(key, "key_ops"), out) ||
			!take_attributes(json_object_get(j, "attributes"), out)))
		e = ERR_CORRUPT;
	json_decref(j);
	if (e != ERR_OK)
		memset(out, 0, sizeof(*out));
	return e;
}

/* Path and query of the next page: it has to be of this vault, and is asked for there and nowhere else. */
static enum err take_next(const struct azure_cloud *c, const struct azure_key_id *vault, const json_t *link,
	char next[static AKV_NEXT_MAX])
{
	const char *text = json_string_value(link), *rest = NULL;
	struct azure_key_id id;

	next[0] = '\0';
	if (!link || json_is_null(link) || (text && text[0] == '\0'))
		return ERR_OK;
	if (!text || azure_base_parse(c, text, &id, &rest, NULL) != ERR_OK || strcmp(id.host, vault->host) != 0)
		return ERR_CORRUPT;
	if (!starts_with(rest, "/keys?") || strlen(rest) >= AKV_NEXT_MAX)
		return ERR_CORRUPT;
	for (const char *p = rest; *p; p++)
		if (*p <= 0x20 || *p > 0x7e || *p == '#')
			return ERR_CORRUPT;
	snprintf(next, AKV_NEXT_MAX, "%s", rest);
	return ERR_OK;
}

enum err akv_list_parse(const struct azure_cloud *c, const struct azure_key_id *vault, const char *body, size_t len,
	struct akv_key *out, size_t max, size_t *n, char next[static AKV_NEXT_MAX])
{
	struct azure_key_id any = *vault, id;
	const json_t *items, *item;
	json_t *j;
	size_t i;
	enum err e = load(body, len, &j);

	*n = 0;
	next[0] = '\0';
	if (e != ERR_OK)
		return e;
	any.name[0] = '\0';
	any.version[0] = '\0';
	items = json_object_get(j, "value");
	if (!json_is_array(items) && !json_is_null(items))
		e = ERR_CORRUPT;
	json_array_foreach(items, i, item)
	{
		if (e != ERR_OK)
			break;
		if (*n == max) {
			e = ERR_RANGE;
			break;
		}
		memset(&out[*n], 0, sizeof(out[*n]));
		e = take_kid(c, &any, json_object_get(item, "kid"), &id, out[*n].kid);
		if (e == ERR_OK && !take_attributes(json_object_get(item, "attributes"), &out[*n]))
			e = ERR_CORRUPT;
		*n += e == ERR_OK;
	}
	if (e == ERR_OK)
		e = take_next(c, vault, json_object_get(j, "nextLink"), next);
	json_decref(j);
	return e;
}

enum err akv_value_parse(const struct azure_cloud *c, const struct azure_key_id *want, const char *body, size_t len,
	char kid[static AZURE_URI_MAX], uint8_t *out, size_t cap, size_t *out_len)
{
	struct azure_key_id id;
	const json_t *value;
	json_t *j;
	enum err e = load(body, len, &j);

	kid[0] = '\0';
	*out_len = 0;
	if (e != ERR_OK)
		return e;
	e = take_kid(c, want, json_object_get(j, "kid"), &id, kid);
	value = json_object_get(j, "value");
	if (e == ERR_OK &&
		(id.version[0] == '\0' || !json_is_string(value) || json_string_length(value) == 0 ||
			json_string_length(value) > b64_len(cap) ||
			b64_decode(json_string_value(value), json_string_length(value), out, cap, out_len) != ERR_OK))
		e = ERR_CORRUPT;
	json_decref(j);
	if (e != ERR_OK) {
		secret_wipe(out, cap);
		*out_len = 0;
	}
	return e;
}
