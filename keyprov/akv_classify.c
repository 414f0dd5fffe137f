/* SPDX-License-Identifier: Apache-2.0 */
/*
 * akv_classify - what an answer of a vault means: the one place that decides between "no" and "not now".
 *
 * Decided by status, code and inner code; never by the message, but for the three AKV numbers that are told nowhere
 * else.  The table is in PROVIDERS.md section 9.  Unknown answers of a reachable vault are "no".
 */
#include "keyprov/akv.h"
#include "keyprov/answer_json.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define INNER_DEPTH 8 /* nested innererror objects that are looked at */

static enum akv_class classify_401(const struct akv_answer *a)
{
	/* The vault could not fetch the keys that tokens are signed with, or its clock is behind: hits good tokens. */
	if (a->signing_key)
		return AKV_TRANSIENT;
	if (!a->again)
		return AKV_REAUTH;
	/* The audience is the cloud's: a profile that is wrong, not a customer who says no. */
	return a->audience ? AKV_MISTAKE : AKV_DENIED;
}

enum akv_class akv_classify(const struct akv_answer *a)
{
	if (a->outcome != HTTP_ANSWERED)
		return AKV_TRANSIENT;
	switch (a->status) {
	case 400:
	case 409:
		return AKV_MISTAKE;
	case 401:
		return classify_401(a);
	case 403:
		if (strcmp(a->inner, "ForbiddenByFirewall") == 0 || strcmp(a->inner, "ForbiddenByConnection") == 0)
			return AKV_DENIED_NETWORK;
		return AKV_DENIED;
	case 408:
	case 429:
		return AKV_TRANSIENT;
	default:
		break;
	}
	if (a->status >= 200 && a->status < 300)
		return AKV_OK;
	/* A vault never redirects: that is somebody else's doing. */
	return a->status >= 400 && a->status < 500 ? AKV_DENIED : AKV_TRANSIENT;
}

/* Codes are words; anything else is left out. */
static void take_code(const json_t *error, char *out, size_t cap)
{
	const char *text = json_string_value(json_object_get(error, "code"));
	size_t len = text ? strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") : 0;

	out[0] = '\0';
	if (len > 0 && len < cap && text[len] == '\0')
		memcpy(out, text, len + 1);
}

/* "innererror", as one client library has it also "innerError". */
static const json_t *inner_of(const json_t *error)
{
	const json_t *inner = json_object_get(error, "innererror");

	return inner ? inner : json_object_get(error, "innerError");
}

static bool has_words(const char *text, const char *words)
{
	size_t len = strlen(words);

	for (; *text; text++)
		if (strncasecmp(text, words, len) == 0)
			return true;
	return false;
}

void akv_answer_parse(const char *body, size_t len, struct akv_answer *a)
{
	json_t *j = NULL;
	const json_t *error, *inner;
	const char *message;
	char code[64];

	if (answer_json(body, len, 0, &j) != ERR_OK)
		j = NULL;
	error = json_object_get(j, "error");
	inner = inner_of(error);
	message = json_string_value(json_object_get(error, "message"));
	a->code[0] = '\0';
	a->inner[0] = '\0';
	take_code(error, a->code, sizeof(a->code));
	for (int depth = 0; json_is_object(inner) && depth < INNER_DEPTH; depth++, inner = inner_of(inner)) {
		take_code(inner, code, sizeof(code));
		if (code[0])
			snprintf(a->inner, sizeof(a->inner), "%s", code);
	}
	a->audience = message && strncmp(message, "AKV10022", 8) == 0;
	a->issuer = message && strncmp(message, "AKV10032", 8) == 0;
	a->signing_key = message && (has_words(message, "AKV10046") || has_words(message, "not yet valid") ||
					    has_words(message, "not valid yet"));
	json_decref(j);
}
