/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differential tests: the same system calls on a reference tree and on the tree
 * under test, every result compared.
 *
 * A test writes T(call) and the call runs twice: once in the test's directory
 * of the reference, once in that of the tree under test, each time as the user
 * chosen by as(). Paths in the call are relative to that directory.
 */
#ifndef POSIX_DIFF_H
#define POSIX_DIFF_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum who { ROOT, OWNER, GROUP, MEMBER, OTHER, WHO_COUNT };
enum type { FILE_, DIR_, FIFO, BLOCK, CHAR, SOCK, LINK, TYPE_COUNT };

#define UID_OWNER  65533
#define UID_GROUP  65532 /* the owner's group is its own group */
#define UID_MEMBER 65531 /* the owner's group is a supplementary one */
#define UID_OTHER  65530
#define GID_OWNER  65523
#define GID_MEMBER 65522
#define GID_OTHER  65521
#define GID_SECOND 65520 /* a second group of the owner */

extern const char *const who_names[WHO_COUNT];
extern const char *const type_names[TYPE_COUNT];

struct result {
	long ret;
	int err;
};

extern int side; /* 0 reference, 1 under test: valid inside a T() */
extern const char *const side_names[2];
extern mode_t use_umask;
extern bool any_done; /* the last T() succeeded on one of the sides */

/* Starts a test case in a new empty directory (mode 0777) on both sides. */
void fresh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Says which variant of the case is running; printed with a mismatch. */
void ctx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void as(enum who w);

/* Used by T(): goes to the directory of the current side as the chosen user, and back. */
void enter(bool as_root);
void leave(void);
/* True if both sides agree. */
bool compare(const char *expr, const struct result r[2]);
/* True if both sides agree and succeeded; tells set-up problems. */
bool compare_ok(const char *expr, const struct result r[2]);

#define RUN_(expr, as_root_, cmp_)                                                                 \
	__extension__({                                                                            \
		struct result r_[2];                                                               \
		for (side = 0; side < 2; side++) {                                                 \
			enter(as_root_);                                                           \
			errno = 0;                                                                 \
			r_[side].ret = (long)(expr);                                               \
			r_[side].err = r_[side].ret < 0 ? errno : 0;                               \
			leave();                                                                   \
		}                                                                                  \
		cmp_(#expr, r_);                                                                   \
	})
/* Runs and compares as the chosen user. */
#define T(expr) RUN_(expr, false, compare)
/* Runs as root without umask and has to succeed: preparations. */
#define R(expr) RUN_(expr, true, compare_ok)

/* Compares lstat() of a path on both sides, times and blocks apart. */
void S(const char *path);
/* Compares the whole tree below the case's directory: names, lstat, targets, contents, xattrs. */
void TREE(void);

/* Notes the times of up to eight paths and waits until the clock has moved on. */
void snap(const char *a, ...);
/* Compares which times of the noted paths have changed; atime only if with_atime. */
void moved(const char *what, bool with_atime);

/* Helpers to be used inside T() and R(). Return -1 with errno, else a value to compare. */
int mk(enum type t, const char *path, mode_t mode); /* as whoever runs it */
int mk_owned(enum type t, const char *path, mode_t mode, uid_t uid, gid_t gid);
long put(const char *path, const char *text);   /* creates or overwrites */
long opens(const char *path, int flags, mode_t mode); /* 0 if it opens */
long rm_rf(const char *path);
/* Waits for a child, but not for ever: its exit status, 255 if killed, -2 if it hangs. */
long reap(pid_t p);
long content(const char *path);                 /* a hash of the bytes */
uint64_t hash_bytes(uint64_t h, const void *data, size_t len);
#define HASH_START 1469598103934665603ull

unsigned long checks_done(void);
unsigned long mismatches(void);

void test_permissions(void);
void test_directory_permissions(void);
void test_privilege_bits(void);
void test_paths(void);
void test_rename(void);
void test_links(void);
void test_open(void);
void test_times(void);
void test_data(void);
void test_limits(void);
void test_unlinked(void);
void test_xattrs(void);
void test_acls(void);
void test_locks(void);
void test_directories(void);
void test_names(void);
void test_special(void);
void test_read_only(void);

#endif
