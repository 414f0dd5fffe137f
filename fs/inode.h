/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inode - the files and directories the kernel knows, keyed by backing (device, inode number), and how to reach them
 * again.
 *
 * No descriptor is kept per inode: that would end at RLIMIT_NOFILE.  An inode is reached through its *entry* (parent
 * directory, backing name), which only this daemon changes, since it holds the volume's lock; the result is compared
 * with (device, inode number).  An inode whose entry goes away while the kernel still knows it gets a *pin*, an O_PATH
 * descriptor, before that happens, so its inode number can't be reused either.  Directories in use have an O_PATH
 * descriptor in a bounded LRU.
 *
 * Locks, in order: fsys.names (shared: unlink, rmdir, rename from the system call to the table's update; exclusive: the
 * slow path of a lookup by entry that met one of those halfway), then fsys.table.  No system call is made under table.
 */
#pragma once
#include "fs/fsys.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <uthash.h>
#include <utlist.h>

struct content;

struct entry {		      /* where an inode was last seen; the key of the entry hash is parent and name */
	struct inode *parent; /* referenced */
	char name[];	      /* backing name */
};

struct inode_key {
	uint64_t dev, ino;
};

struct inode {
	struct inode_key key;
	UT_hash_handle hh_key, hh_entry;
	struct entry *entry;   /* NULL: root, pinned or never linked */
	uint64_t nlookup;      /* the kernel's references */
	uint32_t refs;	       /* ours: children's entries, callbacks at work, open content */
	uint32_t dir_pins;     /* users of dirfd right now */
	mode_t type;	       /* S_IFMT bits */
	int pin_fd;	       /* O_PATH, or -1 */
	int dirfd;	       /* directories: O_PATH, or -1 */
	bool has_id;	       /* dir_id below is right */
	_Atomic uint8_t caps;  /* file capability: CAPS_UNKNOWN, _NONE, _SOME */
	uint8_t id[ID_BYTES];  /* directories: directory id */
	_Atomic bool torn;     /* regular files: a lock cut a change short, see content_tear */
	_Atomic bool verified; /* regular files, after an unclean session: seen_size is right, or on disk */
	_Atomic uint64_t
		seen_size;	 /* what a read-only mount found, since it can't mend the hint; UINT64_MAX: see below */
	struct content *content; /* regular files in use; protected by fsys.table */
	struct inode *prev, *next; /* LRU of directories with a dirfd */
};

enum { CAPS_UNKNOWN, CAPS_NONE, CAPS_SOME };

static inline uint64_t inode_nodeid(const struct inode *i, const struct inode *root)
{
	return i == root ? FUSE_ROOT_ID : (uint64_t)(uintptr_t)i;
}

struct inode *inode_of(struct fsys *fs, fuse_ino_t nodeid);

/* Finds or makes the inode of st and counts one kernel lookup.  parent and name: the entry it was found by; name NULL:
 * none (then pin_fd, which is consumed, pins it).  NULL: out of memory. */
struct inode *inode_lookup(struct fsys *fs, const struct stat *st, struct inode *parent, const char *name, int pin_fd);
/* The kernel drops n lookups. */
void inode_forget(struct fsys *fs, struct inode *i, uint64_t n);
/* Our own references. */
void inode_ref(struct fsys *fs, struct inode *i);
void inode_unref(struct fsys *fs, struct inode *i);
/* The inode recorded for an entry, referenced; NULL if none. */
struct inode *inode_by_entry(struct fsys *fs, struct inode *parent, const char *name);

/* i is no longer at (parent, name), which was just removed: keeps it reachable by fd (consumed). */
void inode_unlinked(struct fsys *fs, struct inode *i, struct inode *parent, const char *name, int fd);
/* i is now at (parent, name).  force: also if another entry is recorded and good (rename). */
int inode_linked(struct fsys *fs, struct inode *i, struct inode *parent, const char *name, bool force);

/* An inode's place for an *at call: (fd, name), or fd itself with name "" and AT_EMPTY_PATH. */
struct place {
	int fd;
	struct inode *dir; /* directory whose dirfd is pinned; NULL if fd is the inode's own */
	char name[NAME_ENC_MAX];
};
/* 0 or errno. */
int place_get(struct fsys *fs, struct inode *i, struct place *p);
void place_put(struct fsys *fs, struct place *p);

/* stat by place, verified; 0 or errno.  Retries on the slow path when a rename is under way; ESTALE if the file is gone
 * from below. */
int inode_stat(struct fsys *fs, struct inode *i, struct stat *st);
/* A new O_PATH (or other flags, without O_CREAT) descriptor of exactly this inode; -errno on failure. */
int inode_open(struct fsys *fs, struct inode *i, int flags);

/* Pins i's dirfd (opening it and loading the directory id if needed); 0 or errno.  dir_put() unpins.  Not with
 * fsys.names held. */
int dir_get(struct fsys *fs, struct inode *i);
void dir_put(struct fsys *fs, struct inode *i);

int inode_table_init(struct fsys *fs);
void inode_table_free(struct fsys *fs);
