/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prober - a thread that proves again and again that the customer's key still unwraps, and says what it found.
 *
 * Every probe is a real unwrap of the volume's layer key (volume_keeper_probe).  What follows from the answers is
 * lease.c's business; what becomes of the volume is the warden's, who hears of each.  Mounts of one user under one key
 * share their probes (share.h).  While the volume is not open the keeper is closed between probes, so that no token
 * stays in memory.
 *
 * Threads: the functions may be called from any.
 */
#pragma once
#include "fs/lease.h"
#include "keyprov/volume.h"
#include <stdbool.h>
#include <stdint.h>

struct prober;

struct probe_news {
	enum probe_result result;
	enum lease_verdict verdict;
	uint64_t began, lease_end;	     /* CLOCK_BOOTTIME ns */
	const struct keyprov_detail *detail; /* borrowed */
	const char *why;		     /* borrowed; empty if it succeeded */
	bool shared;			     /* another mount's probe */
};

struct prober_config {
	const struct fips *fips;
	/* On the prober's thread, after each probe. */
	void (*heard)(void *arg, const struct probe_news *news);
	void *arg;
};

enum err prober_start(const struct prober_config *cfg, struct prober **out, struct err_why *why) MUST_CHECK;
/* Cuts a probe under way short; no news after it.  NULL is fine. */
void prober_stop(struct prober *p);
void prober_free(struct prober *p); /* after prober_stop, and when nobody calls any more; NULL is fine */

/* Probe for this keeper from now on (taken over, k is emptied); k NULL: no customer's key is on.
 * confirmed: when its last unwrap began; 0: never. */
void prober_set(struct prober *p, struct keeper *k, uint64_t confirmed);
/* Probe at once, on a new connection, whatever others have found. */
void prober_now(struct prober *p);
/* Somebody else's unwrap that began then succeeded; returns the new end of the lease, 0 without a customer's key. */
uint64_t prober_confirmed(struct prober *p, uint64_t began);
/* The volume could not be opened although the keeper said yes. */
void prober_stumbled(struct prober *p);
/* Is the volume locked?  Then probes follow each other quickly at first, and leave no connection and no token.  What is
 * there is dropped, a probe under way cut short. */
void prober_set_locked(struct prober *p, bool locked);
/* Waits until that is done; false if it was not within two seconds. */
bool prober_quiet(struct prober *p);
/* Paused: a volume locked by hand needs none. */
void prober_pause(struct prober *p, bool paused);

struct prober_status {
	bool on;
	unsigned probe_seconds, lease_seconds;
	uint64_t confirmed, lease_end, next; /* CLOCK_BOOTTIME ns; 0: none */
	unsigned long probes, shared;
};
void prober_status(struct prober *p, struct prober_status *out);

/* CLOCK_BOOTTIME in ns. */
uint64_t boottime_ns(void);
