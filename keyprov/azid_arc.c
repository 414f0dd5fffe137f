/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid_arc - the managed identity of a server that is connected by Azure Arc.
 *
 * The agent answers on a loopback port, which any process may have taken before it.  So it proves itself, and we prove
 * that we may ask, by a file: it names one in a challenge, only it can write there, and only root and its group can
 * read there.  What we read is sent to whoever named the file; hence the checks, which leave no other file to be named.
 * "Authenticate against Azure resources with Azure Arc-enabled servers".
 */
#include "keyprov/azid_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ENDPOINT "http://127.0.0.1:40342"
#define URL_MAX	 1024

static const struct azid_service arc_service = {
	.who = "the Azure Arc agent of this machine",
	.remedy = "look whether the machine is connected (azcmagent show) and its identity still exists",
};

bool azid_arc_challenge(const char *header, const char *dir, char name[static NAME_MAX + 1])
{
	static const char scheme[] = "Basic realm=";
	size_t dir_len = strlen(dir), len;
	const char *p = header, *base;

	name[0] = '\0';
	if (strncasecmp(p, scheme, sizeof(scheme) - 1) != 0)
		return false;
	p += sizeof(scheme) - 1;
	len = strlen(p);
	if (len >= 2 && p[0] == '"' && p[len - 1] == '"') {
		p++;
		len -= 2;
	}
	if (len <= dir_len + 1 || memcmp(p, dir, dir_len) != 0 || p[dir_len] != '/')
		return false;
	base = p + dir_len + 1;
	len -= dir_len + 1;
	if (len < sizeof(".key") || len > NAME_MAX || base[0] == '.' || memcmp(base + len - 4, ".key", 4) != 0)
		return false;
	for (size_t i = 0; i < len; i++)
		if (base[i] <= ' ' || base[i] >= 0x7f || base[i] == '/' || base[i] == '"')
			return false;
	memcpy(name, base, len);
	name[len] = '\0';
	return true;
}

/* "Basic " and the text of the key file. */
static enum err authorization(const struct azid *a, const char *name, struct secret **out, struct err_why *why)
{
	struct secret *key = NULL;
	size_t len = 0;
	enum err e = azid_file_arc(a, name, &key, why);

	if (e != ERR_OK)
		return e;
	if (!azid_text(key, &len))
		e = err_set(why, ERR_CONFIG, 0,
			"%.300s/%.100s is not a key of the Azure Arc agent: it is no single line"
			" of text",
			a->arc_tokens, name);
	else if (secret_new(6 + len, out) != ERR_OK)
		e = err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (e == ERR_OK) {
		memcpy(secret_bytes(*out), "Basic ", 6);
		memcpy(secret_bytes(*out) + 6, secret_view(key), len);
	}
	secret_free(key);
	return e;
}

/* First leg: the challenge. */
static enum err challenge(struct azid *a, struct http_request *r, const struct azid_want *w, struct azid_try *t,
	struct secret **key, struct err_why *why)
{
	char name[NAME_MAX + 1];
	struct http_answer reply;
	const char *header;
	enum err e = azid_exchange(a, &arc_service, a->plain, r, &reply, w, t, why);

	if (e == ERR_OK && reply.status != 401 && reply.status != 200) {
		struct azid_answer none;

		e = azid_take(a, &arc_service, &reply, w, &none, t, why);
	} else if (e == ERR_OK) {
		header = reply.status == 401 ? http_header(&reply, "WWW-Authenticate", 0) : NULL;
		if (header && azid_arc_challenge(header, a->arc_tokens, name)) {
			e = authorization(a, name, key, why);
			if (e != ERR_OK)
				azid_reason(w->detail, 401, "identity: key file");
		} else {
			/* Whoever it is, it is not the agent. */
			azid_reason(w->detail, reply.status, "identity: no challenge");
			e = err_set(why, ERR_KEY_UNAVAILABLE, 0,
				"no token: %s did not ask for a key file of its own in %.200s", arc_service.who,
				a->arc_tokens);
		}
	}
	http_answer_clear(&reply);
	return e;
}

/* Agents that know only the machine's own identity ignore client_id: no echo, no trust. */
static enum err check_echo(
	const struct azid *a, struct azid_answer *out, const struct azid_want *w, struct err_why *why)
{
	if (!a->spec.client_id[0] || strcmp(out->client_id, a->spec.client_id) == 0)
		return ERR_OK;
	secret_free(out->token);
	out->token = NULL;
	azid_reason(w->detail, 200, "identity: another client_id");
	return err_set(why, ERR_CONFIG, 0,
		"the Azure Arc agent did not confirm that the token belongs to %s; update the agent, or use the"
		" machine's own identity (arc)",
		a->spec.client_id);
}

enum err azid_arc(
	struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	static const char *const headers[] = {"Metadata: true", NULL};
	struct http_request r = {.method = "GET", .headers = headers};
	struct http_answer reply;
	struct secret *key = NULL;
	char url[URL_MAX];
	struct azid_form f;
	enum err e;

	azid_form_init(&f, url, sizeof(url));
	azid_form_text(&f, a->cloud.arc[0] ? a->cloud.arc : ENDPOINT);
	azid_form_text(&f, "/metadata/identity/oauth2/token?api-version=2020-06-01");
	azid_form_add(&f, "resource", w->audience, strlen(w->audience));
	if (a->spec.client_id[0])
		azid_form_add(&f, "client_id", a->spec.client_id, strlen(a->spec.client_id));
	if (f.full)
		return err_set(why, ERR_BUG, 0, "the address of the Azure Arc agent is too long");
	r.url = url;
	e = challenge(a, &r, w, t, &key, why);
	if (e != ERR_OK)
		return e;
	r.authorization = key;
	e = azid_exchange(a, &arc_service, a->plain, &r, &reply, w, t, why);
	if (e == ERR_OK && reply.status == 401) {
		/* It made a new key in between, or it is not the agent. */
		azid_reason(w->detail, 401, "identity: key not taken");
		e = err_set(why, ERR_KEY_UNAVAILABLE, 0, "no token: %s did not take the key that it asked for",
			arc_service.who);
	} else if (e == ERR_OK) {
		e = azid_take(a, &arc_service, &reply, w, out, t, why);
	}
	http_answer_clear(&reply);
	secret_free(key);
	return e == ERR_OK ? check_echo(a, out, w, why) : e;
}
