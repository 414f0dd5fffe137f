/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsys - one mounted volume: what the FUSE callbacks work on.  The program (main, commands) makes it, gives fsys_ops
 * with it as userdata to fuse_session_new(), runs the loop and frees it after the loop.
 */
#pragma once
#define FUSE_USE_VERSION 318
#include "crypto/err.h"
#include "crypto/volkeys.h"
#include "keyprov/volume.h"
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fsys_options {
	bool read_only;
	bool direct_io;			  /* no page cache: FOPEN_DIRECT_IO on every file */
	bool kernel_checks;		  /* mounted with default_permissions: POSIX ACLs are checked too */
	bool has_uid, has_gid, has_umask; /* -o uid=, gid=, umask=: shown instead of the stored ones */
	uid_t uid;
	gid_t gid;
	mode_t umask;
	double attr_timeout, entry_timeout, negative_timeout; /* seconds */
	unsigned max_dirfds; /* bound of cached directory descriptors; 0: from RLIMIT_NOFILE */
};

struct fsys_counters { /* since mount; relaxed atomics */
	_Atomic uint64_t reads, read_bytes, writes, write_bytes, opens, creates, lookups, getattrs, readdirs, unlinks,
		renames, fsyncs;
	_Atomic uint64_t damage;   /* authentication failures and other damage found */
	_Atomic uint64_t accepted; /* unsynced tails of an unclean session accepted (FORMAT.md section 4) */
	_Atomic uint64_t inodes;   /* known to the kernel now */
	_Atomic uint64_t open_files, dirfds;
};

struct fsys;

/* All borrowed until fsys_free; vk, session and the volume's dirfd stay in use by worker threads until then. */
struct fsys_params {
	const struct volume *volume;
	struct volkeys *vk;
	const struct session *session; /* NULL: fsys_begin follows */
	struct fsys_options opt;
	void (*ready)(void *arg); /* called once from the init callback, when the kernel has answered */
	void *ready_arg;
};
enum err fsys_new(const struct fsys_params *p, struct fsys **out, struct err_why *why) MUST_CHECK;
/* The session of a mount that came up without its key (wait_key); before gate_unlock, which lets the first one in. */
void fsys_begin(struct fsys *fs, const struct session *session);
/* Closes everything, with the loop stopped.  True if every file is in a sound state, so that the session may be ended
 * cleanly. */
bool fsys_free(struct fsys *fs);

/*
 * After an unclean session: starts a thread that looks at every file once and mends it (recover.c).  When everything is
 * sound and synced it calls resolved(arg), which strikes the unclean sessions off durably and tells whether that
 * worked.  0 or errno; nothing to do is 0.
 */
int fsys_recover_start(struct fsys *fs, bool (*resolved)(void *arg), void *arg);
/* Ends it, finished or not; before fsys_free. */
void fsys_recover_stop(struct fsys *fs);

extern const struct fuse_lowlevel_ops fsys_ops;

const struct fsys_counters *fsys_counters(const struct fsys *fs);
/* "io_uring" or "/dev/fuse", known after ready. */
const char *fsys_transport(const struct fsys *fs);
/* Plain syncfs of the backing filesystem; 0 or errno. */
int fsys_sync(struct fsys *fs);
