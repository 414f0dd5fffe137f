/* SPDX-License-Identifier: Apache-2.0 */
/* lease - see lease.h. */
#include "fs/lease.h"

#define CALL_NS	     (30 * LEASE_SECOND) /* a probe is over by then, one way or the other */
#define BACK_OFF     10u		 /* doublings at most: 1 s to 1024 s */
#define JITTER_PARTS 1000u

void lease_start(struct lease *l, unsigned probe_seconds, unsigned lease_seconds, uint64_t confirmed)
{
	*l = (struct lease){
		.interval = probe_seconds * LEASE_SECOND,
		.length = lease_seconds * LEASE_SECOND,
		.confirmed = confirmed,
	};
	/* Or the lease would run out between two probes that both succeed. */
	if (l->length && l->interval > l->length / 2)
		l->interval = l->length / 2;
}

uint64_t lease_end(const struct lease *l)
{
	if (l->length)
		return l->confirmed + l->length;
	return l->confirmed + l->interval + l->interval / 5 + 2 * CALL_NS;
}

enum lease_verdict lease_judge(struct lease *l, enum probe_result r, uint64_t began, uint64_t now)
{
	l->last = r;
	switch (r) {
	case PROBE_OK:
		if (began > l->confirmed)
			l->confirmed = began;
		l->denied = l->absent = l->bad = 0;
		return now < lease_end(l) ? LEASE_GOOD : LEASE_OVER;
	case PROBE_DENIED:
		l->bad++;
		l->absent = 0;
		return ++l->denied >= 2 ? LEASE_REVOKED : LEASE_CONFIRM;
	case PROBE_UNAVAILABLE:
		l->bad++;
		l->absent++;
		break;
	}
	if (now >= lease_end(l))
		return LEASE_OVER;
	if (l->length)
		return LEASE_GRACE;
	return l->absent >= 2 ? LEASE_OVER : LEASE_CONFIRM;
}

void lease_stumble(struct lease *l)
{
	l->stumbles++;
}

void lease_opened(struct lease *l)
{
	l->stumbles = 0;
}

uint64_t lease_pause(const struct lease *l, bool locked, uint32_t random)
{
	unsigned trouble = l->bad > l->stumbles ? l->bad : l->stumbles;
	uint64_t pause = l->interval, step;

	/* Trouble: sooner than usual, and less and less often. */
	if (trouble || locked) {
		step = LEASE_SECOND << (trouble == 0 ? 0 : trouble > BACK_OFF ? BACK_OFF : trouble - 1);
		if (step < pause)
			pause = step;
	}
	/* 80 to 120 %, so that hosts and mounts don't march in step */
	return pause / JITTER_PARTS * (800 + random % 401);
}
