/* SPDX-License-Identifier: Apache-2.0 */
/* prober - see prober.h. */
#include "fs/prober.h"

#include "fs/log.h"
#include "fs/share.h"
#include "keyprov/vault.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SHARED_WAIT_MS 50  /* while another mount probes */
#define SHARED_TURNS   800 /* 40 s: longer than any probe takes */
#define SUSPEND_NS     LEASE_SECOND
#define QUIET_SECONDS  2

/* of one call to the keeper */
#define CALL_SECONDS_MIN    2u
#define CALL_SECONDS_MAX    10u
#define CALL_SECONDS_STRICT 5u

struct prober {
	struct prober_config cfg;
	pthread_t thread;
	int wake_fd, timer_fd, clock_fd;

	/* of the thread alone */
	struct keeper keeper; /* provider NULL: none, or closed between two probes */
	const char *kind;     /* of the provider, and its conf: to open it again; NULL: no customer's key */
	json_t *conf;
	struct share *share;
	uint64_t heard; /* when the record that was dealt with last began; older ones don't count */
	int64_t slept;	/* CLOCK_BOOTTIME less CLOCK_MONOTONIC, when last looked at */

	pthread_mutex_t lock; /* protects the rest */
	struct lease lease;
	struct keeper fresh; /* from prober_set */
	bool change, now, stop, locked, paused, on;
	uint64_t next;
	struct keyprov *calling; /* a call is under way: what prober_stop aborts */
	bool drop;		 /* the keeper is to be closed, since the volume is being locked */
	bool cut;		 /* the probe under way was cut short for that: its answer counts for nothing */
	pthread_cond_t quiet;	 /* drop has become false */
	unsigned long probes, shared;
};

uint64_t boottime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * LEASE_SECOND + (uint64_t)now.tv_nsec;
}

static int64_t slept_ns(void)
{
	struct timespec now;
	int64_t boot = (int64_t)boottime_ns();

	clock_gettime(CLOCK_MONOTONIC, &now);
	return boot - (now.tv_sec * (int64_t)LEASE_SECOND + now.tv_nsec);
}

static void wake(struct prober *p)
{
	const uint64_t one = 1;

	while (write(p->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- the keeper ---- */

/* Two mounts whose texts are equal may probe for each other. */
static char *share_key(const struct keeper *k, const json_t *conf)
{
	static const char *const same[] = {"cloud", "tenant", "identity", "api_version", "expired"};
	json_t *o = json_pack("{s:s}", "kid", k->ref.id);
	char *text = NULL;
	size_t n;

	for (size_t i = 0; o && i < sizeof(same) / sizeof(same[0]); i++)
		json_object_set(o, same[i], json_object_get(conf, same[i]));
	/* The same words may mean somebody else in another environment. */
	if (o && json_object_set_new(o, "environment", azid_environment(json_object_get(conf, "identity"))) != 0) {
		json_decref(o);
		return NULL;
	}
	n = o ? json_dumpb(o, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS) : 0;
	if (n > 0)
		text = calloc(1, n + 1);
	if (text)
		json_dumpb(o, text, n, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(o);
	return text;
}

static void drop_keeper(struct prober *p)
{
	volume_keeper_close(&p->keeper);
	memset(&p->keeper, 0, sizeof(p->keeper));
	share_close(p->share);
	p->share = NULL;
	json_decref(p->conf);
	p->conf = NULL;
}

/* Takes over what prober_set left. */
static void take_change(struct prober *p)
{
	char *key = NULL;

	drop_keeper(p);
	pthread_mutex_lock(&p->lock);
	p->change = false;
	p->keeper = p->fresh;
	memset(&p->fresh, 0, sizeof(p->fresh));
	/* What others have found out before our own last unwrap, or before we began to wait, is no news. */
	p->heard = p->lease.confirmed ? p->lease.confirmed : boottime_ns();
	pthread_mutex_unlock(&p->lock);
	if (!p->keeper.provider)
		return;
	p->kind = p->keeper.provider->ops->name;
	p->conf = p->keeper.provider->ops->conf(p->keeper.provider);
	if (p->conf)
		key = share_key(&p->keeper, p->conf);
	if (key)
		p->share = share_open(p->cfg.fips, key);
	free(key);
}

/* Once, and not for long: trying again is what the prober does anyway, and grace should be seen well before its end. */
static void limit_calls(struct prober *p)
{
	unsigned seconds = p->keeper.lease_seconds ? p->keeper.lease_seconds / 4 : CALL_SECONDS_STRICT;

	if (seconds < CALL_SECONDS_MIN)
		seconds = CALL_SECONDS_MIN;
	if (seconds > CALL_SECONDS_MAX)
		seconds = CALL_SECONDS_MAX;
	vault_set_limits(p->keeper.provider, 1, seconds * 1000);
}

static enum err open_provider(struct prober *p, struct err_why *why)
{
	enum err e = ERR_OK;

	if (!p->keeper.provider)
		e = keyprov_open(p->kind, p->cfg.fips, p->conf, NULL, &p->keeper.provider, why);
	if (e == ERR_OK)
		limit_calls(p);
	return e;
}

/* ---- a probe ---- */

static enum probe_result result_of(enum err e)
{
	switch (e) {
	case ERR_OK:
		return PROBE_OK;
	case ERR_KEY_REVOKED:
	case ERR_KEY_DENIED:
	case ERR_CORRUPT: /* what comes back is not what was wrapped */
		return PROBE_DENIED;
	case ERR_KEY_UNAVAILABLE:
	case ERR_NOMEM:
	case ERR_IO:
	case ERR_NOT_FOUND:
	case ERR_EXISTS:
	case ERR_RANGE:
	case ERR_UNSUPPORTED:
	case ERR_CONFIG:
	case ERR_FIPS:
	case ERR_BUG:
		break;
	}
	return PROBE_UNAVAILABLE;
}

/* Our own; r is filled. */
static void probe(struct prober *p, bool fresh, struct share_record *r)
{
	struct err_why why = {0};
	enum err e;
	bool stop;

	memset(r, 0, sizeof(*r));
	r->began = boottime_ns();
	e = open_provider(p, &why);
	pthread_mutex_lock(&p->lock);
	p->cut = p->drop;
	stop = p->stop || p->drop;
	p->calling = stop ? NULL : p->keeper.provider;
	p->probes++;
	pthread_mutex_unlock(&p->lock);
	if (e == ERR_OK && !stop) {
		e = volume_keeper_probe(&p->keeper, fresh, &why);
		r->detail = p->keeper.detail;
	}
	pthread_mutex_lock(&p->lock);
	p->calling = NULL;
	pthread_mutex_unlock(&p->lock);
	r->result = result_of(e);
	if (e != ERR_OK)
		snprintf(r->why, sizeof(r->why), "%s", why.text[0] ? why.text : err_text(e));
}

static bool stopping(struct prober *p)
{
	bool stop;

	pthread_mutex_lock(&p->lock);
	stop = p->stop || p->change || p->cut || p->drop;
	pthread_mutex_unlock(&p->lock);
	return stop;
}

/* The lock of the record; false: without it, because somebody takes too long. */
static bool take_turn(struct prober *p)
{
	for (int turn = 0; p->share && turn < SHARED_TURNS && !stopping(p); turn++) {
		if (share_trylock(p->share))
			return true;
		poll(NULL, 0, SHARED_WAIT_MS);
	}
	return false;
}

/* Judges r, tells it, and says what is to be done. */
static enum lease_verdict tell(struct prober *p, const struct share_record *r, bool shared)
{
	struct probe_news news = {.result = r->result, .began = r->began, .shared = shared};

	pthread_mutex_lock(&p->lock);
	if (p->stop || p->change || p->cut) { /* of a key that is not ours any more, or cut short */
		pthread_mutex_unlock(&p->lock);
		return LEASE_GOOD;
	}
	news.verdict = lease_judge(&p->lease, r->result, r->began, boottime_ns());
	news.lease_end = lease_end(&p->lease);
	p->shared += shared;
	pthread_mutex_unlock(&p->lock);
	news.detail = &r->detail;
	news.why = r->why;
	p->cfg.heard(p->cfg.arg, &news);
	return news.verdict;
}

/* own: nobody else's answer will do. */
static enum lease_verdict ask(struct prober *p, bool own, bool fresh)
{
	bool turn = take_turn(p), shared = false;
	enum lease_verdict v;
	struct share_record r;

	if (turn && !own && share_read(p->share, &r) && r.began > p->heard)
		shared = true;
	else
		probe(p, fresh, &r);
	p->heard = r.began;
	if (turn && !shared && !stopping(p))
		share_write(p->share, &r);
	if (turn)
		share_unlock(p->share);
	v = tell(p, &r, shared);
	return v;
}

/* A denial is confirmed at once; without the lock, so that many mounts do it side by side. */
static void round_of_probes(struct prober *p, bool own, bool fresh)
{
	enum lease_verdict v = ask(p, own, fresh);
	struct share_record r;

	while (v == LEASE_CONFIRM && !stopping(p)) {
		probe(p, true, &r);
		v = tell(p, &r, false);
		if (p->share && !stopping(p) && share_trylock(p->share)) {
			p->heard = r.began;
			share_write(p->share, &r);
			share_unlock(p->share);
		}
	}
}

/* ---- the thread ---- */

/* Has somebody else found out something new? */
static bool record_changed(struct prober *p)
{
	struct share_record r;

	share_heard(p->share);
	return share_read(p->share, &r) && r.began > p->heard;
}

static void set_timer(const struct prober *p, uint64_t at)
{
	const struct itimerspec when = {
		.it_value = {(time_t)(at / LEASE_SECOND), (long)(at % LEASE_SECOND)},
	};

	timerfd_settime(p->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Goes off when the clock is set, and so after a suspend as well; then the two clocks tell which it was. */
static void watch_clock(const struct prober *p)
{
	const struct itimerspec never = {.it_value = {INT32_MAX, 0}};

	timerfd_settime(p->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static bool was_suspended(struct prober *p)
{
	int64_t slept = slept_ns();
	bool suspended = slept - p->slept > (int64_t)SUSPEND_NS;

	p->slept = slept;
	return suspended;
}

/* Waits until there is something to look at. */
static void wait_for_something(struct prober *p)
{
	struct pollfd fds[4] = {
		{.fd = p->wake_fd, .events = POLLIN},
		{.fd = p->timer_fd, .events = POLLIN},
		{.fd = p->clock_fd, .events = POLLIN},
		{.fd = p->share ? share_fd(p->share) : -1, .events = POLLIN},
	};
	uint64_t n;

	poll(fds, 4, -1);
	(void)!read(p->wake_fd, &n, sizeof(n));
	if (read(p->clock_fd, &n, sizeof(n)) < 0 && errno == ECANCELED)
		watch_clock(p);
}

/* What is to be done now; the lock is held. */
static bool due(struct prober *p, bool news, bool *own, bool *fresh)
{
	bool now = p->now, suspended = was_suspended(p);

	*own = now;
	*fresh = now || suspended;
	if (p->paused || !p->on)
		return false;
	p->now = false;
	return now || suspended || news || boottime_ns() >= p->next;
}

/* Token and connections go with the provider; it is opened again for the next probe. */
static void close_provider(struct prober *p)
{
	if (!p->conf)
		return;
	keyprov_close(p->keeper.provider);
	p->keeper.provider = NULL;
}

static void finish_round(struct prober *p)
{
	bool locked;

	pthread_mutex_lock(&p->lock);
	locked = p->locked;
	p->next = boottime_ns() + lease_pause(&p->lease, locked, randombytes_random());
	pthread_mutex_unlock(&p->lock);
	if (locked)
		close_provider(p);
}

static void finish_drop(struct prober *p)
{
	close_provider(p);
	pthread_mutex_lock(&p->lock);
	p->drop = p->cut = false;
	pthread_cond_broadcast(&p->quiet);
	pthread_mutex_unlock(&p->lock);
}

static void *prober_thread(void *arg)
{
	struct prober *p = arg;

	watch_clock(p);
	p->slept = slept_ns();
	for (;;) {
		bool news = p->share && record_changed(p), go, own, fresh, stop, change, drop;

		pthread_mutex_lock(&p->lock);
		stop = p->stop;
		change = p->change;
		drop = p->drop;
		go = !change && !drop && due(p, news, &own, &fresh);
		set_timer(p, p->on && !p->paused ? p->next : 0);
		pthread_mutex_unlock(&p->lock);
		if (stop)
			return NULL;
		if (drop) {
			finish_drop(p);
		} else if (change) {
			take_change(p);
		} else if (go) {
			round_of_probes(p, own, fresh);
			finish_round(p);
		} else {
			wait_for_something(p);
		}
	}
}

/* ---- for others ---- */

void prober_set(struct prober *p, struct keeper *k, uint64_t confirmed)
{
	pthread_mutex_lock(&p->lock);
	volume_keeper_close(&p->fresh);
	memset(&p->fresh, 0, sizeof(p->fresh));
	p->on = k != NULL;
	p->next = boottime_ns();
	if (k) {
		lease_start(&p->lease, k->probe_seconds, k->lease_seconds, confirmed);
		/* One that was never confirmed is asked at once, another at its time. */
		if (confirmed)
			p->next += lease_pause(&p->lease, p->locked, randombytes_random());
		p->fresh = *k;
		memset(k, 0, sizeof(*k));
	}
	p->change = true;
	keyprov_abort(p->calling);
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

void prober_now(struct prober *p)
{
	pthread_mutex_lock(&p->lock);
	p->now = true;
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

uint64_t prober_confirmed(struct prober *p, uint64_t began)
{
	uint64_t end = 0;

	pthread_mutex_lock(&p->lock);
	lease_opened(&p->lease);
	if (p->on) {
		(void)lease_judge(&p->lease, PROBE_OK, began, boottime_ns());
		end = lease_end(&p->lease);
	}
	pthread_mutex_unlock(&p->lock);
	return end;
}

void prober_stumbled(struct prober *p)
{
	pthread_mutex_lock(&p->lock);
	lease_stumble(&p->lease);
	p->next = boottime_ns() + lease_pause(&p->lease, true, randombytes_random());
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

void prober_set_locked(struct prober *p, bool locked)
{
	pthread_mutex_lock(&p->lock);
	p->drop |= locked;
	if (locked && p->calling) {
		p->cut = true;
		keyprov_abort(p->calling);
	}
	p->locked = locked;
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

bool prober_quiet(struct prober *p)
{
	struct timespec until;
	bool quiet;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += QUIET_SECONDS;
	pthread_mutex_lock(&p->lock);
	while (p->drop && !p->stop && pthread_cond_clockwait(&p->quiet, &p->lock, CLOCK_MONOTONIC, &until) == 0)
		;
	quiet = !p->drop || p->stop;
	pthread_mutex_unlock(&p->lock);
	return quiet;
}

void prober_pause(struct prober *p, bool paused)
{
	pthread_mutex_lock(&p->lock);
	p->paused = paused;
	if (!paused)
		p->next = boottime_ns();
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

void prober_status(struct prober *p, struct prober_status *out)
{
	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&p->lock);
	out->on = p->on;
	if (p->on) {
		out->probe_seconds = (unsigned)(p->lease.interval / LEASE_SECOND);
		out->lease_seconds = (unsigned)(p->lease.length / LEASE_SECOND);
		out->confirmed = p->lease.confirmed;
		out->lease_end = p->lease.confirmed ? lease_end(&p->lease) : 0;
		out->next = p->paused ? 0 : p->next;
	}
	out->probes = p->probes;
	out->shared = p->shared;
	pthread_mutex_unlock(&p->lock);
}

void prober_free(struct prober *p)
{
	if (!p)
		return;
	drop_keeper(p);
	volume_keeper_close(&p->fresh);
	if (p->wake_fd >= 0)
		close(p->wake_fd);
	if (p->timer_fd >= 0)
		close(p->timer_fd);
	if (p->clock_fd >= 0)
		close(p->clock_fd);
	pthread_cond_destroy(&p->quiet);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

enum err prober_start(const struct prober_config *cfg, struct prober **out, struct err_why *why)
{
	struct prober *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory for the prober.");
	p->cfg = *cfg;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->quiet, NULL);
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	p->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (p->wake_fd < 0 || p->timer_fd < 0 || p->clock_fd < 0 ||
		pthread_create(&p->thread, NULL, prober_thread, p) != 0) {
		prober_free(p);
		return err_set(why, ERR_NOMEM, EAGAIN, "The prober of the customer's key could not be started.");
	}
	*out = p;
	return ERR_OK;
}

void prober_stop(struct prober *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->quiet);
	keyprov_abort(p->calling);
	pthread_mutex_unlock(&p->lock);
	wake(p);
	pthread_join(p->thread, NULL);
}
