/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate_purge - has the kernel write out and drop what it has cached.
 *
 * Invalidating an inode writes its dirty pages (of shared mappings; there is no writeback cache), takes them out of
 * every page table and drops them, with its attributes and ACLs.  Since nothing is read any more by then, a page that
 * is gone can't come back, and so can't become dirty again: what was drained stays drained.
 *
 * Such a call waits for pages that are being read or written, so it may hang as long as the backing store does.  Hence
 * threads of its own, which are joined at the latest when the mount ends; one that hangs is replaced, and the inode it
 * hangs at is gone through in pieces, so that no more is kept than what the hanging requests themselves are for.
 */
#include "fs/gate_internal.h"

#include "fs/content.h"
#include <time.h>
#include <utlist.h>

#define PURGERS	    3u
#define PURGERS_MAX 400u
#define STEP_NS	    500000L
#define SLOW_NS	    UINT64_C(100000000)	 /* one call; then it is taken to hang */
#define STUCK_NS    UINT64_C(2000000000) /* nothing else is left to do */
#define PIECE	    (1 << 20)		 /* the largest read or write */
#define STACK_BYTES (128u << 10)

struct piece_of { /* of an inode that a call hangs at */
	struct piece_of *next;
	fuse_ino_t id;
	off_t at;
};

struct purger {
	struct purge *purge;
	pthread_t thread;
	fuse_ino_t id;
	bool whole;		/* not a piece */
	_Atomic uint64_t calls; /* odd: in one */
	_Atomic bool over;
	/* of who waits */
	uint64_t seen, since;
	bool stuck;
};

struct purge {
	struct purge *prev, *next;
	struct fsys *fs;
	struct fuse_session *session;
	fuse_ino_t *id;
	size_t n;
	_Atomic size_t taken, done;
	_Atomic bool failed;
	pthread_mutex_t lock;
	struct piece_of *pieces; /* under lock */
	struct purger *purger[PURGERS_MAX];
	unsigned purgers;
	pthread_t settler;
	bool settles;
	_Atomic bool settled;
};

/* Every inode that the kernel knows. */
static bool collect(struct fsys *fs, struct purge *p)
{
	struct inode *i, *tmp;

	pthread_mutex_lock(&fs->table);
	p->id = malloc((HASH_CNT(hh_key, fs->by_key) + 1) * sizeof(*p->id));
	if (p->id) {
		p->id[p->n++] = FUSE_ROOT_ID;
		HASH_ITER(hh_key, fs->by_key, i, tmp)
		{
			if (i->nlookup > 0)
				p->id[p->n++] = inode_nodeid(i, &fs->root);
		}
	}
	pthread_mutex_unlock(&fs->table);
	return p->id != NULL;
}

static void drop(struct purge *p, struct purger *me, fuse_ino_t id, off_t at, off_t len)
{
	int rc;

	me->id = id;
	me->whole = len == 0;
	atomic_fetch_add(&me->calls, 1);
	rc = fuse_lowlevel_notify_inval_inode(p->session, id, at, len);
	atomic_fetch_add(&me->calls, 1);
	/* forgotten meanwhile; or the mount is gone */
	if (rc != 0 && rc != -ENOENT && rc != -ENOTCONN && rc != -ENODEV)
		atomic_store(&p->failed, true);
}

static struct piece_of *next_piece(struct purge *p)
{
	struct piece_of *x;

	pthread_mutex_lock(&p->lock);
	x = p->pieces;
	if (x)
		p->pieces = x->next;
	pthread_mutex_unlock(&p->lock);
	return x;
}

static void *purger(void *arg)
{
	struct purger *me = arg;
	struct purge *p = me->purge;
	struct piece_of *x;
	size_t k;

	while ((k = atomic_fetch_add(&p->taken, 1)) < p->n) {
		drop(p, me, p->id[k], 0, 0);
		atomic_fetch_add(&p->done, 1);
	}
	while ((x = next_piece(p))) {
		drop(p, me, x->id, x->at, PIECE);
		free(x);
	}
	atomic_store(&me->over, true);
	return NULL;
}

static bool start_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	bool ok;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ok = pthread_create(t, &attr, run, arg) == 0;
	pthread_attr_destroy(&attr);
	return ok;
}

static bool start_purger(struct purge *p)
{
	struct purger *one = p->purgers < PURGERS_MAX ? calloc(1, sizeof(*one)) : NULL;

	if (!one)
		return false;
	one->purge = p;
	if (!start_thread(&one->thread, purger, one)) {
		free(one);
		return false;
	}
	p->purger[p->purgers++] = one;
	return true;
}

/* The plaintext size of the file, if it is open: else no read or write of it can hang. */
static uint64_t size_of(struct fsys *fs, fuse_ino_t id)
{
	struct content *c = NULL;
	uint64_t size;

	pthread_mutex_lock(&fs->table);
	DL_FOREACH(fs->contents, c)
	{
		if (inode_nodeid(c->inode, &fs->root) == id)
			break;
	}
	if (c)
		c->refs++;
	pthread_mutex_unlock(&fs->table);
	if (!c)
		return 0;
	size = content_size(c);
	content_close(fs, c);
	return size;
}

static void take_apart(struct purge *p, fuse_ino_t id)
{
	uint64_t size = size_of(p->fs, id);

	for (uint64_t at = 0; at < size; at += PIECE) {
		struct piece_of *x = malloc(sizeof(*x));

		if (!x)
			return;
		x->id = id;
		x->at = (off_t)at;
		pthread_mutex_lock(&p->lock);
		x->next = p->pieces;
		p->pieces = x;
		pthread_mutex_unlock(&p->lock);
	}
}

/* Looks after the threads; true if none is at work but those that hang. */
static bool only_stuck(struct purge *p)
{
	uint64_t now = gate_clock();
	unsigned at_work = 0, replace = 0;

	for (unsigned k = 0; k < p->purgers; k++) {
		struct purger *one = p->purger[k];
		uint64_t calls = atomic_load(&one->calls);

		if (atomic_load(&one->over))
			continue;
		if (calls != one->seen || calls % 2 == 0) {
			one->seen = calls;
			one->since = now;
			one->stuck = false;
		} else if (!one->stuck && now - one->since > SLOW_NS) {
			one->stuck = true;
			if (one->whole)
				take_apart(p, one->id);
			replace++;
		}
		at_work += !one->stuck;
	}
	while (replace-- > 0 && start_purger(p))
		at_work++;
	return at_work == 0;
}

static bool is_over(struct purge *p)
{
	if (!atomic_load(&p->settled))
		return false;
	for (unsigned k = 0; k < p->purgers; k++) {
		if (!atomic_load(&p->purger[k]->over))
			return false;
	}
	return true;
}

/* The next open file that has no header yet, referenced. */
static struct content *next_fresh(struct fsys *fs)
{
	struct content *c = NULL;

	pthread_mutex_lock(&fs->table);
	DL_FOREACH(fs->contents, c)
	{
		if (c->loaded && c->fresh && c->writable)
			break;
	}
	if (c)
		c->refs++;
	pthread_mutex_unlock(&fs->table);
	return c;
}

static void *settler(void *arg)
{
	struct purge *p = arg;
	struct fsys *fs = p->fs;
	struct content *c;
	struct range all;
	int rc = 0;

	while (rc == 0 && (c = next_fresh(fs))) {
		range_lock(c, &all, 0, SECTORS_ALL, true);
		rc = content_settle(fs, c);
		range_unlock(c, &all);
		content_close(fs, c);
	}
	if (rc != 0) /* full disk: the last close tries again; till then nothing is lost but an empty file */
		atomic_store(&p->failed, true);
	atomic_store(&p->settled, true);
	return NULL;
}

struct purge *purge_start(struct fsys *fs)
{
	struct purge *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->fs = fs;
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_lock(&fs->gate->lock);
	p->session = fs->gate->session;
	pthread_mutex_unlock(&fs->gate->lock);
	if (!collect(fs, p)) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return NULL;
	}
	DL_APPEND(fs->gate->purges, p);
	if (p->session) {
		/* all names at once, those that are known not to be there included; kernels before 6.16 can't */
		(void)fuse_lowlevel_notify_increment_epoch(p->session);
		for (unsigned k = 0; k < PURGERS && start_purger(p); k++)
			;
		if (p->purgers == 0)
			atomic_store(&p->failed, true);
	}
	p->settles = start_thread(&p->settler, settler, p);
	if (!p->settles)
		(void)settler(p);
	return p;
}

static void step(void)
{
	const struct timespec ts = {0, STEP_NS};

	nanosleep(&ts, NULL);
}

bool purge_wait(struct purge *p, uint64_t until)
{
	while (!is_over(p)) {
		(void)only_stuck(p);
		if (gate_clock() >= until)
			return false;
		step();
	}
	return true;
}

bool purge_wait_progress(struct purge *p)
{
	uint64_t since = gate_clock();

	while (!is_over(p)) {
		if (!only_stuck(p))
			since = gate_clock();
		else if (gate_clock() - since > STUCK_NS)
			return false;
		step();
	}
	return true;
}

uint64_t purge_count(const struct purge *p, bool *clean)
{
	*clean = !atomic_load(&p->failed);
	return atomic_load(&p->done);
}

void purge_end(struct fsys *fs, struct purge *p)
{
	struct piece_of *x;

	if (p->settles)
		pthread_join(p->settler, NULL);
	for (unsigned k = 0; k < p->purgers; k++) {
		pthread_join(p->purger[k]->thread, NULL);
		free(p->purger[k]);
	}
	while ((x = next_piece(p)))
		free(x);
	DL_DELETE(fs->gate->purges, p);
	pthread_mutex_destroy(&p->lock);
	free(p->id);
	free(p);
}
