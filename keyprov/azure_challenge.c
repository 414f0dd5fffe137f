/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azure_challenge - what a 401 asks for: RFC 9110 section 11, RFC 6750 section 3, and Azure's ways with them
 * (parameters parted by spaces; "authorization" or "authorization_uri"; "resource" or "scope").
 *
 * Hostile input, of any length.  From all of it only a tenant and claims are ever used; the resource is compared.
 */
#include "keyprov/azure.h"
#include "keyprov/azure_internal.h"
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VALUE_MAX 4096u /* of one parameter; claims are the longest */

struct params {
	char authorization[512], resource[128], scope[128], error[64];
	char claims[VALUE_MAX];
	bool has_authorization, has_resource, has_scope, has_error, has_claims;
};

static bool is_tchar(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip(const char *p, const char *set)
{
	return p + strspn(p, set);
}

/* A token, or anything up to the next separator; a quoted string with its escapes taken out.  NULL: not closed, or
 * longer than cap. */
static const char *take_value(const char *p, char *out, size_t cap)
{
	size_t n = 0;
	bool quoted = *p == '"';

	if (quoted)
		p++;
	while (*p && (quoted ? *p != '"' : !strchr(" \t,", *p))) {
		if (quoted && *p == '\\' && p[1])
			p++;
		if (n + 1 >= cap)
			return NULL;
		out[n++] = *p++;
	}
	out[n] = '\0';
	if (!quoted)
		return p;
	return *p == '"' ? p + 1 : NULL;
}

static bool keep(const char *value, char *out, size_t cap, bool *has)
{
	size_t len = strlen(value);

	if (*has || len >= cap) /* two of a kind: nobody can tell which one counts */
		return false;
	memcpy(out, value, len + 1);
	*has = true;
	return true;
}

static bool keep_param(struct params *all, const char *name, const char *value)
{
	if (strcasecmp(name, "authorization") == 0 || strcasecmp(name, "authorization_uri") == 0)
		return keep(value, all->authorization, sizeof(all->authorization), &all->has_authorization);
	if (strcasecmp(name, "resource") == 0)
		return keep(value, all->resource, sizeof(all->resource), &all->has_resource);
	if (strcasecmp(name, "scope") == 0)
		return keep(value, all->scope, sizeof(all->scope), &all->has_scope);
	if (strcasecmp(name, "error") == 0)
		return keep(value, all->error, sizeof(all->error), &all->has_error);
	if (strcasecmp(name, "claims") == 0)
		return keep(value, all->claims, sizeof(all->claims), &all->has_claims);
	return true;
}

/* Parameters of the first Bearer challenge. */
static bool scan(const char *p, struct params *all)
{
	char name[64], value[VALUE_MAX];
	bool bearer = false;

	for (;;) {
		const char *after;
		size_t len = 0;

		p = skip(p, " \t,");
		if (*p == '\0')
			return bearer;
		while (is_tchar(p[len]))
			len++;
		if (len == 0 || len >= sizeof(name))
			return false;
		memcpy(name, p, len);
		name[len] = '\0';
		after = skip(p + len, " \t");
		if (*after != '=') { /* the scheme of a challenge */
			if (bearer)
				return true;
			bearer = strcasecmp(name, "Bearer") == 0;
			p += len;
			continue;
		}
		after = skip(after + 1, " \t");
		if (*after == '=' || *after == '\0' || *after == ',') { /* the padding of a token68 */
			p = skip(after, "=");
			continue;
		}
		p = take_value(after, value, sizeof(value));
		if (!p || (bearer && !keep_param(all, name, value)))
			return false;
	}
}

/* The first segment of the path, or the one behind "dstsv2", if it is a GUID. */
static void take_tenant(const char *url, char out[static AZURE_GUID])
{
	const char *p = strstr(url, "://");
	size_t len;

	p = p ? strchr(p + 3, '/') : NULL;
	if (!p)
		return;
	len = strcspn(++p, "/?#");
	if (len == 6 && strncasecmp(p, "dstsv2", 6) == 0 && p[len] == '/') {
		p += len + 1;
		len = strcspn(p, "/?#");
	}
	if (!azure_guid(p, len, out))
		out[0] = '\0';
}

static bool take_resource(const struct params *all, char *out, size_t cap)
{
	static const char tail[] = "/.default";
	const char *text = all->has_scope ? all->scope : all->resource;
	size_t len = strlen(text);

	if (all->has_scope && len >= sizeof(tail) && strcmp(text + len - (sizeof(tail) - 1), tail) == 0)
		len -= sizeof(tail) - 1;
	if (len > 0 && text[len - 1] == '/')
		len--;
	if (len >= cap)
		return false;
	memcpy(out, text, len);
	out[len] = '\0';
	return true;
}

/* Base64 of either alphabet, padded or not; only a JSON object is passed on. */
static void take_claims(const char *text, char *out, size_t cap)
{
	static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_URLSAFE,
		sodium_base64_VARIANT_ORIGINAL_NO_PADDING, sodium_base64_VARIANT_URLSAFE_NO_PADDING};
	size_t len = 0;
	json_t *j;

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		if (sodium_base642bin(
			    (unsigned char *)out, cap - 1, text, strlen(text), NULL, &len, NULL, variants[i]) == 0)
			break;
		len = 0;
	}
	out[len] = '\0';
	j = len > 0 ? json_loadb(out, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!json_is_object(j) || strlen(out) != len)
		out[0] = '\0';
	json_decref(j);
}

enum err azure_challenge_parse(const char *header, struct azure_challenge *out)
{
	struct params all = {0};

	memset(out, 0, sizeof(*out));
	if (!scan(header, &all) || !take_resource(&all, out->resource, sizeof(out->resource))) {
		memset(out, 0, sizeof(*out));
		return ERR_CORRUPT;
	}
	take_tenant(all.authorization, out->tenant);
	if (strcmp(all.error, "insufficient_claims") == 0)
		take_claims(all.claims, out->claims, sizeof(out->claims));
	for (char *c = out->resource; *c; c++) /* it will be shown */
		if (*c < 0x21 || *c > 0x7e)
			*c = '?';
	return ERR_OK;
}

enum err azure_challenge_check(const struct azure_challenge *ch, const struct azure_cloud *c,
	const struct azure_key_id *id, struct err_why *why)
{
	const char *want = id->hsm ? c->hsm_audience : c->vault_audience;

	/* A demand for more claims does not repeat the resource. */
	if (strcasecmp(ch->resource, want) == 0 || (ch->resource[0] == '\0' && ch->claims[0]))
		return ERR_OK;
	return err_set(why, ERR_CORRUPT, 0,
		"%s asks for a token for %s, but tokens for %s are all it gets: it was sent none; is it really a "
		"vault?",
		id->host, ch->resource[0] ? ch->resource : "nothing in particular", want);
}
