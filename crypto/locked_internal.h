/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locked - the allocator behind locked_alloc(), OpenSSL and struct secret.  Shared by secret.c and locked.c only.
 *
 * Threads: all functions may be called from any thread, except locked_stop().
 */
#pragma once
#include "crypto/err.h"
#include <stddef.h>

#define SECRET_MAX ((size_t)1 << 24)

/* First arena now instead of at the first allocation.  errno says why on failure. */
enum err locked_start(void) MUST_CHECK;
/* Wipes and releases every arena and chunk; from then on allocations fail and frees are ignored. */
void locked_stop(void);

/* A region of its own between guard pages, zeroed, its lock verified; NULL if it can't be had. */
void *locked_chunk_new(size_t len);
void locked_chunk_free(void *p, size_t len);
