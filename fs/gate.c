/* SPDX-License-Identifier: Apache-2.0 */
/* gate - see gate.h; the argument for the order of things is in DESIGN.md. */
#include "fs/gate_internal.h"
#include "fs/transport.h"

#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define MS	  UINT64_C(1000000)
#define SETTLE_NS (250 * MS)  /* for requests inside, before the kernel's caches are dropped */
#define DRAIN_NS  (2000 * MS) /* until keys are wiped whatever hangs */
#define WIPE_NS	  (1000 * MS) /* for threads that have to wipe by themselves */
#define STEP_NS	  (MS / 5)

/* The epoch in which this thread's request was admitted; 0: none is. */
static _Thread_local unsigned admitted;

uint64_t gate_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct gate *gate_new(void)
{
	struct gate *g = aligned_alloc(_Alignof(struct gate), sizeof(*g));

	if (!g)
		return NULL;
	memset(g, 0, sizeof(*g));
	atomic_init(&g->epoch, 1);
	pthread_mutex_init(&g->lock, NULL);
	g->state = GATE_OPEN;
	g->since = time(NULL);
	return g;
}

void gate_free(struct fsys *fs)
{
	struct gate *g = fs->gate;

	if (!g)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
	fs->gate = NULL;
}

void gate_attach(struct fsys *fs, struct fuse_session *session)
{
	while (!session && fs->gate->purges) /* they use the old one */
		purge_end(fs, fs->gate->purges);
	pthread_mutex_lock(&fs->gate->lock);
	fs->gate->session = session;
	pthread_mutex_unlock(&fs->gate->lock);
}

/* ---- in and out ---- */

static struct gate_slot *my_slot(struct gate *g)
{
	static _Atomic unsigned threads;
	static _Thread_local unsigned mine;

	if (mine == 0)
		mine = atomic_fetch_add(&threads, 1) + 1;
	return &g->slot[mine % GATE_SLOTS];
}

static int refuse(struct gate *g, int code)
{
	uint64_t none = 0;

	if (atomic_load_explicit(&g->first_refused, memory_order_relaxed) == 0)
		atomic_compare_exchange_strong(&g->first_refused, &none, gate_clock());
	atomic_fetch_add_explicit(&g->refused, 1, memory_order_relaxed);
	return code;
}

/*
 * We count ourselves, then look at the door; who locks shuts the door, then looks at the counts.  Both sequentially
 * consistent, so one of us sees the other.
 */
static bool enter(struct gate *g, unsigned *door)
{
	struct gate_slot *s = my_slot(g);

	atomic_fetch_add(&s->inside, 1);
	*door = atomic_load(&g->door);
	if (*door == 0 || (*door == DOOR_LEASE && gate_clock() < atomic_load(&g->deadline))) {
		admitted = atomic_load_explicit(&g->epoch, memory_order_relaxed);
		return true;
	}
	atomic_fetch_sub(&s->inside, 1);
	return false;
}

int gate_enter(struct fsys *fs)
{
	struct gate *g = fs->gate;
	unsigned door;

	if (enter(g, &door))
		return 0;
	return refuse(g, door == DOOR_LEASE ? ENOKEY : atomic_load(&g->refusal));
}

bool gate_enter_quietly(struct fsys *fs)
{
	unsigned door;

	return enter(fs->gate, &door);
}

void gate_leave(struct fsys *fs)
{
	admitted = 0;
	atomic_fetch_sub(&my_slot(fs->gate)->inside, 1);
}

static void note_undrained(struct gate *g, uint64_t ino)
{
	unsigned k;

	pthread_mutex_lock(&g->lock);
	for (k = 0; k < g->n_undrained && g->undrained[k] != ino; k++)
		;
	if (k == g->n_undrained && k < GATE_UNDRAINED) {
		g->undrained[g->n_undrained++] = ino;
		g->last.undrained++;
	}
	pthread_mutex_unlock(&g->lock);
	audit_event("not_drained", "a changed page of a mapped file came too late to be written", ino, UINT64_MAX);
}

int gate_enter_writeback(struct fsys *fs, uint64_t ino)
{
	struct gate *g = fs->gate;
	struct gate_slot *s = my_slot(g);

	atomic_fetch_add(&s->draining, 1);
	if (!(atomic_load(&g->door) & DOOR_SHUT)) {
		admitted = atomic_load_explicit(&g->epoch, memory_order_relaxed);
		return 0;
	}
	atomic_fetch_sub(&s->draining, 1);
	note_undrained(g, ino);
	return refuse(g, atomic_load(&g->refusal));
}

void gate_leave_writeback(struct fsys *fs)
{
	admitted = 0;
	atomic_fetch_sub(&my_slot(fs->gate)->draining, 1);
}

bool gate_is_current(const struct fsys *fs)
{
	return admitted == 0 || admitted == atomic_load(&fs->gate->epoch);
}

bool gate_reply_begin(struct fsys *fs)
{
	struct gate_slot *s = my_slot(fs->gate);

	atomic_fetch_add(&s->replying, 1);
	if (gate_is_current(fs))
		return true;
	atomic_fetch_sub(&s->replying, 1);
	return false;
}

void gate_reply_end(struct fsys *fs)
{
	atomic_fetch_sub(&my_slot(fs->gate)->replying, 1);
}

int gate_errno(const struct fsys *fs)
{
	int code = atomic_load(&fs->gate->refusal);

	return code ? code : ENOKEY;
}

/* ---- locking ---- */

enum count { INSIDE, DRAINING, REPLYING };

static bool anybody(struct gate *g, enum count what)
{
	uint32_t n = 0;

	for (unsigned k = 0; k < GATE_SLOTS; k++) {
		struct gate_slot *s = &g->slot[k];

		n += atomic_load(what == INSIDE ? &s->inside : what == DRAINING ? &s->draining : &s->replying);
	}
	return n != 0;
}

/* Waits until nobody is counted there; false: some are at that time still. */
static bool wait_gone(struct gate *g, enum count what, uint64_t until)
{
	const struct timespec step = {0, STEP_NS};

	while (anybody(g, what)) {
		if (gate_clock() >= until)
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

static int refusal_of(enum gate_reason reason)
{
	return reason == GATE_REVOKED ? EKEYREVOKED : ENOKEY;
}

static void set_state(struct gate *g, enum gate_state state, enum gate_reason reason)
{
	pthread_mutex_lock(&g->lock);
	if (g->state != state && !(g->state == GATE_LOCKING && state == GATE_LOCKED))
		g->since = time(NULL);
	g->state = state;
	g->reason = reason;
	g->last.reason = reason != GATE_NONE ? reason : g->last.reason;
	atomic_store(&g->refusal, refusal_of(reason));
	pthread_mutex_unlock(&g->lock);
}

/* Those still inside are given up: no key of later is theirs, and no answer of theirs gets out any more. */
static void give_up(struct gate *g)
{
	atomic_fetch_add(&g->epoch, 1);
	/* nothing in there waits for a disk */
	transport_give_up(atomic_load(&g->refusal));
	wait_gone(g, REPLYING, UINT64_MAX);
}

static void run_purge(struct fsys *fs, struct gate_report *r, uint64_t until)
{
	struct purge *p = purge_start(fs);
	bool clean = false;

	if (!p) {
		r->verified = false;
		return;
	}
	if (until ? purge_wait(p, until) : purge_wait_progress(p)) {
		r->inodes_purged = purge_count(p, &clean);
		r->verified = r->verified && clean;
		purge_end(fs, p);
	} else {
		r->verified = false;
	}
}

/* The purge of the drain goes on behind the wipe if the time for it is over. */
static void finish_purges(struct fsys *fs, struct gate_report *r)
{
	struct gate *g = fs->gate;
	bool clean = false;

	while (g->purges && purge_wait_progress(g->purges)) {
		r->inodes_purged = purge_count(g->purges, &clean);
		r->verified = clean;
		purge_end(fs, g->purges);
	}
	if (g->purges)
		r->verified = false;
}

static void note(struct gate_report *r, const char *text)
{
	size_t n = strlen(r->note);

	snprintf(r->note + n, sizeof(r->note) - n, "%s%s", n ? "; " : "", text);
}

static void lock_sequence(struct fsys *fs, struct gate_report *r)
{
	struct gate *g = fs->gate;
	bool settled;

	atomic_fetch_or(&g->door, DOOR_DRAIN);
	settled = wait_gone(g, INSIDE, r->started + SETTLE_NS) && transport_flush(r->started + SETTLE_NS);
	r->closed = gate_clock();
	r->verified = true;
	run_purge(fs, r, r->started + DRAIN_NS);
	r->last_read_ok = gate_clock(); /* of pages that the kernel had */
	if (!settled) /* a slow write may take its time, as long as there is any */
		(void)(wait_gone(g, INSIDE, r->started + DRAIN_NS) && transport_flush(r->started + DRAIN_NS));
	wait_gone(g, DRAINING, r->started + DRAIN_NS);
	atomic_fetch_or(&g->door, DOOR_SHUT);
	if (anybody(g, INSIDE) || anybody(g, DRAINING))
		note(r, "requests that hang in the backing store were given up");
	give_up(g);
	r->drained = gate_clock();
	volkeys_wipe(fs->vk);
	if (!memory_wipe(fs, gate_clock() + WIPE_NS))
		note(r, "threads that hang in the backing store still hold what they read");
	r->wiped = gate_clock();
	finish_purges(fs, r);
	if (!settled) { /* what they were answered meanwhile is in the kernel's caches again */
		run_purge(fs, r, 0);
	}
	r->purged = gate_clock();
	if (!settled || !r->verified)
		r->last_read_ok = r->purged;
}

/* Busy readers must not keep the processors from who locks; its threads inherit it.  As an ordinary user it stays as it
 * is.  Returns what to put back. */
static int hurry(int nice)
{
	id_t id = (id_t)syscall(SYS_gettid); /* "process" means thread here */
	int was = getpriority(PRIO_PROCESS, id);

	(void)setpriority(PRIO_PROCESS, id, nice);
	return was;
}

void gate_lock(struct fsys *fs, enum gate_reason reason, struct gate_report *out)
{
	struct gate *g = fs->gate;
	struct gate_report r = {.reason = reason, .wall = time(NULL), .started = gate_clock()};
	enum gate_state state;

	pthread_mutex_lock(&g->lock);
	state = g->state;
	if (state != GATE_LOCKED) {
		g->n_undrained = 0;
		g->last = r;
		atomic_store(&g->refused, 0);
		atomic_store(&g->first_refused, 0);
	}
	pthread_mutex_unlock(&g->lock);
	if (state != GATE_LOCKED) {
		int nice = hurry(-20);

		set_state(g, GATE_LOCKING, reason);
		lock_sequence(fs, &r);
		(void)hurry(nice);
		r.done = gate_clock();
		pthread_mutex_lock(&g->lock);
		r.undrained = g->last.undrained;
		g->last = r;
		g->has_last = true;
		pthread_mutex_unlock(&g->lock);
	}
	set_state(g, GATE_LOCKED, reason);
	if (out)
		(void)gate_last_report(fs, out);
}

void gate_unlock(struct fsys *fs)
{
	struct gate *g = fs->gate;

	transport_open();
	set_state(g, GATE_OPEN, GATE_NONE);
	atomic_fetch_and(&g->door, ~(DOOR_DRAIN | DOOR_SHUT));
}

void gate_start_locked(struct fsys *fs, enum gate_reason reason)
{
	set_state(fs->gate, GATE_LOCKED, reason);
	atomic_fetch_or(&fs->gate->door, DOOR_DRAIN | DOOR_SHUT);
}

void gate_set_grace(struct fsys *fs, bool grace)
{
	struct gate *g = fs->gate;

	if (gate_state(fs, NULL, NULL) == (grace ? GATE_OPEN : GATE_GRACE))
		set_state(g, grace ? GATE_GRACE : GATE_OPEN, GATE_NONE);
}

void gate_set_deadline(struct fsys *fs, uint64_t boottime_ns)
{
	struct gate *g = fs->gate;

	if (boottime_ns) {
		atomic_store(&g->deadline, boottime_ns);
		atomic_fetch_or(&g->door, DOOR_LEASE);
	} else {
		atomic_fetch_and(&g->door, ~DOOR_LEASE);
	}
}

/* ---- for status ---- */

enum gate_state gate_state(const struct fsys *fs, enum gate_reason *reason, time_t *since)
{
	struct gate *g = fs->gate;
	enum gate_state state;

	pthread_mutex_lock(&g->lock);
	state = g->state;
	if (reason)
		*reason = g->reason;
	if (since)
		*since = g->since;
	pthread_mutex_unlock(&g->lock);
	return state;
}

bool gate_last_report(const struct fsys *fs, struct gate_report *out)
{
	struct gate *g = fs->gate;
	bool has;

	pthread_mutex_lock(&g->lock);
	*out = g->last;
	has = g->has_last;
	out->refused = atomic_load(&g->refused);
	out->first_refused = atomic_load(&g->first_refused);
	pthread_mutex_unlock(&g->lock);
	return has;
}

size_t gate_undrained(const struct fsys *fs, uint64_t *ino, size_t room)
{
	struct gate *g = fs->gate;
	size_t n;

	pthread_mutex_lock(&g->lock);
	n = g->n_undrained < room ? g->n_undrained : room;
	memcpy(ino, g->undrained, n * sizeof(*ino));
	pthread_mutex_unlock(&g->lock);
	return n;
}

const char *gate_state_name(enum gate_state s)
{
	static const char *const name[] = {"OPEN", "GRACE", "LOCKING", "LOCKED"};

	return name[s];
}

const char *gate_reason_name(enum gate_reason r)
{
	static const char *const name[] = {"none", "revoked", "unavailable", "manual", "waiting"};

	return name[r];
}
