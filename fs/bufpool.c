/* SPDX-License-Identifier: Apache-2.0 */
/* bufpool - see bufpool.h. */
#include "fs/bufpool.h"

#include "crypto/secret.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static const size_t class_bytes[] = {12 << 10, 144 << 10, (1 << 20) + (32 << 10)};
#define N_CLASSES	 (sizeof(class_bytes) / sizeof(class_bytes[0]))
#define PAGE		 4096u
#define KEEP		 12	    /* idle buffers kept per class */
#define BUDGET_SMALL	 (3u << 20) /* of an 8 MiB limit; the rest is for keys and OpenSSL */
#define BUDGET_LARGE	 (64u << 20)
#define TAIL_PAGES_SMALL 128
#define TAIL_PAGES_LARGE 1024

struct free_buf {
	struct free_buf *next;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t room;
	struct free_buf *idle[2][N_CLASSES];
	unsigned n_idle[2][N_CLASSES];
	size_t budget, used; /* locked bytes, idle ones included */
	struct free_buf *pages;
	unsigned n_pages, max_pages, tail_pages;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = PTHREAD_COND_INITIALIZER};

int bufpool_init(void)
{
	struct rlimit rl;
	bool large = geteuid() == 0;

	if (!large && getrlimit(RLIMIT_MEMLOCK, &rl) == 0)
		large = rl.rlim_cur == RLIM_INFINITY || rl.rlim_cur >= 128u << 20;
	pool.budget = large ? BUDGET_LARGE : BUDGET_SMALL;
	pool.tail_pages = large ? TAIL_PAGES_LARGE : TAIL_PAGES_SMALL;
	pool.max_pages = pool.tail_pages + 64;
	return 0;
}

static void release(enum buf_kind kind, void *p)
{
	if (kind == BUF_LOCKED)
		locked_free(p);
	else
		free(p);
}

/* Frees idle locked buffers until need bytes fit; under the lock. */
static void shrink(size_t need)
{
	for (unsigned c = 0; c < N_CLASSES; c++) {
		while (pool.used + need > pool.budget && pool.idle[BUF_LOCKED][c]) {
			struct free_buf *b = pool.idle[BUF_LOCKED][c];

			pool.idle[BUF_LOCKED][c] = b->next;
			pool.n_idle[BUF_LOCKED][c]--;
			pool.used -= class_bytes[c];
			locked_free(b);
		}
	}
}

static unsigned class_of(size_t len)
{
	unsigned c = 0;

	while (c < N_CLASSES - 1 && class_bytes[c] < len)
		c++;
	return c;
}

void *buf_get(enum buf_kind kind, size_t len)
{
	unsigned c = class_of(len);
	void *p = NULL;

	if (class_bytes[c] < len)
		return NULL;
	pthread_mutex_lock(&pool.lock);
	for (;;) {
		if (pool.idle[kind][c]) {
			struct free_buf *b = pool.idle[kind][c];

			pool.idle[kind][c] = b->next;
			pool.n_idle[kind][c]--;
			p = b;
			break;
		}
		if (kind == BUF_PLAIN) {
			pthread_mutex_unlock(&pool.lock);
			return aligned_alloc(64, class_bytes[c]);
		}
		shrink(class_bytes[c]);
		if (pool.used + class_bytes[c] <= pool.budget) {
			p = locked_alloc(class_bytes[c]);
			if (p) {
				pool.used += class_bytes[c];
				break;
			}
			if (pool.used == 0) /* nothing of ours to wait for */
				break;
			pool.budget = pool.used; /* the limit is lower than we thought */
		}
		pthread_cond_wait(&pool.room, &pool.lock);
	}
	pthread_mutex_unlock(&pool.lock);
	return p;
}

void buf_put(enum buf_kind kind, void *p, size_t len)
{
	unsigned c = class_of(len);
	struct free_buf *b = p;

	if (!p)
		return;
	pthread_mutex_lock(&pool.lock);
	if (pool.n_idle[kind][c] < KEEP) {
		b->next = pool.idle[kind][c];
		pool.idle[kind][c] = b;
		pool.n_idle[kind][c]++;
		p = NULL;
	} else if (kind == BUF_LOCKED) {
		pool.used -= class_bytes[c];
	}
	if (kind == BUF_LOCKED)
		pthread_cond_broadcast(&pool.room);
	pthread_mutex_unlock(&pool.lock);
	if (p)
		release(kind, p);
}

static uint8_t *page_get(unsigned bound)
{
	struct free_buf *b = pool.pages;

	if (b) {
		pool.pages = b->next;
		return (uint8_t *)b;
	}
	if (pool.n_pages >= bound)
		return NULL;
	b = locked_alloc(PAGE);
	if (b)
		pool.n_pages++;
	return (uint8_t *)b;
}

uint8_t *buf_page_try(void)
{
	uint8_t *p;

	pthread_mutex_lock(&pool.lock);
	p = page_get(pool.tail_pages);
	pthread_mutex_unlock(&pool.lock);
	return p;
}

uint8_t *buf_page(void)
{
	uint8_t *p;

	pthread_mutex_lock(&pool.lock);
	while (!(p = page_get(pool.max_pages)) && pool.n_pages > 0)
		pthread_cond_wait(&pool.room, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
	return p;
}

void buf_page_put(uint8_t *page)
{
	struct free_buf *b = (struct free_buf *)(void *)page;

	if (!page)
		return;
	secret_wipe(page, PAGE);
	pthread_mutex_lock(&pool.lock);
	b->next = pool.pages;
	pool.pages = b;
	pthread_cond_broadcast(&pool.room);
	pthread_mutex_unlock(&pool.lock);
}

/* Behind their link; pages were wiped when they were put back. */
void bufpool_wipe(void)
{
	pthread_mutex_lock(&pool.lock);
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned c = 0; c < N_CLASSES; c++) {
			for (struct free_buf *b = pool.idle[k][c]; b; b = b->next)
				secret_wipe(b + 1, class_bytes[c] - sizeof(*b));
		}
	}
	pthread_mutex_unlock(&pool.lock);
}

void bufpool_free(void)
{
	pthread_mutex_lock(&pool.lock);
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned c = 0; c < N_CLASSES; c++) {
			while (pool.idle[k][c]) {
				struct free_buf *b = pool.idle[k][c];

				pool.idle[k][c] = b->next;
				release((enum buf_kind)k, b);
			}
			pool.n_idle[k][c] = 0;
		}
	}
	while (pool.pages) {
		struct free_buf *b = pool.pages;

		pool.pages = b->next;
		locked_free(b);
	}
	pool.n_pages = 0;
	pool.used = 0;
	pthread_mutex_unlock(&pool.lock);
}
