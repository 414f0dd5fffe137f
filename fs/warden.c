/* SPDX-License-Identifier: Apache-2.0 */
/* warden - see warden.h. */
#include "fs/warden.h"

#include "fs/audit.h"
#include "fs/daemon.h"
#include "fs/hook.h"
#include "fs/log.h"
#include "fs/serve.h"
#include "fs/warden_internal.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define UNWRAPS_TOLD_SECONDS 3600u /* one line in the audit log for so long */

static void wake(struct warden *w)
{
	const uint64_t one = 1;

	while (write(w->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* A lock is demanded: whoever is about to open has come too late.  With the lock held. */
static void demand(struct warden *w)
{
	w->epoch++;
	w->opening = w->reopen = false;
	pthread_cond_broadcast(&w->cond);
}

static void note(struct fact *f, const struct keyprov_detail *d, const char *why, bool shared)
{
	f->wall = time(NULL);
	f->boot = boottime_ns();
	f->detail = *d;
	f->shared = shared;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

/* ---- telling the world ---- */

/* What made it so; the lock is not held, but only this thread writes the facts' order. */
static void cause_of(struct warden *w, enum gate_reason reason, struct fact *out)
{
	pthread_mutex_lock(&w->lock);
	switch (reason) {
	case GATE_REVOKED:
		*out = w->last_denied;
		break;
	case GATE_UNAVAILABLE:
	case GATE_WAITING:
		*out = w->last_absent;
		break;
	case GATE_NONE:
		*out = w->grace ? w->last_absent : w->last_ok;
		break;
	case GATE_MANUAL:
		memset(out, 0, sizeof(*out));
		break;
	}
	pthread_mutex_unlock(&w->lock);
}

static void announce(struct warden *w, const char *event, const char *state, enum gate_reason reason)
{
	struct fact *f = calloc(1, sizeof(*f));
	const char *because = gate_reason_name(reason);
	char status[1024];

	if (f)
		cause_of(w, reason, f);
	audit_key_event(event, because, f ? &f->detail : NULL);
	log_line(strcmp(state, "OPEN") == 0 ? LOG_INFO_ : LOG_WARN,
		"event=gate state=%s reason=%s answer=\"%s\" request_id=%s client_request_id=%s why=\"%s\"", state,
		because, f ? f->detail.reason : "", f ? f->detail.request_id : "", f ? f->detail.client_request_id : "",
		f ? f->why : "");
	snprintf(status, sizeof(status), "STATUS=%s%s%s%s%s", state, reason != GATE_NONE ? ": " : "",
		reason != GATE_NONE ? because : "", f && f->why[0] ? ", " : "", f ? f->why : "");
	daemon_notify(status);
	hook_tell(w->m->hook, state, because);
	free(f);
}

/* ---- what the warden's thread does, without the lock ---- */

static void answer_lockers(struct warden *w)
{
	struct locker waiting[LOCKERS];
	unsigned n;

	pthread_mutex_lock(&w->lock);
	n = w->n_lockers;
	memcpy(waiting, w->lockers, n * sizeof(waiting[0]));
	w->n_lockers = 0;
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < n; i++) {
		json_t *o = json_pack("{s:i, s:s, s:o}", "code", EXIT_OK, "mountpoint", w->m->cfg->mountpoint, "access",
			warden_report(w));

		control_reply(waiting[i].control, waiting[i].ticket, o);
	}
}

/* Files are in the audit log each, see gate.c. */
static void tell_incomplete(const struct gate_report *r)
{
	if (!r->verified || r->undrained || r->note[0])
		log_line(LOG_WARN, "event=lock_incomplete undrained=%" PRIu64 " verified=%d note=\"%s\"", r->undrained,
			r->verified, r->note);
}

static void lock_now(struct warden *w, enum gate_reason reason)
{
	enum gate_reason before;
	struct gate_report report = {0};
	bool was_locked = gate_state(w->m->fs, &before, NULL) == GATE_LOCKED;

	prober_set_locked(w->m->prober, true);
	prober_pause(w->m->prober, reason == GATE_MANUAL);
	gate_lock(w->m->fs, reason, &report);
	if (!prober_quiet(w->m->prober))
		log_line(LOG_WARN, "event=lock_incomplete note=\"the probe under way does not end\"");
	pthread_mutex_lock(&w->lock);
	w->told_grace = false;
	if (!was_locked) {
		w->locks++;
		w->locked_at = boottime_ns();
	}
	pthread_mutex_unlock(&w->lock);
	announce(w, "locked", "LOCKED", reason);
	if (!was_locked)
		tell_incomplete(&report);
	answer_lockers(w);
}

static void open_now(struct warden *w, uint64_t began)
{
	uint64_t end = prober_confirmed(w->m->prober, began);

	pthread_mutex_lock(&w->lock);
	w->lease_end = end;
	w->opened_at = boottime_ns();
	if (end) {
		memset(&w->last_ok, 0, sizeof(w->last_ok));
		w->last_ok.boot = w->opened_at;
		w->last_ok.wall = time(NULL);
	}
	pthread_mutex_unlock(&w->lock);
	gate_set_deadline(w->m->fs, end);
	gate_unlock(w->m->fs);
	prober_set_locked(w->m->prober, false);
	prober_pause(w->m->prober, false);
	pthread_mutex_lock(&w->lock);
	w->opened = true;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
	announce(w, "unlocked", "OPEN", GATE_NONE);
}

static void grace_now(struct warden *w, bool grace)
{
	gate_set_grace(w->m->fs, grace);
	announce(w, grace ? "grace" : "grace_over", grace ? "GRACE" : "OPEN", GATE_NONE);
}

void warden_came_up_locked(struct warden *w)
{
	enum gate_reason reason = GATE_NONE;

	(void)gate_state(w->m->fs, &reason, NULL);
	announce(w, "locked", "LOCKED", reason);
}

/* ---- deciding ---- */

enum act { ACT_NOTHING, ACT_LOCK, ACT_OPEN, ACT_GRACE, ACT_GRACE_OVER, ACT_REOPEN, ACT_ANSWER };

static enum gate_reason demanded(const struct warden *w)
{
	if (w->manual)
		return GATE_MANUAL;
	if (w->revoked)
		return GATE_REVOKED;
	return w->over ? GATE_UNAVAILABLE : GATE_NONE;
}

/* With the lock held; state and reason are what the gate is at. */
static enum act decide(struct warden *w, enum gate_state state, enum gate_reason at, enum gate_reason *reason)
{
	enum gate_reason want = demanded(w);
	bool locked = state == GATE_LOCKED;

	*reason = want;
	/* One that never was open goes on waiting when nobody is there. */
	if (want == GATE_UNAVAILABLE && locked && at == GATE_WAITING)
		want = GATE_WAITING;
	if (want != GATE_NONE) {
		if (!locked || at != want)
			return ACT_LOCK;
		return w->n_lockers ? ACT_ANSWER : ACT_NOTHING;
	}
	if (w->opening) {
		w->opening = false;
		return ACT_OPEN;
	}
	if (locked && !w->reopen)
		return ACT_NOTHING;
	w->reopen = false;
	if (locked)
		return ACT_REOPEN;
	if (w->grace != w->told_grace) {
		w->told_grace = w->grace;
		return w->grace ? ACT_GRACE : ACT_GRACE_OVER;
	}
	return ACT_NOTHING;
}

/* One step; false: there is nothing left to do. */
static bool step(struct warden *w)
{
	enum gate_reason at = GATE_NONE, reason;
	enum gate_state state = gate_state(w->m->fs, &at, NULL);
	enum act act;
	uint64_t began;

	pthread_mutex_lock(&w->lock);
	if (w->lease_end && state != GATE_LOCKED && boottime_ns() >= w->lease_end)
		w->over = true;
	began = w->began;
	act = decide(w, state, at, &reason);
	pthread_mutex_unlock(&w->lock);
	switch (act) {
	case ACT_NOTHING:
		return false;
	case ACT_LOCK:
		lock_now(w, reason);
		break;
	case ACT_OPEN:
		open_now(w, began);
		break;
	case ACT_GRACE:
	case ACT_GRACE_OVER:
		grace_now(w, act == ACT_GRACE);
		break;
	case ACT_REOPEN:
		keywork_kick(w->m->work, "reopen");
		break;
	case ACT_ANSWER:
		answer_lockers(w);
		break;
	}
	return true;
}

static void set_timer(struct warden *w)
{
	struct itimerspec when = {0};

	pthread_mutex_lock(&w->lock);
	if (w->lease_end && !w->over) {
		when.it_value.tv_sec = (time_t)(w->lease_end / LEASE_SECOND);
		when.it_value.tv_nsec = (long)(w->lease_end % LEASE_SECOND);
	}
	pthread_mutex_unlock(&w->lock);
	timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void *warden_thread(void *arg)
{
	struct warden *w = arg;
	struct pollfd p[2] = {{.fd = w->wake_fd, .events = POLLIN}, {.fd = w->timer_fd, .events = POLLIN}};
	bool stop = false;
	uint64_t n;

	while (!stop) {
		while (step(w))
			;
		set_timer(w);
		poll(p, 2, -1);
		(void)!read(w->wake_fd, &n, sizeof(n));
		(void)!read(w->timer_fd, &n, sizeof(n));
		pthread_mutex_lock(&w->lock);
		stop = w->stop;
		pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}

/* ---- what it hears ---- */

static void log_answer(bool denied, const struct keyprov_detail *d, const char *why, bool shared)
{
	log_line(LOG_WARN, "event=%s answer=\"%s\" request_id=%s client_request_id=%s shared=%d why=\"%s\"",
		denied ? "denied" : "unreachable", d->reason, d->request_id, d->client_request_id, shared, why);
}

static void heard_denied(struct warden *w, const struct probe_news *n)
{
	note(&w->last_denied, n->detail, n->why, n->shared);
	w->denials++;
	if (!w->first_denied.boot || w->first_denied.boot < w->last_ok.boot) {
		w->first_denied = w->last_denied;
		memset(&w->confirmed, 0, sizeof(w->confirmed));
	}
	if (n->verdict == LEASE_REVOKED && !w->confirmed.boot)
		w->confirmed = w->last_denied;
}

/* The first success, then one line an hour for all of them.  With the lock held; 0: nothing to be told. */
static unsigned long unwraps_to_tell(struct warden *w)
{
	uint64_t now = boottime_ns();
	unsigned long n = ++w->unwraps;

	if (w->unwraps_told && now - w->unwraps_told < UNWRAPS_TOLD_SECONDS * LEASE_SECOND)
		return 0;
	w->unwraps_told = now;
	w->unwraps = 0;
	return n;
}

static void audit_heard(const struct probe_news *n, unsigned long unwraps)
{
	char detail[80];

	snprintf(detail, sizeof(detail), "%lu since the line before this one", unwraps);
	if (n->result == PROBE_DENIED)
		audit_key_event("denied", n->verdict == LEASE_REVOKED ? "confirmed" : "to be confirmed", n->detail);
	else if (unwraps)
		audit_key_event("unwrap", detail, n->detail);
}

void warden_heard(struct warden *w, const struct probe_news *n)
{
	unsigned long unwraps = 0;
	bool first_denial;

	pthread_mutex_lock(&w->lock);
	if (n->result == PROBE_OK)
		unwraps = unwraps_to_tell(w);
	first_denial = n->result == PROBE_DENIED && !w->revoked;
	if (n->result == PROBE_OK)
		note(&w->last_ok, n->detail, "", n->shared);
	else if (n->result == PROBE_DENIED)
		heard_denied(w, n);
	else
		note(&w->last_absent, n->detail, n->why, n->shared);
	w->absences += n->result == PROBE_UNAVAILABLE;
	switch (n->verdict) {
	case LEASE_GOOD:
		w->revoked = w->over = w->grace = false;
		w->lease_end = n->lease_end;
		w->reopen = true;
		gate_set_deadline(w->m->fs, n->lease_end);
		break;
	case LEASE_GRACE:
		w->grace = true;
		break;
	case LEASE_REVOKED:
		if (!w->revoked)
			demand(w);
		w->revoked = true;
		break;
	case LEASE_OVER:
		if (!w->over)
			demand(w);
		w->over = true;
		break;
	case LEASE_CONFIRM:
		break;
	}
	pthread_mutex_unlock(&w->lock);
	if (n->result != PROBE_OK)
		log_answer(n->result == PROBE_DENIED, n->detail, n->why, n->shared);
	wake(w);
	if (n->result == PROBE_OK || first_denial)
		audit_heard(n, unwraps);
}

bool warden_lock(struct warden *w, const struct control_request *r)
{
	bool room;

	pthread_mutex_lock(&w->lock);
	/* Locked in any case, answered if there is room. */
	demand(w);
	w->manual = true;
	room = w->n_lockers < LOCKERS;
	if (room)
		w->lockers[w->n_lockers++] = (struct locker){r->control, r->ticket};
	pthread_mutex_unlock(&w->lock);
	wake(w);
	return room;
}

uint64_t warden_ticket(struct warden *w, bool by_hand)
{
	uint64_t ticket;

	pthread_mutex_lock(&w->lock);
	ticket = w->manual && !by_hand ? 0 : w->epoch;
	pthread_mutex_unlock(&w->lock);
	return ticket;
}

bool warden_open(struct warden *w, uint64_t ticket, uint64_t began)
{
	bool opened;

	pthread_mutex_lock(&w->lock);
	if (w->epoch == ticket) {
		w->manual = w->revoked = w->over = w->grace = false;
		w->opening = true;
		w->opened = false;
		w->began = began;
		wake(w);
		while (!w->opened && w->epoch == ticket)
			pthread_cond_wait(&w->cond, &w->lock);
	}
	opened = w->epoch == ticket;
	pthread_mutex_unlock(&w->lock);
	return opened;
}

void warden_not_opened(struct warden *w, enum err e, const struct keyprov_detail *d, const char *why)
{
	pthread_mutex_lock(&w->lock);
	w->manual = false;
	if (e == ERR_KEY_REVOKED) {
		w->revoked = true;
		note(&w->last_denied, d, why, false);
	} else {
		w->over = true;
		note(&w->last_absent, d, why, false);
	}
	pthread_mutex_unlock(&w->lock);
	log_answer(e == ERR_KEY_REVOKED, d, why, false);
	wake(w);
}

void warden_key_changed(struct warden *w, uint64_t lease_end)
{
	pthread_mutex_lock(&w->lock);
	w->lease_end = lease_end;
	w->revoked = w->over = w->grace = false;
	gate_set_deadline(w->m->fs, lease_end);
	pthread_mutex_unlock(&w->lock);
	wake(w);
}

bool warden_is_open(struct warden *w, enum gate_reason *reason)
{
	enum gate_state s = gate_state(w->m->fs, reason, NULL);

	return s == GATE_OPEN || s == GATE_GRACE;
}

void warden_counts(struct warden *w, struct warden_counts *out)
{
	pthread_mutex_lock(&w->lock);
	*out = (struct warden_counts){w->denials, w->absences, w->locks};
	pthread_mutex_unlock(&w->lock);
}

void warden_free(struct warden *w)
{
	if (!w)
		return;
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	if (w->timer_fd >= 0)
		close(w->timer_fd);
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

enum err warden_start(struct mounted *m, struct warden **out, struct err_why *why)
{
	struct warden *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory for the gate's thread.");
	w->m = m;
	w->epoch = 1;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->wake_fd < 0 || w->timer_fd < 0 || pthread_create(&w->thread, NULL, warden_thread, w) != 0) {
		warden_free(w);
		return err_set(why, ERR_NOMEM, EAGAIN, "The gate's thread could not be started.");
	}
	*out = w;
	return ERR_OK;
}

void warden_stop(struct warden *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_mutex_unlock(&w->lock);
	wake(w);
	pthread_join(w->thread, NULL);
	answer_lockers(w);
}
