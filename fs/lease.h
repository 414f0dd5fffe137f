/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease - what follows from the answers of a key's keeper: go on, go on for a while, lock.  Pure: no clock, no network,
 * no threads; times are CLOCK_BOOTTIME nanoseconds, which count suspends and don't jump.
 *
 * A confirmed unwrap lets the volume stay open for the lease, from the moment the probe began.  "No" has to be said
 * twice in a row before it counts, the second time on a fresh connection.  "Nobody there" is waited out until the end
 * of the lease; without a lease (strict) it has to be seen twice as well.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define LEASE_SECOND 1000000000ull

enum probe_result { PROBE_OK, PROBE_DENIED, PROBE_UNAVAILABLE };

enum lease_verdict {
	LEASE_GOOD,
	LEASE_CONFIRM, /* ask again at once, on a fresh connection */
	LEASE_GRACE,   /* nobody there; the lease is good still */
	LEASE_REVOKED,
	LEASE_OVER, /* nobody there, and the lease has run out */
};

struct lease {
	uint64_t interval, length; /* ns; length 0: strict */
	uint64_t confirmed;	   /* when the last probe that succeeded began */
	unsigned denied;	   /* "no" since then */
	unsigned absent;	   /* "nobody there" in a row */
	unsigned bad;		   /* anything but a success in a row */
	unsigned stumbles;	   /* the keeper says yes, and still the volume can't be opened: so often */
	enum probe_result last;
};

/* confirmed: when the unwrap that opened the volume began; 0: never opened. */
void lease_start(struct lease *l, unsigned probe_seconds, unsigned lease_seconds, uint64_t confirmed);
/* A probe that began at began and is over at now. */
enum lease_verdict lease_judge(struct lease *l, enum probe_result r, uint64_t began, uint64_t now);
/* The keeper said yes, but the volume could not be opened.  Until lease_opened. */
void lease_stumble(struct lease *l);
void lease_opened(struct lease *l);
/* When the volume must not be open any more without a further success.  Strict leaves the time of two probes. */
uint64_t lease_end(const struct lease *l);
/* Nanoseconds from now to the next probe.  locked: the volume is not open.  random: any number, for the jitter. */
uint64_t lease_pause(const struct lease *l, bool locked, uint32_t random);
