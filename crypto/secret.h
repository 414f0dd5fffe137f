/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret - key bytes in guarded, locked, never dumped, always wiped memory (libsodium), and the same for everything
 * OpenSSL allocates.
 *
 * Threads: all functions may be called from any thread; one struct secret must not be freed while it is in use.
 */
#pragma once
#include "crypto/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct secret; /* opaque: length and bytes */

/*
 * secret_hook_openssl - routes every OpenSSL allocation into locked, wiped memory.  Must be the first thing the process
 * does that touches OpenSSL; ERR_BUG if something came before.  Memory is locked at the first allocation, and memory
 * locks are not inherited over fork(2): a daemon forks before it touches OpenSSL.
 */
enum err secret_hook_openssl(void) MUST_CHECK;

/*
 * secret_setup - once per process, after the last fork (memory locks are not inherited): no core dumps (RLIMIT_CORE 0,
 * PR_SET_DUMPABLE 0), RLIMIT_MEMLOCK raised to its hard limit, first locked arena.  Fails with a remedy in why
 * (limits.conf, LimitMEMLOCK=) if memory can't be locked.  Calling it again is harmless.
 */
enum err secret_setup(struct err_why *why) MUST_CHECK;

/*
 * secret_teardown - the last thing the process does, with no other thread left: cleans OpenSSL up, then wipes and
 * releases all locked memory.  Later allocations fail, later frees are ignored; free every struct secret before.
 */
void secret_teardown(void);

enum err secret_new(size_t len, struct secret **out) MUST_CHECK;	     /* zeroed */
enum err secret_take(void *src, size_t len, struct secret **out) MUST_CHECK; /* copies, wipes src on every path */
uint8_t *secret_bytes(struct secret *s);				     /* borrowed until secret_free */
const uint8_t *secret_view(const struct secret *s);			     /* borrowed until secret_free */
size_t secret_len(const struct secret *s);
void secret_free(struct secret *s); /* wipes; NULL is fine */

/* Locked, wiped-on-free general memory (the arena that OpenSSL uses too); for plaintext buffers and derived keys.
 * Aligned to 64 bytes; NULL when locked memory is exhausted. */
void *locked_alloc(size_t len);
void locked_free(void *p); /* wipes the whole allocation; NULL is fine */
/* For libraries that let their allocator be replaced.  As locked_alloc(), but aligned to 16 bytes only, for half the
 * memory. */
void *locked_alloc_packed(size_t len);
/* As realloc(3), packed; a block left behind is wiped. */
void *locked_realloc(void *p, size_t len);
/* Frees p wherever it comes from, here or malloc(3): for a library that had allocated before its allocator was
 * replaced. */
void locked_free_any(void *p);

void secret_wipe(void *p, size_t len);			     /* never optimized away */
bool secret_equal(const void *a, const void *b, size_t len); /* constant time */

struct locked_stats {
	size_t arena_bytes, in_use_bytes;
	unsigned long allocations;
};
void locked_stats_get(struct locked_stats *out);
