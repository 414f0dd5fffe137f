/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve - the life of one mounted volume, from its descriptor to the clean end of its session.
 *
 * Runs in the process that stays (see daemon.h), which must not have touched OpenSSL before.  What is in struct mounted
 * is constant while the mount is up, but for volume, which belongs to the key worker meanwhile, and for what has a lock
 * of its own.
 */
#pragma once
#include "crypto/fips.h"
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/fsys.h"
#include "fs/hook.h"
#include "fs/keywork.h"
#include "fs/options.h"
#include "fs/prober.h"
#include "fs/warden.h"
#include "keyprov/volume.h"
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct serve_config {
	const char *dir, *mountpoint; /* absolute */
	const struct mount_options *opt;
	struct cli cli;
	/* Called once, when the mount answers; from another thread than serve()'s. */
	void (*up)(void *arg);
	void *up_arg;
};

struct mounted {
	const struct serve_config *cfg;
	struct fips *fips;
	struct volume *volume;
	struct volkeys *vk;
	struct session *session; /* NULL until the first opening; set under shown_lock */
	struct fsys *fs;
	struct fuse_session *fuse;
	struct control *control;
	struct keywork *work;
	struct prober *prober;
	struct warden *warden;
	struct hook *hook;	 /* NULL: no on_state_change */
	enum gate_reason closed; /* wait_key: why it came up locked; GATE_NONE: open */
	uint64_t unwrapped;	 /* CLOCK_BOOTTIME ns: when the unwrap that opened it began; 0: not open */
	json_t *key_override;	 /* -o managed_key=; NULL if none */
	bool read_only, uring_asked;
	const char *uring_reason; /* why io_uring was asked for, or not */
	time_t started;
	unsigned max_threads;
	char volume_hex[2 * ID_BYTES + 1];

	pthread_mutex_t shown_lock;
	json_t *shown; /* report_volume() as of the last change; protected by shown_lock */

	sem_t ready; /* posted by the init callback, or when the loop ended before it */
	atomic_bool loop_ended;
	atomic_bool told_to_end; /* by a signal, at once */
	atomic_bool is_up; /* up() has been called */
	dev_t dev;	   /* of the mount; 0 before */
	int stop_fd;	   /* eventfd: ends the signal thread */
	int probe_code;	   /* why it never came up; with probe_why */
	struct err_why probe_why;
};

/* Mounts, serves until unmounted, cleans up.  EXIT_OK, or the reason in why (not yet told to anybody). */
int serve(const struct serve_config *cfg, struct err_why *why);

/* ---- serve.c ---- */
/* The keys are there for the first time: begins the session.  EXIT_OK or a code. */
int serve_begin(struct mounted *m, struct err_why *why);
/* After an unclean session every file is looked at, by a thread of its own. */
void serve_recover(struct mounted *m);

/* ---- serve_key.c ---- */
/* Everything that has to do with keys while the mount is up: key worker, warden, prober, hook, control socket (without
 * which the mount goes on). */
int serve_key_start(struct mounted *m, struct err_why *why);
void serve_key_stop(struct mounted *m);
/* Those who may not touch the volume see it as it is now; by whoever owns it. */
void serve_show(struct mounted *m);

/* ---- serve_work.c ---- */
/* The key worker's handlers. */
json_t *serve_work(void *arg, const char *name, const json_t *args);
void serve_tick(void *arg);
/* Follows the descriptor: the keeper that the prober asks is the one of the key that is on now.  began: when it was
 * last known to unwrap; 0: never. */
void serve_follow_key(struct mounted *m, uint64_t began);

/* ---- serve_mount.c ---- */
/* Is FUSE over io_uring to be asked for?  reason: constant text for the status. */
bool uring_wanted(enum uring_choice choice, const char **reason);
/* Is it really in use?  What fsys saw the kernel offer may have been turned off or have failed. */
bool serve_uses_uring(const struct mounted *m);
/* Attaches at the mount point; the kernel's or fusermount3's own words go into why. */
int serve_attach(struct mounted *m, struct err_why *why);
/* Serves requests until the end of the mount. */
int serve_loop(struct mounted *m, struct err_why *why);
/* How many threads may serve requests. */
unsigned serve_threads(const struct mount_options *o);
/* Ends the FUSE session and takes away the mount if it is still there. */
void serve_detach(struct mounted *m);
