/* SPDX-License-Identifier: Apache-2.0 */
/* atomic_file - see atomic_file.h.  Order: write, fsync, rename (or link), fsync of the directory. */
#include "keyprov/atomic_file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TMP_NAME_MAX 300

/* The path of (dirfd, name) for a message. */
struct where {
	char text[320];
};

static struct where where(int dirfd, const char *name)
{
	char proc[64], dir[200];
	struct where w;
	ssize_t n;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dirfd);
	n = readlink(proc, dir, sizeof(dir) - 1);
	dir[n > 0 ? n : 0] = '\0';
	snprintf(w.text, sizeof(w.text), "%s%s%.100s", dir, n > 0 ? "/" : "", name);
	return w;
}

/* A read-only filesystem has a remedy of its own, so it gets a sentence of its own. */
static enum err write_failed(struct err_why *why, int dirfd, const char *name, int err)
{
	if (err == EROFS)
		return err_set(why, ERR_IO, err, "can't write %s: the filesystem is read-only; mount with -o ro",
			where(dirfd, name).text);
	return err_set(why, ERR_IO, err, "can't write %s: %s", where(dirfd, name).text, strerror(err));
}

int atomic_file_write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ENOSPC;
			return -1;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

enum err atomic_file_sync_dir(int dirfd, struct err_why *why)
{
	/* Some network filesystems have no fsync for directories and say so with EINVAL; nothing more can be done
	 * there. */
	if (fsync(dirfd) != 0 && errno != EINVAL)
		return err_set(why, ERR_IO, errno, "can't sync the directory: %s", strerror(errno));
	return ERR_OK;
}

/*
 * Zeros over all of it, in place and durably.  A file with another name, which somebody made by a hard link, is that
 * one's as well, and stays; a foreign kind of file has nothing of ours.
 */
static enum err zero_out(int fd, nlink_t names, int dirfd, const char *name, struct err_why *why)
{
	static const uint8_t zeros[ATOMIC_PAGE];
	struct stat st;
	off_t at = 0;

	if (fstat(fd, &st) != 0)
		return write_failed(why, dirfd, name, errno);
	if (!S_ISREG(st.st_mode) || st.st_nlink > names)
		return ERR_OK;
	while (at < st.st_size) {
		size_t n = st.st_size - at < (off_t)sizeof(zeros) ? (size_t)(st.st_size - at) : sizeof(zeros);
		ssize_t r = pwrite(fd, zeros, n, at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return write_failed(why, dirfd, name, r < 0 ? errno : ENOSPC);
		at += r;
	}
	return fsync(fd) == 0 ? ERR_OK : write_failed(why, dirfd, name, errno);
}

static enum err write_temp(
	int dirfd, const char *tmp, const char *name, const void *data, size_t len, struct err_why *why)
{
	int fd, err = 0;

	if (unlinkat(dirfd, tmp, 0) != 0 && errno != ENOENT)
		return write_failed(why, dirfd, name, errno);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return write_failed(why, dirfd, name, errno);
	if (atomic_file_write_all(fd, data, len) != 0 || fsync(fd) != 0) {
		err = errno;
		(void)!zero_out(fd, 1, dirfd, name, NULL); /* what could not be kept shall not be found either */
	}
	if (close(fd) != 0 && err == 0)
		err = errno;
	if (err == 0)
		return ERR_OK;
	(void)unlinkat(dirfd, tmp, 0); /* the first error is the one to tell */
	return write_failed(why, dirfd, name, err);
}

static enum err temp_name(const char *name, char tmp[static TMP_NAME_MAX])
{
	int n = snprintf(tmp, TMP_NAME_MAX, ".%s.tmp", name);

	return n < 0 || n >= TMP_NAME_MAX || strchr(name, '/') ? ERR_RANGE : ERR_OK;
}

/* The backing root is the root that users see, too: their directory's times don't change because of our files. */
static void times_restore(int dirfd, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	(void)futimens(dirfd, times); /* somebody else's directory: can't be helped, and does no harm */
}

enum err atomic_file_replace(
	int dirfd, const char *name, const void *data, size_t len, bool *replaced, struct err_why *why)
{
	char tmp[TMP_NAME_MAX];
	struct stat st;
	bool have_times = fstat(dirfd, &st) == 0;
	enum err e;

	if (replaced)
		*replaced = false;
	if (temp_name(name, tmp) != ERR_OK)
		return err_set(why, ERR_RANGE, 0, "the file name is too long or has a slash");
	e = write_temp(dirfd, tmp, name, data, len, why);
	if (e != ERR_OK)
		return e;
	if (renameat(dirfd, tmp, dirfd, name) != 0) {
		int err = errno;

		(void)unlinkat(dirfd, tmp, 0);
		return write_failed(why, dirfd, name, err);
	}
	if (replaced)
		*replaced = true;
	if (have_times)
		times_restore(dirfd, &st);
	return atomic_file_sync_dir(dirfd, why);
}

/* ---- contents that must not be found afterwards ---- */

static int open_old(int dirfd, const char *name)
{
	const int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);

	/* somebody made it read-only, which a rename would not have minded */
	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0600, 0) == 0)
		fd = openat(dirfd, name, flags);
	return fd;
}

enum err atomic_file_scrub(int dirfd, const char *name, struct err_why *why)
{
	struct stat st, dir;
	bool have_times = fstat(dirfd, &dir) == 0;
	enum err e = ERR_OK;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? ERR_OK : write_failed(why, dirfd, name, errno);
	if (S_ISREG(st.st_mode)) {
		fd = open_old(dirfd, name);
		if (fd < 0)
			return write_failed(why, dirfd, name, errno);
		e = zero_out(fd, 1, dirfd, name, why);
		close(fd);
	}
	if (e != ERR_OK)
		return e;
	if (unlinkat(dirfd, name, 0) != 0 && errno != ENOENT)
		return write_failed(why, dirfd, name, errno);
	if (have_times)
		times_restore(dirfd, &dir);
	return atomic_file_sync_dir(dirfd, why);
}

enum err atomic_file_sweep(int dirfd, const char *name, struct err_why *why)
{
	char tmp[TMP_NAME_MAX];
	struct stat st;
	enum err e;

	if (temp_name(name, tmp) != ERR_OK)
		return err_set(why, ERR_RANGE, 0, "the file name is too long or has a slash");
	if (fstatat(dirfd, tmp, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
		return ERR_OK;
	/* If the exchange is not durable yet, a power cut could make these very blocks the good copy again. */
	e = atomic_file_sync_dir(dirfd, why);
	return e == ERR_OK ? atomic_file_scrub(dirfd, tmp, why) : e;
}

/*
 * Puts tmp in name's place.  *old: -1 if the old content has the temporary name now, or there was none; else it is
 * open there and has no name any more, for this filesystem can't exchange names.
 */
static int exchange(int dirfd, const char *tmp, const char *name, int *old)
{
	int err;

	*old = -1;
	if (renameat2(dirfd, tmp, dirfd, name, RENAME_EXCHANGE) == 0)
		return 0;
	if (errno == ENOENT) /* nothing to exchange it with */
		return renameat(dirfd, tmp, dirfd, name);
	if (errno != ENOSYS && errno != EINVAL)
		return -1;
	*old = open_old(dirfd, name);
	if (*old < 0 && errno != ENOENT && errno != ELOOP && errno != ENXIO)
		return -1;
	if (renameat(dirfd, tmp, dirfd, name) == 0)
		return 0;
	err = errno;
	if (*old >= 0)
		close(*old);
	errno = err;
	return -1;
}

enum err atomic_file_swap(
	int dirfd, const char *name, const void *data, size_t len, bool *replaced, struct err_why *why)
{
	char tmp[TMP_NAME_MAX];
	struct stat st;
	bool have_times = fstat(dirfd, &st) == 0;
	int old = -1, err;
	enum err e;

	if (replaced)
		*replaced = false;
	if (temp_name(name, tmp) != ERR_OK)
		return err_set(why, ERR_RANGE, 0, "the file name is too long or has a slash");
	e = atomic_file_sweep(dirfd, name, why);
	if (e == ERR_OK)
		e = write_temp(dirfd, tmp, name, data, len, why);
	if (e != ERR_OK)
		return e;
	if (exchange(dirfd, tmp, name, &old) != 0) {
		err = errno;
		if (atomic_file_scrub(dirfd, tmp, NULL) != ERR_OK)
			(void)unlinkat(dirfd, tmp, 0);
		return write_failed(why, dirfd, name, err);
	}
	if (replaced)
		*replaced = true;
	if (have_times)
		times_restore(dirfd, &st);
	e = atomic_file_sync_dir(dirfd, why); /* before this the old content may still be what a crash leaves */
	if (e == ERR_OK && old >= 0)
		e = zero_out(old, 0, dirfd, name, why);
	else if (e == ERR_OK)
		e = atomic_file_scrub(dirfd, tmp, why);
	if (old >= 0)
		close(old);
	return e;
}

/* In place; false if name is no page of ours yet. */
static bool overwrite(
	int dirfd, const char *name, const char page[static ATOMIC_PAGE], enum err *e, struct err_why *why)
{
	int fd = openat(dirfd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != ATOMIC_PAGE) {
		close(fd);
		return false;
	}
	*e = ERR_OK;
	if (pwrite(fd, page, ATOMIC_PAGE, 0) != (ssize_t)ATOMIC_PAGE || fsync(fd) != 0)
		*e = write_failed(why, dirfd, name, errno);
	close(fd);
	return true;
}

enum err atomic_file_page(int dirfd, const char *name, const void *data, size_t len, struct err_why *why)
{
	char page[ATOMIC_PAGE];
	enum err e;

	if (len > sizeof(page))
		return atomic_file_replace(dirfd, name, data, len, NULL, why);
	memset(page, ' ', sizeof(page));
	memcpy(page, data, len);
	page[sizeof(page) - 1] = '\n';
	if (overwrite(dirfd, name, page, &e, why))
		return e;
	return atomic_file_replace(dirfd, name, page, sizeof(page), NULL, why);
}

enum err atomic_file_create(int dirfd, const char *name, const void *data, size_t len, struct err_why *why)
{
	char tmp[TMP_NAME_MAX];
	enum err e;

	if (temp_name(name, tmp) != ERR_OK)
		return err_set(why, ERR_RANGE, 0, "the file name is too long or has a slash");
	e = write_temp(dirfd, tmp, name, data, len, why);
	if (e != ERR_OK)
		return e;
	/* link, not rename: it never replaces anything, on every filesystem that has links */
	if (linkat(dirfd, tmp, dirfd, name, 0) != 0) {
		int err = errno;

		(void)unlinkat(dirfd, tmp, 0);
		if (err == EEXIST)
			return err_set(why, ERR_EXISTS, err, "%s exists already", name);
		return write_failed(why, dirfd, name, err);
	}
	(void)unlinkat(dirfd, tmp, 0); /* a left-over is harmless, and the next writer removes it */
	return atomic_file_sync_dir(dirfd, why);
}

static enum err read_open(int dirfd, const char *name, size_t cap, int *out, struct err_why *why)
{
	struct stat st;
	/* O_NONBLOCK: someone may have put a FIFO here, which must not hang us */
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return err_set(why, ERR_NOT_FOUND, errno, "%s is missing", name);
	if (fd < 0 && errno == ELOOP)
		return err_set(why, ERR_CORRUPT, 0, "%s is a symbolic link instead of a file", name);
	if (fd < 0)
		return err_set(why, ERR_IO, errno, "can't open %s: %s", where(dirfd, name).text, strerror(errno));
	if (fstat(fd, &st) != 0) {
		int err = errno;

		close(fd);
		return err_set(why, ERR_IO, err, "can't stat %s: %s", where(dirfd, name).text, strerror(err));
	}
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)cap) {
		close(fd);
		return err_set(why, ERR_CORRUPT, 0, "%s %s", name,
			S_ISREG(st.st_mode) ? "is larger than it can be" : "is not a regular file");
	}
	*out = fd;
	return ERR_OK;
}

enum err atomic_file_read(int dirfd, const char *name, size_t cap, char **out, size_t *len, struct err_why *why)
{
	size_t got = 0;
	char *buf;
	int fd = -1;
	enum err e = read_open(dirfd, name, cap, &fd, why);

	if (e != ERR_OK)
		return e;
	buf = malloc(cap + 2);
	if (!buf) {
		close(fd);
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	}
	while (got < cap + 1) { /* one more than allowed, to notice a file that grows */
		ssize_t n = read(fd, buf + got, cap + 1 - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			e = err_set(why, ERR_IO, errno, "can't read %s: %s", where(dirfd, name).text, strerror(errno));
			break;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	if (e == ERR_OK && got > cap)
		e = err_set(why, ERR_CORRUPT, 0, "%s is larger than it can be", name);
	if (e != ERR_OK) {
		free(buf);
		return e;
	}
	buf[got] = '\0';
	*out = buf;
	*len = got;
	return ERR_OK;
}

enum err atomic_file_remove(int dirfd, const char *name, struct err_why *why)
{
	if (unlinkat(dirfd, name, 0) != 0) {
		if (errno == ENOENT)
			return ERR_OK;
		return err_set(why, ERR_IO, errno, "can't remove %s: %s", where(dirfd, name).text, strerror(errno));
	}
	return atomic_file_sync_dir(dirfd, why);
}
