/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locked - a small allocator on locked memory that is wiped when freed.
 *
 * Arenas come from sodium_malloc(3): guard pages on both sides, left out of core dumps, and locked.  sodium_malloc()
 * hides a failed mlock(2), so we lock again and look.  Up to 2 KiB: slabs of one size class, with a bitmap of free
 * blocks, so that a double or foreign free is caught.  Up to 64 KiB: runs of whole pages.  Above: a chunk of its own.
 * Bookkeeping lives outside the locked memory, it tells sizes only.
 *
 * One mutex guards it all: no path that is run per sector allocates.
 */
#include "crypto/locked_internal.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "crypto/secret.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(p, len)	 __asan_poison_memory_region((p), (len))
#define UNPOISON(p, len) __asan_unpoison_memory_region((p), (len))
#else
#define POISON(p, len)	 ((void)(p), (void)(len))
#define UNPOISON(p, len) ((void)(p), (void)(len))
#endif

#define PAGE		  4096u
#define FIRST_ARENA_PAGES 128u /* 512 KiB: one provider and its algorithms */
#define ARENA_PAGES	  256u /* 1 MiB */
#define MAX_ARENAS	  256u
#define MAX_CHUNKS	  1024u
#define SMALL_MAX	  2048u
#define RUN_MAX		  65536u
#define NONE		  UINT32_MAX

static const uint16_t class_size[] = {
	16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 1344, 2048};
#define CLASSES (sizeof(class_size) / sizeof(class_size[0]))

enum page_kind { PAGE_FREE = 0, PAGE_SLAB, PAGE_RUN, PAGE_TAIL };

struct page {
	enum page_kind kind;
	uint8_t cls;	       /* PAGE_SLAB */
	uint16_t blocks, used; /* PAGE_SLAB */
	uint32_t pages;	       /* of this slab or run */
	uint32_t head;	       /* PAGE_TAIL: first page of the slab or run */
	uint64_t free[4];      /* PAGE_SLAB: one bit per free block */
	uint32_t next, prev;   /* slabs with a free block: global page numbers, see page_at() */
};

struct arena {
	uint8_t *base;
	uint32_t pages, free_pages;
	struct page page[ARENA_PAGES];
};

static struct {
	pthread_mutex_t mutex;
	bool started, stopped;
	struct arena *arena[MAX_ARENAS];
	uint32_t arenas;
	uint32_t partial[CLASSES]; /* first slab with a free block, NONE if none */
	struct {
		void *p;
		size_t len;
	} chunk[MAX_CHUNKS]; /* large allocations made through locked_alloc() */
	struct locked_stats stats;
} heap = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Page numbers are global: arena index * ARENA_PAGES + page in it. */
static struct page *page_at(uint32_t n)
{
	return &heap.arena[n / ARENA_PAGES]->page[n % ARENA_PAGES];
}

static uint8_t *page_addr(uint32_t n)
{
	return heap.arena[n / ARENA_PAGES]->base + (size_t)(n % ARENA_PAGES) * PAGE;
}

static size_t slab_pages(uint32_t cls)
{
	return class_size[cls] <= 512 ? 1 : 2;
}

/* The soft limit is often far below the hard one; only sinks what we may do anyway. */
static void raise_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_MEMLOCK, &lim) || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	(void)setrlimit(RLIMIT_MEMLOCK, &lim);
}

static void *region_new(size_t len)
{
	void *p = sodium_malloc(len);

	if (!p)
		return NULL;
	if (mlock(p, len)) {
		int saved = errno;

		sodium_free(p);
		errno = saved;
		return NULL;
	}
	memset(p, 0, len);
	heap.stats.arena_bytes += len;
	return p;
}

static void region_free(void *p, size_t len)
{
	UNPOISON(p, len);
	heap.stats.arena_bytes -= len;
	sodium_free(p); /* wipes */
}

static bool start_locked(void)
{
	if (heap.stopped) {
		errno = ENOMEM;
		return false;
	}
	if (heap.started)
		return true;
	if (sodium_init() < 0) {
		errno = ENOSYS;
		return false;
	}
	raise_limit();
	for (size_t i = 0; i < CLASSES; i++)
		heap.partial[i] = NONE;
	heap.started = true;
	return true;
}

static bool arena_add(void)
{
	struct arena *a;
	uint32_t pages = heap.arenas == 0 ? FIRST_ARENA_PAGES : ARENA_PAGES;

	if (heap.arenas == MAX_ARENAS)
		return false;
	a = calloc(1, sizeof(*a));
	if (!a)
		return false;
	a->base = region_new((size_t)pages * PAGE);
	if (!a->base) {
		free(a);
		return false;
	}
	POISON(a->base, (size_t)pages * PAGE);
	a->pages = pages;
	a->free_pages = pages;
	heap.arena[heap.arenas++] = a;
	return true;
}

static uint32_t run_find(const struct arena *a, uint32_t want)
{
	uint32_t have = 0;

	if (a->free_pages < want)
		return NONE;
	for (uint32_t i = 0; i < a->pages; i++) {
		have = a->page[i].kind == PAGE_FREE ? have + 1 : 0;
		if (have == want)
			return i + 1 - want;
	}
	return NONE;
}

/* Takes a run of pages, growing the heap if need be; NONE when locked memory is exhausted. */
static uint32_t run_take(uint32_t want, enum page_kind kind)
{
	for (uint32_t i = 0;; i++) {
		struct arena *a;
		uint32_t at;

		if (i == heap.arenas && !arena_add())
			return NONE;
		a = heap.arena[i];
		at = run_find(a, want);
		if (at == NONE)
			continue;
		a->page[at] = (struct page){.kind = kind, .pages = want, .next = NONE, .prev = NONE};
		for (uint32_t k = 1; k < want; k++)
			a->page[at + k] = (struct page){.kind = PAGE_TAIL, .head = at};
		a->free_pages -= want;
		return i * ARENA_PAGES + at;
	}
}

static void run_release(uint32_t n)
{
	struct page *p = page_at(n);
	uint32_t pages = p->pages;

	for (uint32_t k = 0; k < pages; k++)
		p[k].kind = PAGE_FREE;
	heap.arena[n / ARENA_PAGES]->free_pages += pages;
}

static void partial_push(uint32_t n)
{
	struct page *p = page_at(n);

	p->prev = NONE;
	p->next = heap.partial[p->cls];
	if (p->next != NONE)
		page_at(p->next)->prev = n;
	heap.partial[p->cls] = n;
}

static void partial_drop(uint32_t n)
{
	struct page *p = page_at(n);

	if (p->prev != NONE)
		page_at(p->prev)->next = p->next;
	else
		heap.partial[p->cls] = p->next;
	if (p->next != NONE)
		page_at(p->next)->prev = p->prev;
	p->next = NONE;
	p->prev = NONE;
}

static uint32_t slab_new(uint32_t cls)
{
	uint32_t n = run_take((uint32_t)slab_pages(cls), PAGE_SLAB);
	struct page *p;

	if (n == NONE)
		return NONE;
	p = page_at(n);
	p->cls = (uint8_t)cls;
	p->blocks = (uint16_t)(slab_pages(cls) * PAGE / class_size[cls]);
	for (uint32_t b = 0; b < p->blocks; b++)
		p->free[b / 64] |= (uint64_t)1 << (b % 64);
	partial_push(n);
	return n;
}

static void *small_alloc(uint32_t cls, size_t len)
{
	uint32_t n = heap.partial[cls];
	uint32_t word = 0, bit;
	struct page *p;
	uint8_t *at;

	if (n == NONE)
		n = slab_new(cls);
	if (n == NONE)
		return NULL;
	p = page_at(n);
	while (p->free[word] == 0)
		word++;
	bit = (uint32_t)__builtin_ctzll(p->free[word]);
	p->free[word] &= ~((uint64_t)1 << bit);
	if (++p->used == p->blocks)
		partial_drop(n);
	at = page_addr(n) + (size_t)(word * 64 + bit) * class_size[cls];
	UNPOISON(at, len);
	heap.stats.in_use_bytes += class_size[cls];
	return at;
}

static void small_free(uint32_t n, uint8_t *at)
{
	struct page *p = page_at(n);
	size_t size = class_size[p->cls];
	size_t off = (size_t)(at - page_addr(n));
	uint32_t b = (uint32_t)(off / size);
	uint64_t mask = (uint64_t)1 << (b % 64);

	if (off % size != 0 || b >= p->blocks || (p->free[b / 64] & mask))
		abort(); /* foreign pointer or double free: keys are at stake */
	UNPOISON(at, size);
	sodium_memzero(at, size);
	POISON(at, size);
	p->free[b / 64] |= mask;
	heap.stats.in_use_bytes -= size;
	if (p->used-- == p->blocks)
		partial_push(n);
	/* One empty slab per class is kept, else a lone allocation in a loop would go through run_take() each time. */
	if (p->used == 0 && (p->next != NONE || p->prev != NONE)) {
		partial_drop(n);
		run_release(n);
	}
}

static void *run_alloc(size_t len)
{
	uint32_t pages = (uint32_t)((len + PAGE - 1) / PAGE);
	uint32_t n = run_take(pages, PAGE_RUN);

	if (n == NONE)
		return NULL;
	UNPOISON(page_addr(n), len);
	heap.stats.in_use_bytes += (size_t)pages * PAGE;
	return page_addr(n);
}

static void run_free(uint32_t n)
{
	size_t len = (size_t)page_at(n)->pages * PAGE;

	UNPOISON(page_addr(n), len);
	sodium_memzero(page_addr(n), len);
	POISON(page_addr(n), len);
	heap.stats.in_use_bytes -= len;
	run_release(n);
}

static void *chunk_alloc(size_t len)
{
	/* Whole pages, so that the result is page-aligned: sodium_malloc() aligns the end. */
	size_t rounded = (len + PAGE - 1) & ~(size_t)(PAGE - 1);

	for (size_t i = 0; i < MAX_CHUNKS; i++) {
		if (heap.chunk[i].p)
			continue;
		heap.chunk[i].p = region_new(rounded);
		if (!heap.chunk[i].p)
			return NULL;
		heap.chunk[i].len = rounded;
		heap.stats.in_use_bytes += rounded;
		return heap.chunk[i].p;
	}
	return NULL;
}

static size_t chunk_find(const void *p)
{
	for (size_t i = 0; i < MAX_CHUNKS; i++) {
		if (heap.chunk[i].p == p)
			return i;
	}
	return MAX_CHUNKS;
}

/* The slab or run that holds p; NONE if no arena does. */
static uint32_t run_of(const void *p)
{
	uintptr_t at = (uintptr_t)p;

	for (uint32_t i = 0; i < heap.arenas; i++) {
		const struct arena *a = heap.arena[i];
		uintptr_t base = (uintptr_t)a->base;
		uint32_t k;

		if (at < base || at >= base + (uintptr_t)a->pages * PAGE)
			continue;
		k = (uint32_t)((at - base) / PAGE);
		if (a->page[k].kind == PAGE_TAIL)
			k = a->page[k].head;
		return i * ARENA_PAGES + k;
	}
	return NONE;
}

static void *alloc_locked(size_t len, bool aligned)
{
	if (!start_locked() || len > SECRET_MAX)
		return NULL;
	heap.stats.allocations++;
	if (len > RUN_MAX)
		return chunk_alloc(len);
	if (len > SMALL_MAX)
		return run_alloc(len);
	for (uint32_t cls = 0; cls < CLASSES; cls++) {
		if (class_size[cls] >= len && (!aligned || class_size[cls] % 64 == 0))
			return small_alloc(cls, len);
	}
	return NULL;
}

static void free_locked(void *p)
{
	uint32_t n;
	size_t c;

	if (!p || heap.stopped)
		return;
	n = run_of(p);
	if (n == NONE) {
		c = chunk_find(p);
		if (c == MAX_CHUNKS)
			abort(); /* not ours */
		heap.stats.in_use_bytes -= heap.chunk[c].len;
		region_free(p, heap.chunk[c].len);
		heap.chunk[c].p = NULL;
		return;
	}
	switch (page_at(n)->kind) {
	case PAGE_SLAB:
		small_free(n, p);
		return;
	case PAGE_RUN:
		if (p == page_addr(n)) {
			run_free(n);
			return;
		}
		break;
	case PAGE_FREE:
	case PAGE_TAIL:
		break;
	}
	abort(); /* double free */
}

/* Bytes usable at p. */
static size_t capacity(const void *p)
{
	uint32_t n = run_of(p);
	size_t c;

	if (n == NONE) {
		c = chunk_find(p);
		return c < MAX_CHUNKS ? heap.chunk[c].len : 0;
	}
	return page_at(n)->kind == PAGE_SLAB ? class_size[page_at(n)->cls] : (size_t)page_at(n)->pages * PAGE;
}

enum err locked_start(void)
{
	bool ok;

	pthread_mutex_lock(&heap.mutex);
	ok = start_locked() && (heap.arenas > 0 || arena_add());
	pthread_mutex_unlock(&heap.mutex);
	return ok ? ERR_OK : ERR_NOMEM;
}

void locked_stop(void)
{
	pthread_mutex_lock(&heap.mutex);
	for (size_t i = 0; i < MAX_CHUNKS; i++) {
		if (heap.chunk[i].p)
			region_free(heap.chunk[i].p, heap.chunk[i].len);
		heap.chunk[i].p = NULL;
	}
	for (uint32_t i = 0; i < heap.arenas; i++) {
		region_free(heap.arena[i]->base, (size_t)heap.arena[i]->pages * PAGE);
		free(heap.arena[i]);
		heap.arena[i] = NULL;
	}
	heap.arenas = 0;
	heap.stopped = true;
	heap.stats.in_use_bytes = 0;
	pthread_mutex_unlock(&heap.mutex);
}

void *locked_alloc(size_t len)
{
	void *p;

	pthread_mutex_lock(&heap.mutex);
	p = alloc_locked(len > 0 ? len : 1, true);
	pthread_mutex_unlock(&heap.mutex);
	return p;
}

void *locked_alloc_packed(size_t len)
{
	void *p;

	pthread_mutex_lock(&heap.mutex);
	p = alloc_locked(len, false);
	pthread_mutex_unlock(&heap.mutex);
	return p;
}

void *locked_realloc(void *p, size_t len)
{
	void *new = NULL;
	size_t have;

	if (len == 0) {
		locked_free(p);
		return NULL;
	}
	pthread_mutex_lock(&heap.mutex);
	have = p ? capacity(p) : 0;
	if (have >= len && len > have / 2) {
		UNPOISON(p, len);
		new = p;
		goto out;
	}
	new = alloc_locked(len, false);
	if (new &&p) {
		UNPOISON(p, have);
		memcpy(new, p, have < len ? have : len);
		free_locked(p);
	}
out:
	pthread_mutex_unlock(&heap.mutex);
	return new;
}

void locked_free(void *p)
{
	pthread_mutex_lock(&heap.mutex);
	free_locked(p);
	pthread_mutex_unlock(&heap.mutex);
}

void locked_free_any(void *p)
{
	bool ours;

	pthread_mutex_lock(&heap.mutex);
	/* When all is released already, nobody can tell whose it was: it ends with the process. */
	ours = heap.stopped || run_of(p) != NONE || (p && chunk_find(p) < MAX_CHUNKS);
	if (ours)
		free_locked(p);
	pthread_mutex_unlock(&heap.mutex);
	if (!ours)
		free(p);
}

void *locked_chunk_new(size_t len)
{
	size_t rounded = (len + 15) & ~(size_t)15; /* sodium_malloc() aligns the end, this aligns the start */
	void *p = NULL;

	pthread_mutex_lock(&heap.mutex);
	if (start_locked())
		p = region_new(rounded);
	if (p)
		heap.stats.in_use_bytes += rounded;
	pthread_mutex_unlock(&heap.mutex);
	return p;
}

void locked_chunk_free(void *p, size_t len)
{
	size_t rounded = (len + 15) & ~(size_t)15;

	pthread_mutex_lock(&heap.mutex);
	region_free(p, rounded);
	if (!heap.stopped)
		heap.stats.in_use_bytes -= rounded;
	pthread_mutex_unlock(&heap.mutex);
}

void locked_stats_get(struct locked_stats *out)
{
	pthread_mutex_lock(&heap.mutex);
	*out = heap.stats;
	pthread_mutex_unlock(&heap.mutex);
}
