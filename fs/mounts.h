/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mounts - what /proc/self/mountinfo says, by libmount, and paths as users give them.
 *
 * Nothing here touches a mounted filesystem of ours, so it works while one hangs or its daemon has died.
 */
#pragma once
#include "crypto/err.h"
#include <stdbool.h>
#include <sys/types.h>

#define MOUNT_TYPE "fuse.blobcryptfs"

struct mount_info {
	char *source; /* for ours: the backing directory, unless -o fsname= says otherwise */
	char *target, *fstype;
	unsigned long flags; /* MS_* of mount and superblock */
	uid_t user_id;	     /* FUSE: who mounted it */
	dev_t dev;	     /* st_dev of what is in it */
	bool is_ours;
};

/* The uppermost mount right at path (absolute).  ERR_NOT_FOUND: none. */
enum err mounts_at(const char *path, struct mount_info *out) MUST_CHECK;
/* The mount that path (absolute) is in. */
enum err mounts_around(const char *path, struct mount_info *out) MUST_CHECK;
/* The users who have mounted volumes, each once, up to max; returns how many. */
size_t mounts_owners(uid_t *out, size_t max);
void mount_info_clear(struct mount_info *m);

/*
 * mounts_remember - root only: notes options the kernel has no place for (x-*, _netdev) in /run/mount/utab, where
 * umount(8), findmnt(8) and systemd look.  Failure is of no consequence and not told.
 */
void mounts_remember(const char *source, const char *target, const char *options);

/* umount(8): by libmount for root, so that utab is kept, by fusermount3 for others; 0 or errno. */
int mounts_unmount(const char *target, bool lazy);

/* Absolute path without symlinks and dots; the last component is not looked at, so it may be a dead mount.  NULL with
 * errno. */
char *path_absolute(const char *path);

/* Is the directory inner the same as outer, or below it?  Follows the filesystem, not the text.  Descriptors may be
 * O_PATH. */
enum nesting { NESTING_NONE, NESTING_SAME, NESTING_BELOW };
enum nesting path_nesting(int inner, int outer);

/* Has the directory any entry but lost+found?  0, ENOTEMPTY or errno. */
int path_is_empty(const char *dir);
