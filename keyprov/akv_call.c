/* SPDX-License-Identifier: Apache-2.0 */
/*
 * akv_call - one call to a vault: a token, what a 401 asks for, and patience with answers that say nothing.
 *
 * A token goes to the host of the configuration and to no other: there are no redirects, the audience is the cloud's,
 * and a challenge for something else ends the call.
 */
#include "keyprov/akv_internal.h"
#include "keyprov/azure_internal.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXCHANGE_MS   10000 /* one attempt, unless less is left */
#define WAIT_MAX_MS   32000 /* whatever Retry-After says */
#define FEW_ATTEMPTS  2	    /* where another attempt rarely helps, and a person may be waiting */
#define CHALLENGE_MAX 4	    /* WWW-Authenticate headers looked at */

struct run { /* one public call */
	int64_t deadline;
	unsigned attempts; /* made so far, of the present request */
	bool again;	   /* the token was asked for because of a 401 */
	char claims[sizeof(((struct azure_challenge *)0)->claims)];
};

/* Time spent suspended counts: the deadline is for the world's patience. */
static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- one exchange ---- */

static enum err new_id(struct akv *a, struct err_why *why)
{
	uint8_t b[16];

	if (fips_random(a->fips, b, sizeof(b)) != ERR_OK)
		return err_set(why, ERR_FIPS, 0, "the FIPS provider gave no random bytes");
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562 section 5.4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(a->detail.client_request_id, sizeof(a->detail.client_request_id),
		"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
		b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	return ERR_OK;
}

/* Words of a header that will be shown and logged. */
static void take_header(const struct http_answer *said, const char *name, char *out, size_t cap)
{
	const char *text = http_header(said, name, 0);
	size_t n = text ? strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") : 0;

	if (n > 0 && n < cap && text[n] == '\0')
		snprintf(out, cap, "%s", text);
}

static enum err exchange(struct akv *a, const struct akv_call *c, const struct run *r, const struct secret *token,
	struct http_answer *out, struct akv_answer *said, struct err_why *why)
{
	char id[80];
	const char *const headers[] = {"Accept: application/json", "x-ms-return-client-request-id: true", id, NULL};
	int64_t left = r->deadline - now_ms();
	const struct http_request request = {.method = c->method,
		.url = c->url,
		.headers = headers,
		.authorization = token,
		.content_type = c->body ? "application/json" : NULL,
		.body = c->body,
		.body_len = c->body_len,
		.fresh = c->fresh,
		.total_ms = left < 1		 ? 1
			    : left < EXCHANGE_MS ? (unsigned)left
						 : EXCHANGE_MS};
	enum err e = new_id(a, why);

	memset(out, 0, sizeof(*out));
	memset(said, 0, sizeof(*said));
	if (e != ERR_OK)
		return e;
	snprintf(id, sizeof(id), "x-ms-client-request-id: %s", a->detail.client_request_id);
	e = http_do(a->http, &request, out);
	if (e != ERR_OK)
		return err_set(why, e, 0, "the request to %s could not be made: %s", a->id.host, err_text(e));
	said->outcome = out->outcome;
	said->status = out->status;
	said->again = r->again;
	a->detail.http_status = out->status;
	a->detail.request_id[0] = '\0';
	if (out->outcome != HTTP_ANSWERED)
		return ERR_OK;
	take_header(out, "x-ms-request-id", a->detail.request_id, sizeof(a->detail.request_id));
	take_header(out, "x-ms-keyvault-region", a->region, sizeof(a->region));
	snprintf(a->detail.region, sizeof(a->detail.region), "%s", a->region);
	if (out->status >= 400)
		akv_answer_parse(out->body, out->body_len, said);
	return ERR_OK;
}

/* ---- patience ---- */

static int64_t retry_after(const struct http_answer *out)
{
	const char *text = out->outcome == HTTP_ANSWERED ? http_header(out, "Retry-After", 0) : NULL;
	size_t len = text ? strspn(text, "0123456789") : 0;

	if (len == 0 || len > 6 || text[len] != '\0') /* a date is not worth trusting two clocks for */
		return -1;
	return strtoll(text, NULL, 10) * 1000;
}

static int64_t backoff(const struct akv *a, unsigned attempts)
{
	int64_t ms = (int64_t)a->backoff_ms << (attempts - 1 < 4 ? attempts - 1 : 4);
	uint8_t dice = 0;

	/* Mounts that were throttled together shall not come back together. */
	if (fips_random(a->fips, &dice, 1) != ERR_OK)
		dice = 0;
	return ms + ms * dice / 1024;
}

/* Waits until the request may be made again; false if it may not, or not within the deadline. */
static bool wait_again(const struct akv *a, struct run *r, const struct akv_answer *said, const struct http_answer *out)
{
	bool rarely = said->outcome == HTTP_DNS || said->outcome == HTTP_CONNECT || said->outcome == HTTP_TLS ||
		      said->outcome == HTTP_TOO_LARGE;
	unsigned most = rarely && a->attempts > FEW_ATTEMPTS ? FEW_ATTEMPTS : a->attempts;
	struct pollfd stop = {.fd = a->stop, .events = POLLIN};
	int64_t ms = retry_after(out), end;

	if (said->outcome == HTTP_ABORTED || ++r->attempts >= most)
		return false;
	if (ms < 0)
		ms = backoff(a, r->attempts);
	if (ms > WAIT_MAX_MS)
		ms = WAIT_MAX_MS;
	end = now_ms() + ms;
	if (end >= r->deadline)
		return false;
	for (int64_t left = ms; left > 0; left = end - now_ms())
		if (poll(&stop, 1, (int)left) > 0)
			return false;
	return true;
}

/* ---- challenges ---- */

static bool find_challenge(const struct http_answer *out, struct azure_challenge *ch)
{
	const char *header;

	for (unsigned n = 0; n < CHALLENGE_MAX && (header = http_header(out, "WWW-Authenticate", n)); n++)
		if (azure_challenge_parse(header, ch) == ERR_OK)
			return true;
	return false;
}

/* A 401.  ERR_OK: worth another token. */
static enum err challenged(struct akv *a, struct run *r, const struct http_answer *out, const struct akv_answer *said,
	const char *what, struct err_why *why)
{
	struct azure_challenge ch;
	enum err e;

	r->claims[0] = '\0';
	a->contacted = true;
	if (!find_challenge(out, &ch))
		return ERR_OK; /* nothing in it is needed: audience and host are known */
	e = azure_challenge_check(&ch, &a->cloud, &a->id, why);
	if (e != ERR_OK) {
		snprintf(a->detail.reason, sizeof(a->detail.reason), "ForeignChallenge");
		return e;
	}
	if (ch.tenant[0] && a->tenant_pinned && strcmp(ch.tenant, a->tenant) != 0) {
		snprintf(a->detail.reason, sizeof(a->detail.reason), "TenantChanged");
		return akv_refused(a, AKV_DENIED, said, NULL, what, why);
	}
	if (ch.tenant[0])
		memcpy(a->tenant, ch.tenant, sizeof(a->tenant));
	memcpy(r->claims, ch.claims, sizeof(r->claims));
	return ERR_OK;
}

static enum err refused(struct akv *a, enum akv_class cls, const struct akv_answer *said, const struct http_answer *out,
	const char *what, struct err_why *why)
{
	akv_reason(said, a->detail.reason);
	a->detail.network = cls == AKV_DENIED_NETWORK;
	return akv_refused(a, cls, said, out->text, what, why);
}

/* ---- calls ---- */

/* Without a token: any 401 will do, and is what is wanted. */
static enum err contact(struct akv *a, struct run *r, struct err_why *why)
{
	char url[AZURE_URI_MAX + 64];
	const struct akv_call c = {.method = "GET", .url = url, .what = "answer"};
	struct http_answer out;
	struct akv_answer said;
	enum akv_class cls;
	enum err e;

	snprintf(url, sizeof(url), "%s/keys%s%s?api-version=%s", a->id.base, a->id.name[0] ? "/" : "", a->id.name,
		a->api_version);
	r->attempts = 0;
	for (;;) {
		e = exchange(a, &c, r, NULL, &out, &said, why);
		cls = e == ERR_OK ? akv_classify(&said) : AKV_OK;
		if (e == ERR_OK && cls == AKV_TRANSIENT && wait_again(a, r, &said, &out)) {
			http_answer_clear(&out);
			continue;
		}
		break;
	}
	if (e == ERR_OK && cls == AKV_REAUTH)
		e = challenged(a, r, &out, &said, c.what, why);
	else if (e == ERR_OK && cls == AKV_OK)
		e = err_set(
			why, ERR_CORRUPT, 0, "%s answers without asking who we are: is it really a vault?", a->id.host);
	else if (e == ERR_OK)
		e = refused(a, cls, &said, &out, c.what, why);
	http_answer_clear(&out);
	r->attempts = 0;
	return e;
}

static struct run new_run(const struct akv *a)
{
	return (struct run){.deadline = now_ms() + a->deadline_ms};
}

static void new_detail(struct akv *a)
{
	memset(&a->detail, 0, sizeof(a->detail));
	snprintf(a->detail.region, sizeof(a->detail.region), "%s", a->region);
	azure_key_id_format(&a->id, true, a->detail.kid);
}

enum err akv_contact(struct akv *a, char tenant[static AZURE_GUID], char region[static 64], struct err_why *why)
{
	struct run r = new_run(a);
	enum err e;

	new_detail(a);
	e = contact(a, &r, why);
	memcpy(tenant, a->tenant, AZURE_GUID);
	memcpy(region, a->region, sizeof(a->region));
	return e;
}

static enum err get_token(struct akv *a, struct run *r, const struct secret **token, struct err_why *why)
{
	const char *audience = a->id.hsm ? a->cloud.hsm_audience : a->cloud.vault_audience;
	int64_t left = r->deadline - now_ms();
	enum err e = ERR_OK;

	if (!a->identity)
		return err_set(why, ERR_BUG, 0, "a call to %s without an identity", a->id.host);
	if (a->tenant[0] == '\0' && !a->contacted)
		e = contact(a, r, why);
	if (e != ERR_OK)
		return e;
	azid_set_limits(a->identity, a->attempts == 1 ? 1 : 0, left > 1 ? (unsigned)left : 1);
	return azid_token(a->identity, audience, a->tenant[0] ? a->tenant : NULL, r->claims[0] ? r->claims : NULL,
		token, &a->detail, why);
}

/* What is to be done with a bad answer: ERR_OK says that the request is to be made again. */
static enum err once_more(struct akv *a, const struct akv_call *c, struct run *r, const struct akv_answer *said,
	const struct http_answer *out, struct err_why *why)
{
	enum akv_class cls = akv_classify(said);
	enum err e;

	if (cls == AKV_TRANSIENT && wait_again(a, r, said, out))
		return ERR_OK;
	if (cls != AKV_REAUTH)
		return refused(a, cls, said, out, c->what, why);
	azid_forget(a->identity);
	e = challenged(a, r, out, said, c->what, why);
	r->again = true;
	return e;
}

enum err akv_do(struct akv *a, const struct akv_call *c, struct http_answer *out, struct err_why *why)
{
	struct run r = new_run(a);
	const struct secret *token = NULL;
	struct akv_answer said;
	enum err e;

	new_detail(a);
	for (;;) {
		memset(out, 0, sizeof(*out));
		e = get_token(a, &r, &token, why);
		if (e != ERR_OK)
			return e;
		r.claims[0] = '\0';
		e = exchange(a, c, &r, token, out, &said, why);
		if (e == ERR_OK && akv_classify(&said) == AKV_OK)
			return ERR_OK;
		if (e == ERR_OK)
			e = once_more(a, c, &r, &said, out, why);
		http_answer_clear(out);
		if (e != ERR_OK)
			return e;
	}
}
