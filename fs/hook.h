/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook - the program of -o on_state_change=: told of each change of what may be done with a volume.
 *
 *	PROGRAM STATE REASON VOLUME MOUNTPOINT        OPEN, GRACE or LOCKED; none, revoked, unavailable, manual, waiting
 *
 * No shell, an environment of PATH and LANG only, / as the directory, no terminal.  One runs at a time, in order, on a
 * thread of its own, so locking never waits for it; one that takes longer than 30 s is killed, and when 16 changes
 * wait already the oldest is left out.
 */
#pragma once
#include "crypto/err.h"

struct hook;

/* Is it an absolute path to a program of root's or ours that nobody else can write?  ERR_CONFIG. */
enum err hook_check(const char *program, struct err_why *why) MUST_CHECK;
enum err hook_start(const char *program, const char *volume, const char *mountpoint, struct hook **out,
	struct err_why *why) MUST_CHECK;
/* Runs what waits, within a second in all; kills what runs then.  NULL is fine. */
void hook_stop(struct hook *h);
/* Never waits; NULL is fine. */
void hook_tell(struct hook *h, const char *state, const char *reason);
