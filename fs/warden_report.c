/* SPDX-License-Identifier: Apache-2.0 */
/* warden_report - what the status and the revocation report say of a volume's gate. */
#include "fs/report.h"
#include "fs/serve.h"
#include "fs/warden_internal.h"

#define MS		1000000
#define UNDRAINED_SHOWN 64u

static json_t *fact_json(const struct fact *f)
{
	const struct keyprov_detail *d = &f->detail;

	if (!f->boot)
		return json_null();
	return json_pack("{s:o, s:o, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "time", report_utc(f->wall),
		"answer", report_told(d->reason), "http_status", d->http_status, "network", (int)d->network,
		"request_id", report_told(d->request_id), "client_request_id", report_told(d->client_request_id),
		"tenant", report_told(d->tenant), "oid", report_told(d->oid), "appid", report_told(d->appid), "kid",
		report_told(d->kid), "why", report_told(f->why), "shared", (int)f->shared);
}

/* Whole seconds from now until then, 0 if it is over; null if there is no then. */
static json_t *seconds_left(uint64_t then)
{
	uint64_t now = boottime_ns();

	if (!then)
		return json_null();
	return json_integer(then > now ? (json_int_t)((then - now + LEASE_SECOND / 2) / LEASE_SECOND) : 0);
}

static const struct fact *latest(const struct warden *w)
{
	const struct fact *f = &w->last_ok;

	if (w->last_denied.boot > f->boot)
		f = &w->last_denied;
	return w->last_absent.boot > f->boot ? &w->last_absent : f;
}

static void add_undrained(json_t *o, struct warden *w)
{
	struct gate_report r;
	uint64_t ino[UNDRAINED_SHOWN];
	size_t n = gate_undrained(w->m->fs, ino, UNDRAINED_SHOWN);
	json_t *list = json_array();

	for (size_t i = 0; list && i < n; i++)
		json_array_append_new(list, json_integer((json_int_t)ino[i]));
	json_object_set_new(o, "undrained", json_integer(gate_last_report(w->m->fs, &r) ? (json_int_t)r.undrained : 0));
	json_object_set_new(o, "undrained_inodes", list);
}

static void add_prober(json_t *o, struct warden *w)
{
	struct prober_status p;

	prober_status(w->m->prober, &p);
	json_object_set_new(o, "customer_key", json_boolean(p.on));
	json_object_set_new(o, "probe_seconds", p.on ? json_integer(p.probe_seconds) : json_null());
	json_object_set_new(o, "lease_seconds", p.on ? json_integer(p.lease_seconds) : json_null());
	json_object_set_new(o, "lease_left_seconds", p.on ? seconds_left(p.lease_end) : json_null());
	json_object_set_new(o, "next_probe_seconds", p.on ? seconds_left(p.next) : json_null());
	json_object_set_new(o, "probes", json_integer((json_int_t)p.probes));
	json_object_set_new(o, "probes_shared", json_integer((json_int_t)p.shared));
}

json_t *warden_report(struct warden *w)
{
	enum gate_reason reason = GATE_NONE;
	time_t since = 0;
	enum gate_state state = gate_state(w->m->fs, &reason, &since);
	const struct fact *f;
	json_t *o;

	pthread_mutex_lock(&w->lock);
	f = latest(w);
	o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I}", "state", gate_state_name(state),
		"reason", gate_reason_name(reason), "since", report_utc(since), "last_request_id",
		report_told(f->detail.request_id), "last_client_request_id", report_told(f->detail.client_request_id),
		"last_success", fact_json(&w->last_ok), "last_denial", fact_json(&w->last_denied), "last_failure",
		fact_json(&w->last_absent), "denials", (json_int_t)w->denials, "failures", (json_int_t)w->absences,
		"locks", (json_int_t)w->locks);
	pthread_mutex_unlock(&w->lock);
	if (o) {
		add_prober(o, w);
		add_undrained(o, w);
	}
	return o;
}

/* Milliseconds between two moments; null if one of them never came. */
static json_t *between(uint64_t from, uint64_t to)
{
	if (!from || !to)
		return json_null();
	return json_real((double)((int64_t)to - (int64_t)from) / MS);
}

static json_t *lock_json(const struct gate_report *r, uint64_t zero)
{
	json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "reason",
		gate_reason_name(r->reason), "time", report_utc(r->wall), "started_ms", between(zero, r->started),
		"closed_ms", between(zero, r->closed), "drained_ms", between(zero, r->drained), "wiped_ms",
		between(zero, r->wiped), "purged_ms", between(zero, r->purged), "done_ms", between(zero, r->done),
		"last_read_ms", between(zero, r->last_read_ok), "first_refused_ms", between(zero, r->first_refused));
	json_t *more = json_pack("{s:I, s:I, s:I, s:b, s:o}", "inodes_purged", (json_int_t)r->inodes_purged,
		"undrained", (json_int_t)r->undrained, "refused", (json_int_t)r->refused, "verified", (int)r->verified,
		"note", report_told(r->note));

	if (o && more)
		json_object_update(o, more);
	json_decref(more);
	return o;
}

json_t *warden_revocation(struct warden *w)
{
	struct gate_report last;
	bool any = gate_last_report(w->m->fs, &last);
	struct fact first = {0}, confirmed = {0};
	uint64_t zero, opened;
	json_t *o = NULL;

	pthread_mutex_lock(&w->lock);
	if (any && last.reason == GATE_REVOKED) {
		first = w->first_denied;
		confirmed = w->confirmed;
	}
	opened = w->opened_at;
	pthread_mutex_unlock(&w->lock);
	if (any) {
		/* Everything is counted from the first denial; without one, from the beginning of the lock. */
		zero = first.boot ? first.boot : last.started;
		o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "volume", w->m->volume_hex, "mountpoint",
			w->m->cfg->mountpoint, "first_denial", fact_json(&first), "confirmation", fact_json(&confirmed),
			"confirmed_ms", between(zero, confirmed.boot), "lock", lock_json(&last, zero), "opened_ms",
			opened > last.started ? between(zero, opened) : json_null());
	}
	return o;
}

json_t *report_revocation(struct mounted *m)
{
	json_t *o = warden_revocation(m->warden);

	if (!o)
		return json_pack("{s:i, s:s}", "code", EXIT_USAGE, "error",
			"This volume has not been locked since it was mounted, so there is nothing to report.");
	json_object_set_new(o, "code", json_integer(EXIT_OK));
	return o;
}
