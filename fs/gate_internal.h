/* SPDX-License-Identifier: Apache-2.0 */
/* gate_internal - shared by gate*.c and the callbacks' way through the gate (gate_ops.c, reply.c). */
#pragma once
#include "fs/fsys_internal.h"
#include "fs/gate.h"
#include <pthread.h>
#include <stdatomic.h>

/* Bits of the door; 0: everybody may enter. */
#define DOOR_DRAIN 1u /* only the kernel's writing back of dirty pages is admitted */
#define DOOR_SHUT  2u /* nobody is */
#define DOOR_LEASE 4u /* the deadline has to be looked at */

#define GATE_SLOTS     64u
#define GATE_UNDRAINED 64u /* inode numbers remembered */

struct gate_slot {		   /* threads share one only if there are more of them than slots */
	_Atomic uint32_t inside;   /* requests admitted through the open door */
	_Atomic uint32_t draining; /* pages being written back */
	_Atomic uint32_t replying; /* answers on their way to the kernel */
} __attribute__((aligned(64)));

struct purge;

struct gate {
	struct gate_slot slot[GATE_SLOTS];
	_Atomic unsigned door __attribute__((aligned(64)));
	_Atomic unsigned epoch; /* of the keys, from 1: counted up by each lock, when all who are still inside are given
				   up */
	_Atomic int refusal;	/* errno */
	_Atomic uint64_t deadline;
	_Atomic uint64_t refused __attribute__((aligned(64))), first_refused;

	pthread_mutex_t lock; /* protects the following */
	enum gate_state state;
	enum gate_reason reason;
	time_t since;
	struct gate_report last;
	bool has_last;
	struct fuse_session *session;
	uint64_t undrained[GATE_UNDRAINED];
	unsigned n_undrained;
	struct purge *purges; /* those not over yet; only by who locks */
};

struct gate *gate_new(void);
void gate_free(struct fsys *fs);
uint64_t gate_clock(void); /* CLOCK_BOOTTIME, nanoseconds */

/* gate_enter for a page that the kernel writes back: still admitted while dirty pages are drained. */
int gate_enter_writeback(struct fsys *fs, uint64_t ino);
void gate_leave_writeback(struct fsys *fs);

/* ---- gate_purge.c ---- */
/* Writes out and drops what the kernel has cached of every inode it knows, and gives files without a header theirs;
 * with threads of its own.  NULL: no memory. */
struct purge *purge_start(struct fsys *fs);
/* True if it is over, within the given time. */
bool purge_wait(struct purge *p, uint64_t until);
/* Goes on waiting as long as there is progress; false: it is stuck, in a read of the backing store that does not come
 * back. */
bool purge_wait_progress(struct purge *p);
uint64_t purge_count(const struct purge *p, bool *clean);
void purge_end(struct fsys *fs, struct purge *p); /* joins it; it may be stuck no longer than the backing store */

/* ---- gate_memory.c ---- */
/* Everything that is or was plaintext: tails, pooled buffers, request buffers, stacks.  False: some thread hangs in a
 * request at that time still. */
bool memory_wipe(struct fsys *fs, uint64_t until);
