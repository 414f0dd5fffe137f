/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options - the comma list behind -o: ours, mount(8)'s generic ones and those of libfuse.
 *
 * Pure parsing: nothing is opened or looked up but user and group names.  Every option is known by name; an unknown one
 * is an error, so that a misspelt "noexec" never passes silently.
 */
#pragma once
#include "crypto/err.h"
#include <stdbool.h>
#include <sys/types.h>

#define MAX_THREADS_LIMIT 1024u

enum uring_choice { URING_AUTO, URING_ON, URING_OFF };

struct mount_options {
	/* ours */
	char *managed_key; /* SPEC for managed_conf(); NULL: as the descriptor says */
	char *fips_dir;
	bool allow_non_fips, direct_io, reset_state, nonempty;
	char *audit_dir;       /* where the audit log lies; NULL: the usual place */
	bool wait_key;	       /* come up locked while the customer's key can't be had */
	char *on_state_change; /* program; NULL: none */
	enum uring_choice uring;
	unsigned max_threads;				      /* 0: by the number of processors */
	double attr_timeout, entry_timeout, negative_timeout; /* seconds */
	bool has_uid, has_gid, has_umask;
	uid_t uid;
	gid_t gid;
	mode_t umask;

	/* generic */
	unsigned long flags_on;	 /* MS_* asked for; disjoint from flags_off */
	unsigned long flags_off; /* MS_* asked not to be */
	bool remount;
	bool allow_other, no_allow_other, allow_root;
	bool default_permissions; /* asked for by name */
	char *fsname;		  /* NULL: the backing directory */
	char *subtype;		  /* NULL: "blobcryptfs" */
	char *context;		  /* SELinux options for the kernel, as given; NULL if none */
	char *userspace;	  /* x-*, _netdev: kept in /run/mount/utab; NULL if none */
};

/* Defaults. */
void options_init(struct mount_options *o);
void options_clear(struct mount_options *o);

/*
 * options_parse - adds the options in text to o; later ones win.
 *
 * A comma in a value is written as "\,", a backslash as "\\"; a value in double quotes may hold commas, as mount(8)
 * writes SELinux contexts.  sloppy: unknown options are passed over (mount -s). ERR_CONFIG: unknown option, missing or
 * impossible value; why names it.  ERR_NOMEM.
 */
enum err options_parse(struct mount_options *o, const char *text, bool sloppy, struct err_why *why) MUST_CHECK;

/*
 * options_checked_by_kernel - does the kernel check permissions (default_permissions)?  Always, but for a mount by root
 * that lets nobody else in: there is nothing to check, and it costs a round trip after every change of a directory.
 */
bool options_checked_by_kernel(const struct mount_options *o, bool as_root);

/*
 * options_for_fuse - the list that libfuse understands, escaped for its own parser: new string, NULL without memory.
 *
 * source: the backing directory; uring: ask for that transport; as_root: what a mount by root gets by default
 * (allow_other, suid, dev).
 */
char *options_for_fuse(const struct mount_options *o, const char *source, bool uring, bool as_root);
