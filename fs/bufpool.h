/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bufpool - I/O buffers by size class.  Locked buffers (for plaintext) come from crypto/secret's locked memory, within
 * a budget that an ordinary user's RLIMIT_MEMLOCK allows: who finds it used up waits.  Ciphertext buffers are plain
 * heap memory. Locked buffers are wiped when they leave the pool.  Threads: any.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum buf_kind { BUF_LOCKED, BUF_PLAIN };

int bufpool_init(void); /* 0 or errno */
void bufpool_free(void);

/* A buffer of at least len bytes, aligned to 64; NULL only if the heap is exhausted.  At most one locked buffer of more
 * than a page per thread. */
void *buf_get(enum buf_kind kind, size_t len);
void buf_put(enum buf_kind kind, void *p, size_t len); /* the same len as for buf_get */

/* Wipes all that are not in use. */
void bufpool_wipe(void);

/* Page buffers for tail caches: NULL when the bound is reached; locked, wiped when put back. */
uint8_t *buf_page_try(void);
uint8_t *buf_page(void); /* waits instead */
void buf_page_put(uint8_t *page);
