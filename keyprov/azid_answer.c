/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid_answer - what token services say, taken apart: answers, refusals, the payload of a token.
 *
 * All of it is hostile: metadata services are spoken to without TLS.  Numbers come as numbers or as strings, depending
 * on the service.
 */
#include "crypto/volkeys.h"
#include "keyprov/answer_json.h"
#include "keyprov/azid_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NUMBER_MAX 253402300799LL /* the end of the year 9999 */

static json_t *load(const char *body, size_t len)
{
	json_t *j;

	return answer_json(body, len, JSON_REJECT_DUPLICATES, &j) == ERR_OK ? j : NULL;
}

/* The last byte of a string is wiped with the rest of it when jansson frees: locked memory. */
static const char *text_of(const json_t *j, const char *member, size_t *len)
{
	const json_t *s = json_object_get(j, member);
	const char *p = json_string_value(s);

	*len = p ? json_string_length(s) : 0;
	return p;
}

/* 3599, "3599", 3599.0; false: none, negative, or not a number */
static bool number(const json_t *j, const char *member, long long *out)
{
	const json_t *v = json_object_get(j, member);
	long long n = -1;

	if (json_is_integer(v)) {
		n = json_integer_value(v);
	} else if (json_is_real(v)) {
		double d = json_real_value(v);

		n = d >= 0 && d <= (double)NUMBER_MAX ? (long long)d : -1;
	} else if (json_is_string(v) && json_string_length(v) > 0 && json_string_length(v) <= 12) {
		const char *s = json_string_value(v);

		n = 0;
		for (size_t i = 0; i < json_string_length(v) && n >= 0; i++)
			n = s[i] >= '0' && s[i] <= '9' ? n * 10 + (s[i] - '0') : -1;
	}
	if (n < 0 || n > NUMBER_MAX)
		return false;
	*out = n;
	return true;
}

/* b64token, RFC 6750 section 2.1: nothing that could end a header line */
static bool token_is_plain(const char *s, size_t len)
{
	if (len == 0 || len > AZID_TOKEN_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == ',' || s[i] == '\\')
			return false;
	return true;
}

static enum err nonsense(struct err_why *why, const char *what)
{
	return err_set(why, ERR_CORRUPT, 0, "%s", what);
}

static enum err lifetime(const json_t *j, long long now, struct azid_answer *out, struct err_why *why)
{
	long long n = 0;

	/* Relative first: it does not depend on this machine's clock. */
	if (number(j, "expires_in", &n))
		out->life = n;
	else if (number(j, "expires_on", &n))
		out->life = n - now;
	else
		return nonsense(why, "the answer does not say when the token expires");
	if (out->life <= 0)
		return nonsense(why, "the token has expired already; look at this machine's clock");
	if (out->life > AZID_LIFE_MAX)
		out->life = AZID_LIFE_MAX;
	if (number(j, "refresh_in", &n))
		out->refresh = n > 0 && n < out->life ? n : 0;
	return ERR_OK;
}

enum err azid_answer_parse(
	const char *body, size_t len, const char *member, long long now, struct azid_answer *out, struct err_why *why)
{
	json_t *j = load(body, len);
	size_t token_len = 0, n = 0;
	const char *token, *text;
	enum err e;

	memset(out, 0, sizeof(*out));
	if (!j)
		return nonsense(why, "the answer is not JSON");
	token = text_of(j, member, &token_len);
	text = text_of(j, "token_type", &n);
	if (!token || !token_is_plain(token, token_len))
		e = nonsense(why, "there is no token in the answer");
	else if (text && strcasecmp(text, "Bearer") != 0)
		e = nonsense(why, "the token is not a bearer token");
	else
		e = lifetime(j, now, out, why);
	text = text_of(j, "client_id", &n);
	out->has_client_id = text != NULL;
	if (text)
		(void)azid_guid(text, out->client_id);
	if (e == ERR_OK)
		e = secret_new(7 + token_len, &out->token);
	if (e == ERR_OK) {
		memcpy(secret_bytes(out->token), "Bearer ", 7);
		memcpy(secret_bytes(out->token) + 7, token, token_len);
	} else if (e != ERR_CORRUPT) {
		err_set(why, e, 0, "out of locked memory");
	}
	json_decref(j);
	return e;
}

/* Copies a word of letters, digits and _.-; anything else makes it empty.  So it can be shown and logged. */
static void word(const json_t *j, const char *member, char *out, size_t cap)
{
	size_t len = 0;
	const char *s = text_of(j, member, &len);
	size_t i;

	out[0] = '\0';
	if (!s || len == 0 || len >= cap)
		return;
	for (i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
			    s[i] == '_' || s[i] == '-' || s[i] == '.'))
			return;
	memcpy(out, s, len);
	out[len] = '\0';
}

void azid_refusal_parse(const char *body, size_t len, struct azid_refusal *out)
{
	json_t *j = load(body, len), *code;

	memset(out, 0, sizeof(*out));
	if (!j)
		return;
	word(j, "error", out->error, sizeof(out->error));
	word(j, "trace_id", out->trace, sizeof(out->trace));
	code = json_array_get(json_object_get(j, "error_codes"), 0);
	if (json_is_integer(code) && json_integer_value(code) > 0 && json_integer_value(code) <= 999999999)
		out->code = json_integer_value(code);
	json_decref(j);
}

enum err azid_classify(bool entra, int status, const char *error)
{
	static const char *const later[] = {"temporarily_unavailable", "server_error", "timeout", "slow_down"};

	if (status < 400 || status >= 500 || status == 408 || status == 410 || status == 429)
		return ERR_KEY_UNAVAILABLE;
	/* 404: the metadata service is being updated.  An authority that refuses says so in OAuth's words; whatever
	 * else comes from there is not its answer. */
	if (entra ? error[0] == '\0' : status == 404)
		return ERR_KEY_UNAVAILABLE;
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		if (strcmp(error, later[i]) == 0)
			return ERR_KEY_UNAVAILABLE;
	return ERR_KEY_REVOKED;
}

static void guid_claim(const json_t *j, const char *member, char out[static AZURE_GUID])
{
	size_t len;
	const char *s = text_of(j, member, &len);

	if (!s || !azid_guid(s, out))
		out[0] = '\0';
}

static void claims_take(const json_t *j, struct azid_info *out)
{
	size_t len;
	const char *s;
	long long n = 0;

	guid_claim(j, "oid", out->oid);
	guid_claim(j, "tid", out->tenant);
	guid_claim(j, "appid", out->appid);
	if (!out->appid[0])
		guid_claim(j, "azp", out->appid);
	out->expires = number(j, "exp", &n) ? n : 0;
	s = text_of(j, "xms_mirid", &len);
	out->resource[0] = '\0';
	if (!s || len >= sizeof(out->resource))
		return;
	for (size_t i = 0; i < len; i++)
		if (s[i] < ' ' || s[i] >= 0x7f)
			return;
	memcpy(out->resource, s, len);
	out->resource[len] = '\0';
}

void azid_claims(const char *token, size_t len, struct azid_info *out)
{
	const char *first = memchr(token, '.', len);
	const char *second = first ? memchr(first + 1, '.', len - (size_t)(first + 1 - token)) : NULL;
	size_t in = second ? (size_t)(second - first - 1) : 0, n = 0;
	uint8_t *plain;
	json_t *j = NULL;

	out->oid[0] = out->appid[0] = out->tenant[0] = out->resource[0] = '\0';
	out->expires = 0;
	if (in == 0 || in > AZID_TOKEN_MAX)
		return;
	plain = locked_alloc(in);
	if (plain && b64_decode(first + 1, in, plain, in, &n) == ERR_OK)
		j = load((const char *)plain, n);
	locked_free(plain);
	if (j)
		claims_take(j, out);
	json_decref(j);
}

void azid_location(const char *body, size_t len, char out[static 64])
{
	json_t *j = load(body, len);
	const json_t *compute = json_object_get(j, "compute");

	out[0] = '\0';
	if (j)
		word(compute ? compute : j, "location", out, 64);
	for (size_t i = 0; out[i]; i++)
		if (out[i] >= 'A' && out[i] <= 'Z')
			out[i] = (char)(out[i] - 'A' + 'a');
	json_decref(j);
}
