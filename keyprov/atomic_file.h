/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomic_file - small files that are there whole or not at all, after a crash too.
 *
 * Names are relative to dirfd (open for reading, so that it can be synced) and have no '/'.  The temporary file is
 * ".NAME.tmp" in the same directory; a left-over one is replaced.  Callers see to it that one process at a time writes
 * a name.  Threads: any.
 */
#pragma once
#include "crypto/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Replaces or makes name with mode 0600.  Durable on return.  *replaced (may be NULL): the new content is in place,
 * even if making it durable failed afterwards. */
enum err atomic_file_replace(
	int dirfd, const char *name, const void *data, size_t len, bool *replaced, struct err_why *why) MUST_CHECK;
/*
 * atomic_file_swap - the same for contents that must not be found on the disk afterwards: what name held is overwritten
 * with zeros in its place before its blocks go back to the filesystem (PROVIDERS.md section 5).  A crash may leave the
 * old content under the temporary name: see atomic_file_sweep.
 */
enum err atomic_file_swap(
	int dirfd, const char *name, const void *data, size_t len, bool *replaced, struct err_why *why) MUST_CHECK;
/* Overwrites with zeros and removes, durably.  A missing name is no error.  Times of the directory stay. */
enum err atomic_file_scrub(int dirfd, const char *name, struct err_why *why) MUST_CHECK;
/* The same for the temporary file of name, which a crash may have left.  The caller is the one who writes name. */
enum err atomic_file_sweep(int dirfd, const char *name, struct err_why *why) MUST_CHECK;
/* The same, but never over an existing file: ERR_EXISTS. */
enum err atomic_file_create(int dirfd, const char *name, const void *data, size_t len, struct err_why *why) MUST_CHECK;
/* Reads a regular file of at most cap bytes; out is from malloc and NUL-terminated.  Symbolic links are not followed.
 * ERR_NOT_FOUND, ERR_IO; ERR_CORRUPT: not a regular file, or larger. */
enum err atomic_file_read(
	int dirfd, const char *name, size_t cap, char **out, size_t *len, struct err_why *why) MUST_CHECK;
/*
 * atomic_file_page - the same as atomic_file_replace for a file that has a second copy: padded with spaces to one page
 * of ATOMIC_PAGE bytes and written in place where there is such a page already, so that a full disk can't stand in the
 * way.  A crash leaves the page old or new; where a disk tears pages, the second copy serves.  Longer contents are
 * replaced as above.
 */
#define ATOMIC_PAGE 4096u
enum err atomic_file_page(int dirfd, const char *name, const void *data, size_t len, struct err_why *why) MUST_CHECK;
/* Removes name and makes that durable.  A missing one is no error. */
enum err atomic_file_remove(int dirfd, const char *name, struct err_why *why) MUST_CHECK;
/* fsync of a directory. */
enum err atomic_file_sync_dir(int dirfd, struct err_why *why) MUST_CHECK;
/* All of the bytes, over interruptions and short writes.  -1 with errno on failure. */
int atomic_file_write_all(int fd, const void *data, size_t len);
