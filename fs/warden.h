/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warden - the one thread that opens and locks a mounted volume's gate, and tells the world of it.
 *
 * It hears from three sides: the prober (what the keeper said), the control socket ("lock"), the key worker (the keys
 * are loaded).  None of them waits for a network while it is at work, and it never waits for one, so a volume can be
 * locked while a probe or a key operation hangs.  It also keeps the end of the lease itself.
 *
 * Every change goes to the audit log, to the messages, to systemd's status and to the program of on_state_change, in
 * this order, after it has happened.
 */
#pragma once
#include "crypto/err.h"
#include "fs/control.h"
#include "fs/gate.h"
#include "fs/prober.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct warden;
struct mounted;

/* fs, work, prober and hook of m are used from the first news on. */
enum err warden_start(struct mounted *m, struct warden **out, struct err_why *why) MUST_CHECK;
/* After the prober and the key worker have stopped; no more control_reply after it.  NULL is fine. */
void warden_stop(struct warden *w);
void warden_free(struct warden *w); /* after warden_stop, and when nobody calls any more; NULL is fine */
/* The volume was mounted without its key: tells so as any other change. */
void warden_came_up_locked(struct warden *w);

/* The prober's, after each probe. */
void warden_heard(struct warden *w, const struct probe_news *news);

/* "blobcryptfs lock": answers by control_reply when the volume is locked.  False: too many wait already. */
bool warden_lock(struct warden *w, const struct control_request *r) MUST_CHECK;

/* The key worker's: taken before the keys are loaded; 0: by no means now, since the volume is locked by hand and
 * by_hand is not set. */
uint64_t warden_ticket(struct warden *w, bool by_hand);
/* The keys are loaded, from an unwrap that began then: opens the gate and returns true; false: it was locked once more
 * since warden_ticket, so the keys have to be wiped again. */
bool warden_open(struct warden *w, uint64_t ticket, uint64_t began) MUST_CHECK;
/* "unlock" has met a keeper that says no, or nobody: the volume is not locked by hand any more, but for that. */
void warden_not_opened(struct warden *w, enum err e, const struct keyprov_detail *d, const char *why);
/* The customer's key has been turned on, changed or turned off; lease_end 0: off. */
void warden_key_changed(struct warden *w, uint64_t lease_end);
/* Is the volume open, in grace or not?  *reason: why not. */
bool warden_is_open(struct warden *w, enum gate_reason *reason);

struct warden_counts {
	unsigned long denials, failures, locks;
};
void warden_counts(struct warden *w, struct warden_counts *out);

/* ---- warden_report.c: new references, NULL without memory; never wait ---- */
/* For the status: {"state", "reason", "since", ...}. */
json_t *warden_report(struct warden *w);
/* What happened at the last lock, and when. */
json_t *warden_revocation(struct warden *w);
