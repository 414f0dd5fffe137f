/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport - what libfuse's threads hold, which the gate has to know of when it locks: the buffers that requests were
 * read into, the stacks they were served on, and, with io_uring, answers that wait to be handed to the kernel.
 *
 * Only the thread that owns a buffer may wipe it, since the kernel may put the next request there at any moment.  So
 * each does it by itself, on its way to wait for the next request (the linker redirects these calls of libfuse's to
 * here), and who waits already is woken by a signal.
 *
 * One mount in a process.  All but the redirected functions: by the thread that locks and unlocks.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* times: CLOCK_BOOTTIME, nanoseconds */

/* Waits until every answer prepared so far has been handed to the kernel; false: some thread hangs in a request. */
bool transport_flush(uint64_t until);
/* From here on an answer with content that was prepared before is not handed out, but the errno code is. */
void transport_give_up(int code);
/* Every thread wipes what it holds, and, until transport_open, after each request.  False: some thread hangs in one;
 * it does so when it comes back. */
bool transport_wipe(uint64_t until);
/* Before requests are admitted again. */
void transport_open(void);
/* Wipes what calls of the past have left on the stack of the calling thread. */
void stack_scrub(void);
