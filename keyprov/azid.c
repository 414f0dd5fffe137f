/* SPDX-License-Identifier: Apache-2.0 */
/* azid - see azid.h: opening, the tokens that are kept, and when they are renewed. */
#include "keyprov/azid_internal.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_MS     5000
#define LOCAL_MS       2000  /* to connect to a metadata service */
#define SPARE_MS       30000 /* a token is not used in its last seconds */
#define RENEW_AGAIN_MS 30000 /* after a renewal that failed, while the old token serves */

/* The time since boot counts suspends; no clock that can be set plays a part in how old a token is. */
int64_t azid_boottime(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static long long wall_seconds(void)
{
	return (long long)time(NULL);
}

static void pause_ms(struct azid *a, int64_t ms)
{
	int64_t end = a->now() + ms;

	for (int64_t left = ms; left > 0; left = end - a->now()) {
		struct pollfd p = {.fd = a->stop, .events = POLLIN};

		if (poll(&p, 1, left < 60000 ? (int)left : 60000) > 0)
			return;
	}
}

static enum err pools_open(struct azid *a, struct err_why *why)
{
	const struct http_config plain = {.fips = a->fips, .plain = true, .connect_ms = LOCAL_MS};
	const struct http_config tls = {
		.fips = a->fips, .ca_file = a->cloud.ca_file[0] ? a->cloud.ca_file : NULL, .connect_ms = CONNECT_MS};
	enum err e = http_open(&plain, &a->plain, why);

	return e == ERR_OK ? http_open(&tls, &a->tls, why) : e;
}

enum err azid_open(const struct fips *f, const struct azure_cloud *c, const json_t *conf, bool allow_cli,
	struct azid **out, struct err_why *why)
{
	struct azid *a = calloc(1, sizeof(*a));
	enum err e;

	*out = NULL;
	if (!a)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	a->fips = f;
	a->cloud = *c;
	a->now = azid_boottime;
	a->wall = wall_seconds;
	a->pause = pause_ms;
	a->arc_tokens = "/var/opt/azcmagent/tokens";
	a->arc_agent = "/opt/azcmagent/bin/himds";
	a->arc_user = "himds";
	a->cli = "az";
	a->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e = azid_spec_parse(conf, &a->spec, why);
	a->kind = a->spec.kind;
	if (e == ERR_OK && a->stop < 0)
		e = err_set(why, ERR_IO, errno, "can't make an eventfd: %s", strerror(errno));
	if (e == ERR_OK && a->kind == AZID_CLI && !allow_cli)
		e = err_set(why, ERR_CONFIG, 0,
			"the Azure CLI's identity is for commands only: it ends when somebody logs out; choose another"
			" one for this volume (key set --identity)");
	if (e == ERR_OK)
		e = pools_open(a, why);
	if (e != ERR_OK) {
		azid_close(a);
		return e;
	}
	*out = a;
	return ERR_OK;
}

void azid_close(struct azid *a)
{
	if (!a)
		return;
	azid_forget(a);
	http_close(a->plain);
	http_close(a->tls);
	if (a->stop >= 0)
		close(a->stop);
	free(a);
}

void azid_abort(struct azid *a)
{
	const uint64_t one = 1;

	if (write(a->stop, &one, sizeof(one)) < 0) {
		/* It is full, so it can be read: all that is wanted. */
	}
	http_abort(a->plain);
	http_abort(a->tls);
}

bool azid_aborted(const struct azid *a)
{
	struct pollfd p = {.fd = a->stop, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

void azid_set_limits(struct azid *a, unsigned attempts, unsigned deadline_ms)
{
	a->attempts = attempts;
	a->deadline_ms = deadline_ms;
}

static void drop(struct azid_entry *n)
{
	secret_free(n->token);
	memset(n, 0, sizeof(*n));
}

void azid_forget(struct azid *a)
{
	for (size_t i = 0; i < sizeof(a->entry) / sizeof(a->entry[0]); i++)
		drop(&a->entry[i]);
}

/* The audience's, or one to be used for it: empty, or the one that expires first. */
static struct azid_entry *find(struct azid *a, const struct azid_want *w)
{
	struct azid_entry *best = &a->entry[0];

	for (size_t i = 0; i < sizeof(a->entry) / sizeof(a->entry[0]); i++) {
		struct azid_entry *n = &a->entry[i];

		if (n->token && strcmp(n->audience, w->audience) == 0 && strcmp(n->tenant, w->tenant) == 0)
			return n;
		if (!n->token || (best->token && n->expires < best->expires))
			best = n;
	}
	drop(best);
	return best;
}

/* start: before the token was asked for, so that the answer's way does not make it younger */
static void keep(
	struct azid *a, struct azid_entry *n, const struct azid_want *w, struct azid_answer *reply, int64_t start)
{
	int64_t renew = reply->life > 2 * AZID_RENEW_AHEAD ? reply->life - AZID_RENEW_AHEAD : reply->life / 2;
	int64_t spare = reply->life * 100 < SPARE_MS ? reply->life * 100 : SPARE_MS; /* at most a tenth of its life */

	if (reply->refresh > 0 && reply->refresh < renew)
		renew = reply->refresh;
	if (renew > AZID_RENEW_AFTER)
		renew = AZID_RENEW_AFTER;
	drop(n);
	snprintf(n->audience, sizeof(n->audience), "%s", w->audience);
	snprintf(n->tenant, sizeof(n->tenant), "%s", w->tenant);
	n->token = reply->token;
	n->renew = start + renew * 1000;
	n->expires = start + reply->life * 1000 - spare;
	azid_claims((const char *)secret_view(n->token), secret_len(n->token), &a->info);
	snprintf(a->info.kind, sizeof(a->info.kind), "%s", azid_kind_text(a->kind));
	a->has_info = true;
}

static void tell_who(const struct azid *a, struct keyprov_detail *d)
{
	snprintf(d->tenant, sizeof(d->tenant), "%s", a->info.tenant);
	snprintf(d->oid, sizeof(d->oid), "%s", a->info.oid);
	snprintf(d->appid, sizeof(d->appid), "%s", a->info.appid);
}

/* The old token, if there is one that still serves, is kept when nobody can tell whether there would be a new one. */
static enum err renew(struct azid *a, struct azid_entry *n, const struct azid_want *w, struct err_why *why)
{
	bool serves = n->token && !w->claims && a->now() < n->expires;
	unsigned attempts = a->attempts;
	struct azid_answer reply;
	int64_t start = a->now(), budget = a->deadline_ms ? a->deadline_ms : AZID_DEADLINE_MS;
	enum err e;

	/* While the old token serves, the caller's time is for what he wants it for. */
	if (serves) {
		a->attempts = 1;
		budget = budget / 2 < AZID_AHEAD_MS ? budget / 2 : AZID_AHEAD_MS;
	}
	a->deadline = start + budget;
	e = azid_ask(a, w, &reply, why);
	a->attempts = attempts;
	if (e == ERR_OK) {
		keep(a, n, w, &reply, start);
		return ERR_OK;
	}
	if (serves && (e == ERR_KEY_UNAVAILABLE || e == ERR_NOMEM)) {
		n->renew = a->now() + RENEW_AGAIN_MS;
		if (why)
			memset(why, 0, sizeof(*why));
		return ERR_OK;
	}
	drop(n);
	return e;
}

enum err azid_token(struct azid *a, const char *audience, const char *tenant, const char *claims,
	const struct secret **token, struct keyprov_detail *detail, struct err_why *why)
{
	struct keyprov_detail local;
	char guid[AZURE_GUID];
	/* Only the CLI's tokens depend on the vault's tenant; the others have one of their own. */
	struct azid_want w = {.audience = audience,
		.tenant = a->kind == AZID_CLI && tenant && azid_guid(tenant, guid) ? guid : "",
		.claims = claims,
		.detail = &local};
	struct azid_entry *n;
	enum err e = ERR_OK;

	*token = NULL;
	memset(&local, 0, sizeof(local));
	if (strlen(audience) >= sizeof(n->audience))
		return err_set(why, ERR_BUG, 0, "the audience of the token is too long");
	if (a->kind == AZID_AUTO)
		e = azid_detect(a, &a->kind, why);
	if (e != ERR_OK)
		return e;
	n = find(a, &w);
	if (!n->token || claims || a->now() >= n->renew)
		e = renew(a, n, &w, why);
	if (e == ERR_OK) {
		*token = n->token;
		if (detail)
			tell_who(a, detail);
		return ERR_OK;
	}
	if (detail) {
		snprintf(detail->reason, sizeof(detail->reason), "%s", local.reason);
		detail->http_status = local.http_status;
		snprintf(detail->request_id, sizeof(detail->request_id), "%s", local.request_id);
		snprintf(detail->client_request_id, sizeof(detail->client_request_id), "%s", local.client_request_id);
	}
	return e;
}

enum err azid_info_get(const struct azid *a, struct azid_info *out)
{
	if (!a->has_info)
		return ERR_NOT_FOUND;
	*out = a->info;
	return ERR_OK;
}
