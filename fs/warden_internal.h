/* SPDX-License-Identifier: Apache-2.0 */
/* warden_internal - shared by warden.c and warden_report.c. */
#pragma once
#include "fs/warden.h"
#include <pthread.h>
#include <time.h>

#define LOCKERS 16u

struct fact { /* something the keeper said, or did not */
	time_t wall;
	uint64_t boot; /* CLOCK_BOOTTIME ns; 0: never */
	struct keyprov_detail detail;
	char why[512];
	bool shared;
};

struct locker {
	struct control *control;
	uint64_t ticket;
};

struct warden {
	struct mounted *m;
	pthread_t thread;
	int wake_fd, timer_fd;

	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t cond;  /* for warden_open */

	/* what is demanded */
	bool manual, revoked, over, grace;
	bool reopen; /* the keeper says yes, and we are locked */
	bool opening, opened, stop;
	uint64_t began; /* of the unwrap that brought the keys */
	uint64_t epoch; /* counts locks demanded */
	struct locker lockers[LOCKERS];
	unsigned n_lockers;

	/* what is */
	uint64_t lease_end; /* 0: no customer's key */
	bool told_grace;
	struct fact last_ok, last_denied, last_absent;
	struct fact first_denied, confirmed; /* of the trouble going on, or of the last one */
	unsigned long locks, denials, absences;
	unsigned long unwraps;	       /* since unwraps_told */
	uint64_t unwraps_told;	       /* CLOCK_BOOTTIME ns; 0: never */
	uint64_t locked_at, opened_at; /* CLOCK_BOOTTIME ns of the last change */
};
