/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock - one mount at a time: flock on blobcryptfs.lock, with the holder's name in the file.
 *
 * flock belongs to the open file: it survives the daemon's fork and ends with the last process that has it, however
 * that ends.  The text is only for people.
 */
#include "keyprov/atomic_file.h"
#include "keyprov/descriptor.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX     32768
#define TRIES	     5
#define TRY_PAUSE_NS 20000000

/* Reads who holds it, as far as the text says: it may be torn or foreign. */
static void read_holder(int dirfd, struct lock_holder *h)
{
	const char *host, *mountpoint;
	char *text;
	size_t len;
	json_t *j;

	memset(h, 0, sizeof(*h));
	if (atomic_file_read(dirfd, VOLUME_LOCK, TEXT_MAX, &text, &len, NULL) != ERR_OK)
		return;
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	host = json_string_value(json_object_get(j, "host"));
	mountpoint = json_string_value(json_object_get(j, "mountpoint"));
	h->pid = (long)json_integer_value(json_object_get(j, "pid"));
	snprintf(h->host, sizeof(h->host), "%s", host ? host : "");
	snprintf(h->mountpoint, sizeof(h->mountpoint), "%s", mountpoint ? mountpoint : "");
	json_decref(j);
}

/* In place, not by rename: the lock is on this very file. */
static enum err write_holder(int fd, const char *mountpoint)
{
	char host[65] = "", since[32], text[TEXT_MAX];
	size_t len;
	json_t *j;

	(void)gethostname(host, sizeof(host) - 1);
	utc_format(time(NULL), since);
	/* s*: a mount point that is not UTF-8 is left out */
	j = json_pack("{s:I, s:s*, s:s*, s:s}", "pid", (json_int_t)getpid(), "host", host, "mountpoint", mountpoint,
		"since", since);
	if (!j)
		j = json_pack("{s:I, s:s}", "pid", (json_int_t)getpid(), "since", since);
	len = j ? json_dumpb(j, text, sizeof(text) - 1, JSON_COMPACT) : 0;
	json_decref(j);
	if (len == 0 || len >= sizeof(text))
		return ERR_NOMEM;
	text[len++] = '\n';
	/* over the page that init made, so that it works on a full disk */
	if (len < ATOMIC_PAGE) {
		memset(text + len, ' ', ATOMIC_PAGE - len);
		len = ATOMIC_PAGE;
	}
	if (pwrite(fd, text, len, 0) != (ssize_t)len || ftruncate(fd, (off_t)len) != 0)
		return ERR_IO;
	return ERR_OK;
}

static enum err held(const struct volume *v, struct lock_holder *h, struct err_why *why)
{
	read_holder(v->dirfd, h);
	if (h->pid == 0)
		return err_set(why, ERR_EXISTS, EWOULDBLOCK, "%.200s is already in use by another process", v->path);
	if (h->mountpoint[0] == '\0')
		return err_set(why, ERR_EXISTS, EWOULDBLOCK, "%.200s is already in use by process %ld on %s", v->path,
			h->pid, h->host);
	return err_set(why, ERR_EXISTS, EWOULDBLOCK, "%.150s is already mounted on %.150s by process %ld on %s",
		v->path, h->mountpoint, h->pid, h->host);
}

/* Is fd still the file of that name?  Someone may have removed it while we waited for the lock. */
static bool still_there(int dirfd, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dirfd, VOLUME_LOCK, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Tries for a tenth of a second: volume_lock_holder takes the lock for a moment to see whether it is free. */
static int take(int fd, int how)
{
	struct timespec pause = {.tv_nsec = TRY_PAUSE_NS};

	for (int i = 0; i < TRIES; i++) {
		if (flock(fd, how | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		(void)nanosleep(&pause, NULL);
	}
	errno = EWOULDBLOCK;
	return -1;
}

/* The lock file; where the backing directory can't be written, for reading; where there is none then, the directory. */
static int open_lock(int dirfd, bool *shared)
{
	int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = openat(dirfd, VOLUME_LOCK, O_RDWR | O_CREAT | flags, 0600);

	*shared = fd < 0 && (errno == EROFS || errno == EACCES || errno == EPERM);
	if (!*shared)
		return fd;
	fd = openat(dirfd, VOLUME_LOCK, O_RDONLY | flags);
	if (fd < 0 && (errno == ENOENT || errno == EROFS))
		fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd;
}

static enum err lock_once(struct volume *v, struct lock_holder *holder, int *out, bool *shared, struct err_why *why)
{
	struct stat st;
	int fd = open_lock(v->dirfd, shared);
	int err;

	if (fd < 0)
		return err_set(why, ERR_IO, errno, "can't open the lock file of %.300s: %s", v->path, strerror(errno));
	if (fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !*shared)) {
		close(fd);
		return err_set(
			why, ERR_CORRUPT, 0, "the lock file of %.300s is not a regular file; remove it", v->path);
	}
	if (take(fd, *shared ? LOCK_SH : LOCK_EX) != 0) {
		err = errno;
		close(fd);
		if (err == EWOULDBLOCK)
			return held(v, holder, why);
		return err_set(why, ERR_IO, err, "can't lock %.300s: %s", v->path, strerror(err));
	}
	if (!*shared && !still_there(v->dirfd, fd)) {
		close(fd);
		return ERR_NOT_FOUND;
	}
	*out = fd;
	return ERR_OK;
}

enum err volume_lock(struct volume *v, const char *mountpoint, struct lock_holder *holder, struct err_why *why)
{
	enum err e = ERR_NOT_FOUND;
	bool shared = false;
	int fd = -1;

	memset(holder, 0, sizeof(*holder));
	if (v->lock_fd >= 0)
		return err_set(why, ERR_BUG, 0, "the lock of %.300s is held by us already", v->path);
	for (int i = 0; i < TRIES && e == ERR_NOT_FOUND; i++)
		e = lock_once(v, holder, &fd, &shared, why);
	if (e == ERR_NOT_FOUND)
		e = err_set(why, ERR_IO, 0, "the lock file of %.300s disappears again and again", v->path);
	if (e != ERR_OK)
		return e;
	v->lock_fd = fd;
	v->lock_shared = shared;
	if (!shared && write_holder(fd, mountpoint) != ERR_OK)
		e = err_set(why, ERR_IO, errno, "can't write the lock file of %.300s: %s", v->path, strerror(errno));
	/* Before the lock was ours somebody may have rotated the key. */
	if (e == ERR_OK)
		e = descriptor_load(v, why);
	if (e != ERR_OK) {
		close(fd);
		v->lock_fd = -1;
		v->lock_shared = false;
	}
	return e;
}

enum err volume_lock_update(struct volume *v, const char *mountpoint)
{
	if (v->lock_fd < 0)
		return ERR_BUG;
	return v->lock_shared ? ERR_OK : write_holder(v->lock_fd, mountpoint);
}

enum err volume_lock_holder(const struct volume *v, struct lock_holder *holder)
{
	int fd = openat(v->dirfd, VOLUME_LOCK, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r, err;

	memset(holder, 0, sizeof(*holder));
	if (fd < 0)
		return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
	r = flock(fd, LOCK_SH | LOCK_NB);
	err = errno;
	close(fd);
	if (r == 0)
		return ERR_NOT_FOUND;
	if (err != EWOULDBLOCK)
		return ERR_IO;
	read_holder(v->dirfd, holder);
	return ERR_OK;
}
