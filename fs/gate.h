/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate - whether the volume's data may be touched now: OPEN, GRACE (the keeper can't be reached, the lease is good
 * still), LOCKED.  Every FUSE callback that touches data or names goes through it.
 *
 * The fast path of gate_enter is two atomic operations on a counter of the thread's own cache line; nobody waits for a
 * network in it.  Locking stops admission, waits (bounded) for those inside, drains dirty pages while the key is still
 * there, wipes keys and plaintext, drops the kernel's caches, verifies, and publishes the state, in this order
 * (DESIGN.md section 11).
 *
 * Threads: gate_enter and gate_leave from any; gate_lock and gate_unlock from one thread at a time, never from a FUSE
 * callback.
 */
#pragma once
#include "crypto/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct fsys;
struct fuse_session;

enum gate_state { GATE_OPEN, GATE_GRACE, GATE_LOCKING, GATE_LOCKED };
enum gate_reason {
	GATE_NONE,
	GATE_REVOKED,	  /* EKEYREVOKED: the customer said no */
	GATE_UNAVAILABLE, /* ENOKEY: the lease ran out */
	GATE_MANUAL,	  /* ENOKEY: "blobcryptfs lock" */
	GATE_WAITING,	  /* ENOKEY: mounted with wait_key, never opened yet */
};

/* Before the loop starts, instead of being open (wait_key): there has been no key yet, so nothing is drained or wiped.
 */
void gate_start_locked(struct fsys *fs, enum gate_reason reason);

/* 0, or the errno that the request has to fail with.  After 0: gate_leave exactly once. */
int gate_enter(struct fsys *fs);
void gate_leave(struct fsys *fs);
/* For threads of ours: true if it is open (then gate_leave); not counted as a refused request. */
bool gate_enter_quietly(struct fsys *fs);

/* Where to tell the kernel to drop its caches; NULL from when it is gone. */
void gate_attach(struct fsys *fs, struct fuse_session *session);

/* False: this thread's request was admitted before a lock that has given it up since: keys loaded later are not for it.
 * True for those who did not enter. */
bool gate_is_current(const struct fsys *fs);
/* Around each answer to the kernel: false if the request was given up, then the answer is gate_errno. */
bool gate_reply_begin(struct fsys *fs);
void gate_reply_end(struct fsys *fs);
int gate_errno(const struct fsys *fs);

struct gate_report { /* of a lock; times are CLOCK_BOOTTIME nanoseconds, wall is CLOCK_REALTIME at the start */
	enum gate_reason reason;
	time_t wall;
	uint64_t started, closed, drained, wiped, purged, done, last_read_ok, first_refused;
	uint64_t inodes_purged, undrained; /* files with dirty pages that could not be written in time */
	uint64_t refused;		   /* requests refused so far */
	/* last_read_ok: no read can have succeeded later, those from the kernel's cache included */
	bool verified;			   /* no page of any file is left in the kernel's cache */
	char note[256];
};
/* Locks; returns when the state is LOCKED.  Locking again changes the reason only. */
void gate_lock(struct fsys *fs, enum gate_reason reason, struct gate_report *out);
/* The keys are loaded again (volume_reload): admits requests. */
void gate_unlock(struct fsys *fs);
/* For status and the prober. */
void gate_set_grace(struct fsys *fs, bool grace);
/*
 * The end of the lease: CLOCK_BOOTTIME nanoseconds from which on gate_enter refuses with ENOKEY, whatever the state
 * says; 0: never (no customer's key, the default).  A suspend is over before any thread of ours has run, so gate_enter
 * itself compares; the vDSO serves CLOCK_BOOTTIME in about 25 ns, and no clock is read while it is 0.  From any thread.
 */
void gate_set_deadline(struct fsys *fs, uint64_t boottime_ns);
enum gate_state gate_state(const struct fsys *fs, enum gate_reason *reason, time_t *since);
const char *gate_state_name(enum gate_state s);
const char *gate_reason_name(enum gate_reason r);
/* The last lock's report; false if there was none. */
bool gate_last_report(const struct fsys *fs, struct gate_report *out);
/* Inode numbers of (at most room) files with pages that the last lock could not write in time; how many. */
size_t gate_undrained(const struct fsys *fs, uint64_t *ino, size_t room);
