/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid_ask - exchanges with token services: what an answer means, and when another try is worth it.
 *
 * Metadata services: "Retry guidance" of the managed identity documentation: 404, 408, 429, 5xx and no answer three
 * times more after 1, 2 and 4 seconds; 410 (the service is being updated, back within 70 s) every 10 seconds, 7 times.
 * Refusals never.  The same serves for the authority, which may send Retry-After.
 */
#include "keyprov/azid_internal.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXCHANGE_MS	 10000 /* one exchange at most */
#define TRIES_MORE	 3
#define GONE_MORE	 7
#define GONE_WAIT_MS	 10000
#define UNREACHABLE_MORE 1 /* an address that nobody has stays so: this is no Azure machine */
#define RETRY_AFTER_MAX	 3600

void azid_reason(struct keyprov_detail *d, int status, const char *fmt, ...)
{
	va_list ap;

	d->http_status = status;
	va_start(ap, fmt);
	if (vsnprintf(d->reason, sizeof(d->reason), fmt, ap) < 0)
		d->reason[0] = '\0';
	va_end(ap);
}

enum err azid_uuid(const struct fips *f, char out[static AZURE_GUID])
{
	uint8_t b[16];
	enum err e = fips_random(f, b, sizeof(b));

	out[0] = '\0';
	if (e != ERR_OK)
		return e;
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562 section 5.4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(out, AZURE_GUID, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	return ERR_OK;
}

/* ---- text ---- */

void azid_form_init(struct azid_form *f, char *buf, size_t cap)
{
	f->p = buf;
	f->len = 0;
	f->cap = cap;
	f->full = false;
	buf[0] = '\0';
}

static void put(struct azid_form *f, const char *s, size_t len)
{
	if (f->full || len >= f->cap - f->len) {
		f->full = true;
		return;
	}
	memcpy(f->p + f->len, s, len);
	f->len += len;
	f->p[f->len] = '\0';
}

void azid_form_text(struct azid_form *f, const char *text)
{
	put(f, text, strlen(text));
}

void azid_form_add(struct azid_form *f, const char *name, const void *value, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";
	const uint8_t *v = value;

	if (f->len > 0 && f->p[f->len - 1] != '?')
		put(f, "&", 1);
	put(f, name, strlen(name));
	put(f, "=", 1);
	for (size_t i = 0; i < len && !f->full; i++) {
		uint8_t c = v[i];
		char esc[3] = {'%', hex[c >> 4], hex[c & 15]};

		/* unreserved, RFC 3986 section 2.3 */
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
			c == '.' || c == '_' || c == '~')
			put(f, (const char *)&v[i], 1);
		else
			put(f, esc, 3);
	}
}

/* ---- one exchange ---- */

static const char *outcome_text(enum http_outcome o)
{
	switch (o) {
	case HTTP_ANSWERED:
		return "answered";
	case HTTP_DNS:
		return "name not found";
	case HTTP_CONNECT:
		return "no connection";
	case HTTP_TLS:
		return "tls";
	case HTTP_TIMEOUT:
		return "timeout";
	case HTTP_BROKEN:
		return "broken answer";
	case HTTP_TOO_LARGE:
		return "answer too large";
	case HTTP_ABORTED:
		return "aborted";
	}
	return "no answer";
}

enum err azid_exchange(struct azid *a, const struct azid_service *s, struct http *h, struct http_request *r,
	struct http_answer *reply, const struct azid_want *w, struct azid_try *t, struct err_why *why)
{
	int64_t left = a->deadline - a->now();
	enum err e;

	memset(t, 0, sizeof(*t));
	memset(reply, 0, sizeof(*reply));
	if (azid_aborted(a) || left <= 0) {
		azid_reason(w->detail, 0, "identity: %s", left <= 0 ? "timeout" : "aborted");
		return err_set(why, ERR_KEY_UNAVAILABLE, 0, "no token: %s",
			left <= 0 ? "there was no time left to ask for it" : "the program is ending");
	}
	r->total_ms = (unsigned)(left < EXCHANGE_MS ? left : EXCHANGE_MS);
	e = http_do(h, r, reply);
	if (e != ERR_OK)
		return err_set(why, e, 0, "can't ask %s for a token: %s", s->who, err_text(e));
	if (reply->outcome == HTTP_ANSWERED)
		return ERR_OK;
	t->unreachable = reply->outcome == HTTP_CONNECT || reply->outcome == HTTP_DNS;
	azid_reason(w->detail, 0, "identity: %s", outcome_text(reply->outcome));
	return err_set(why, ERR_KEY_UNAVAILABLE, 0, "no token: %s does not answer (%.200s)", s->who,
		reply->text[0] ? reply->text : outcome_text(reply->outcome));
}

static unsigned retry_after(const struct http_answer *reply)
{
	const char *v = http_header(reply, "Retry-After", 0);
	char *end = NULL;
	unsigned long n;

	if (!v || v[0] < '0' || v[0] > '9') /* or a date, which nobody sends */
		return 0;
	n = strtoul(v, &end, 10);
	return *end == '\0' && n <= RETRY_AFTER_MAX ? (unsigned)n : 0;
}

/* The answer is not 200. */
static enum err refused(const struct azid_service *s, const struct http_answer *reply, const struct azid_want *w,
	struct azid_try *t, struct err_why *why)
{
	struct azid_refusal r;
	char code[32] = "";
	enum err e;

	azid_refusal_parse(reply->body, reply->body_len, &r);
	e = azid_classify(s->entra, reply->status, r.error);
	t->gone = reply->status == 410;
	t->after = retry_after(reply);
	if (r.error[0])
		azid_reason(w->detail, reply->status, "identity: %s", r.error);
	else
		azid_reason(w->detail, reply->status, "identity: http %d", reply->status);
	if (r.trace[0])
		snprintf(w->detail->request_id, sizeof(w->detail->request_id), "%s", r.trace);
	if (r.code)
		snprintf(code, sizeof(code), ", AADSTS%lld", r.code);
	if (e == ERR_KEY_UNAVAILABLE)
		return err_set(why, e, 0, "no token: %s has trouble (http %d%s%s)", s->who, reply->status,
			r.error[0] ? ", " : "", r.error);
	return err_set(why, e, 0, "%s refuses a token (http %d%s%s%s); %s", s->who, reply->status,
		r.error[0] ? ", " : "", r.error, code, s->remedy);
}

enum err azid_take(struct azid *a, const struct azid_service *s, const struct http_answer *reply,
	const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	struct err_why what = {0};
	enum err e;

	if (reply->status != 200)
		return refused(s, reply, w, t, why);
	e = azid_answer_parse(reply->body, reply->body_len, "access_token", a->wall(), out, &what);
	if (e == ERR_OK)
		return ERR_OK;
	if (e != ERR_CORRUPT)
		return err_set(why, e, 0, "%s", what.text);
	/* Nonsense says nothing about the identity. */
	azid_reason(w->detail, reply->status, "identity: broken answer");
	return err_set(why, ERR_KEY_UNAVAILABLE, 0, "no token from %s: %s", s->who, what.text);
}

/* ---- tries ---- */

static enum err once(
	struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	memset(t, 0, sizeof(*t));
	memset(out, 0, sizeof(*out));
	switch (a->kind) {
	case AZID_VM:
		return azid_vm(a, w, out, t, why);
	case AZID_APP_SERVICE:
		return azid_app_service(a, w, out, t, why);
	case AZID_ARC:
		return azid_arc(a, w, out, t, why);
	case AZID_WORKLOAD:
		return azid_workload(a, w, out, t, why);
	case AZID_SECRET:
	case AZID_CERTIFICATE:
		return azid_principal(a, w, out, t, why);
	case AZID_CLI:
		return azid_cli(a, w, out, why);
	case AZID_AUTO:
		break;
	}
	return err_set(why, ERR_BUG, 0, "the identity is not known yet");
}

/* Milliseconds to wait before the try number n (from 1), or -1: not worth it. */
static int64_t wait_before(const struct azid_try *t, unsigned n)
{
	unsigned more = t->gone ? GONE_MORE : t->unreachable ? UNREACHABLE_MORE : TRIES_MORE;
	int64_t ms = t->gone ? GONE_WAIT_MS : INT64_C(1000) << (n - 1);

	if (n > more)
		return -1;
	return t->after * INT64_C(1000) > ms ? t->after * INT64_C(1000) : ms;
}

enum err azid_ask(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct err_why *why)
{
	for (unsigned n = 1;; n++) {
		struct azid_try t;
		enum err e = once(a, w, out, &t, why);
		int64_t ms;

		if (e != ERR_KEY_UNAVAILABLE || a->kind == AZID_CLI || n == a->attempts)
			return e;
		ms = wait_before(&t, n);
		if (ms < 0 || a->now() + ms >= a->deadline || azid_aborted(a))
			return e;
		a->pause(a, ms);
	}
}
