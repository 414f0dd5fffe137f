/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate_purge - has the kernel write out and drop what it has cached.
 *
 * Invalidating an inode writes its dirty pages (of shared mappings; there is no writeback cache), takes them out of
 * every page table and drops them, with its attributes and ACLs.  Since nothing is read any more by then, a page that
 * is gone can't come back, and so can't become dirty again: what was drained stays drained.
 *
 * Such a call waits for pages that are being read or written, so it may hang as long as the backing store does: hence
 * threads of its own, which are waited for a while and joined at the latest when the mount ends.
 */
#include "fs/gate_internal.h"

#include "fs/content.h"
#include <time.h>
#include <utlist.h>

#define PURGERS	 3u
#define STEP_NS	 500000L
#define STUCK_NS UINT64_C(3000000000) /* without any progress */
#define BATCH	 64u

struct purge {
	struct purge *prev, *next;
	struct fsys *fs;
	struct fuse_session *session;
	fuse_ino_t *id;
	size_t n;
	_Atomic size_t taken, done;
	_Atomic unsigned running;
	_Atomic bool failed;
	pthread_t thread[PURGERS + 1];
	unsigned threads;
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

static void *purger(void *arg)
{
	struct purge *p = arg;
	size_t from;

	while ((from = atomic_fetch_add(&p->taken, BATCH)) < p->n) {
		for (size_t k = from; k < from + BATCH && k < p->n; k++) {
			int rc = fuse_lowlevel_notify_inval_inode(p->session, p->id[k], 0, 0);

			/* forgotten meanwhile; or the mount is gone */
			if (rc != 0 && rc != -ENOENT && rc != -ENOTCONN && rc != -ENODEV)
				atomic_store(&p->failed, true);
			atomic_fetch_add(&p->done, 1);
		}
	}
	atomic_fetch_sub(&p->running, 1);
	return NULL;
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
	atomic_fetch_sub(&p->running, 1);
	return NULL;
}

static void start(struct purge *p, void *(*run)(void *))
{
	atomic_fetch_add(&p->running, 1);
	if (pthread_create(&p->thread[p->threads], NULL, run, p) == 0)
		p->threads++;
	else
		(void)run(p);
}

struct purge *purge_start(struct fsys *fs)
{
	struct purge *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->fs = fs;
	pthread_mutex_lock(&fs->gate->lock);
	p->session = fs->gate->session;
	pthread_mutex_unlock(&fs->gate->lock);
	if (!collect(fs, p)) {
		free(p);
		return NULL;
	}
	DL_APPEND(fs->gate->purges, p);
	if (p->session) {
		/* all names at once, those that are known not to be there included; kernels before 6.16 can't */
		(void)fuse_lowlevel_notify_increment_epoch(p->session);
		for (unsigned k = 0; k < PURGERS; k++)
			start(p, purger);
	}
	start(p, settler);
	return p;
}

static void step(void)
{
	const struct timespec ts = {0, STEP_NS};

	nanosleep(&ts, NULL);
}

bool purge_wait(struct purge *p, uint64_t until)
{
	while (atomic_load(&p->running) != 0) {
		if (gate_clock() >= until)
			return false;
		step();
	}
	return true;
}

bool purge_wait_progress(struct purge *p)
{
	size_t seen = SIZE_MAX;
	uint64_t since = 0;

	while (atomic_load(&p->running) != 0) {
		size_t done = atomic_load(&p->done);

		if (done != seen) {
			seen = done;
			since = gate_clock();
		} else if (gate_clock() - since > STUCK_NS) {
			return false;
		}
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
	for (unsigned k = 0; k < p->threads; k++)
		pthread_join(p->thread[k], NULL);
	DL_DELETE(fs->gate->purges, p);
	free(p->id);
	free(p);
}
