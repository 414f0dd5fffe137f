/* SPDX-License-Identifier: Apache-2.0 */
/* auditlog_dir - the files of an audit log: names, segments, lines by their offset; AUDIT.md section 1. */
#include "keyprov/auditlog_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_DIGITS 15
#define READER_BYTES   (4u * AUDIT_LINE_MAX)

void audit_volume_hex(const uint8_t volume[static ID_BYTES], char out[static AUDIT_HEX])
{
	for (size_t i = 0; i < ID_BYTES; i++)
		snprintf(out + 2 * i, 3, "%02x", volume[i]);
}

void audit_name(const char *volume, const char *ending, char out[static AUDIT_NAME])
{
	snprintf(out, AUDIT_NAME, "%.32s.%.8s", volume, ending);
}

void audit_name_closed(const char *volume, uint64_t segment, char out[static AUDIT_NAME])
{
	snprintf(out, AUDIT_NAME, "%.32s.log.%llu", volume, (unsigned long long)segment);
}

/* The number of a closed segment; 0: the name of something else. */
static uint64_t segment_of(const char *volume, const char *name)
{
	char again[AUDIT_NAME];
	size_t prefix = strlen(volume) + strlen(".log.");
	uint64_t n;

	if (strncmp(name, volume, strlen(volume)) != 0 || strlen(name) <= prefix ||
		strlen(name) > prefix + SEGMENT_DIGITS)
		return 0;
	n = strtoull(name + prefix, NULL, 10);
	audit_name_closed(volume, n, again);
	return strcmp(name, again) == 0 ? n : 0;
}

enum err audit_list(int dirfd, const char *volume, struct audit_segments *out, struct err_why *why)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	memset(out, 0, sizeof(*out));
	if (!d) {
		int saved = errno;

		if (fd >= 0)
			close(fd);
		return err_set(why, ERR_IO, saved, "can't list the audit log's directory: %s", strerror(saved));
	}
	while ((entry = readdir(d))) {
		uint64_t n = segment_of(volume, entry->d_name);

		if (n == 0)
			continue;
		out->count++;
		if (out->first == 0 || n < out->first)
			out->first = n;
		if (n > out->last)
			out->last = n;
	}
	closedir(d);
	return ERR_OK;
}

/* Makes dir and its parents, 0700; those that are there stay as they are. */
static int make_directories(const char *dir)
{
	char path[PATH_MAX];
	size_t len = strlen(dir);

	if (len >= sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(path, dir, len + 1);
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -1;
		*p = c;
		if (c == '\0')
			return 0;
	}
}

enum err audit_dir_open(const char *dir, bool make, int *out, struct err_why *why)
{
	struct stat st;
	int fd = -1;

	if (dir[0] != '/')
		return err_set(why, ERR_CONFIG, 0, "the directory of the audit log must be absolute, not %.200s", dir);
	if (!make || make_directories(dir) == 0)
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return err_set(why, ERR_NOT_FOUND, errno, "there is no audit log in %.200s", dir);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int saved = errno;

		if (fd >= 0)
			close(fd);
		return err_set(
			why, ERR_IO, saved, "can't open the audit log's directory %.200s: %s", dir, strerror(saved));
	}
	if (make && ((st.st_mode & 022) != 0 || (st.st_uid != geteuid() && st.st_uid != 0))) {
		close(fd);
		return err_set(why, ERR_CONFIG, 0,
			"others can write to %.200s, so the audit log is not safe there: chmod go-w it, or take "
			"another with -o audit_dir=",
			dir);
	}
	*out = fd;
	return ERR_OK;
}

enum err audit_file_open(int dirfd, const char *name, int flags, int *fd, struct err_why *why)
{
	/* O_NONBLOCK: someone may have put a FIFO there, which must not hang us */
	int got = openat(dirfd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st;

	if (got < 0 && errno == ENOENT)
		return ERR_NOT_FOUND;
	if (got < 0 || fstat(got, &st) < 0) {
		int saved = errno;

		if (got >= 0)
			close(got);
		return err_set(why, ERR_IO, saved, "can't open the audit log's file %s: %s", name, strerror(saved));
	}
	if (!S_ISREG(st.st_mode)) {
		close(got);
		return err_set(
			why, ERR_CONFIG, 0, "%s in the audit log's directory is no regular file: remove it", name);
	}
	*fd = got;
	return ERR_OK;
}

/* All bytes from at, or fewer at the end of the file. */
static ssize_t read_at(int fd, char *buf, size_t len, off_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

enum err audit_line_before(int fd, off_t end, char *buf, off_t *start)
{
	size_t len = end < (off_t)AUDIT_LINE_MAX ? (size_t)(end > 0 ? end : 0) : AUDIT_LINE_MAX;
	const char *newline;
	ssize_t got;

	if (len == 0)
		return ERR_CORRUPT;
	got = read_at(fd, buf, len, end - (off_t)len);
	if (got < 0)
		return ERR_IO;
	if ((size_t)got != len || buf[len - 1] != '\n')
		return ERR_CORRUPT;
	newline = memrchr(buf, '\n', len - 1);
	if (!newline && (off_t)len < end)
		return ERR_CORRUPT;
	*start = end - (off_t)len + (newline ? newline + 1 - buf : 0);
	memmove(buf, buf + (newline ? newline + 1 - buf : 0), (size_t)(end - *start));
	return ERR_OK;
}

enum err audit_reader_start(struct audit_reader *r, int fd, off_t at, off_t end)
{
	*r = (struct audit_reader){.fd = fd, .at = at, .end = end, .buf = malloc(READER_BYTES)};
	return r->buf ? ERR_OK : ERR_NOMEM;
}

enum err audit_reader_next(struct audit_reader *r, const char **line, size_t *len, bool *whole)
{
	const char *newline = memchr(r->buf + r->start, '\n', r->have);
	off_t behind = r->at + (off_t)r->have;

	*line = NULL;
	if (!newline && r->have < AUDIT_LINE_MAX && behind < r->end) {
		size_t room = READER_BYTES - r->have;
		ssize_t n;

		memmove(r->buf, r->buf + r->start, r->have);
		r->start = 0;
		n = read_at(r->fd, r->buf + r->have, r->end - behind < (off_t)room ? (size_t)(r->end - behind) : room,
			behind);
		if (n < 0)
			return ERR_IO;
		if (n == 0)
			r->end = behind; /* shorter than it was said to be */
		r->have += (size_t)n;
		newline = memchr(r->buf, '\n', r->have);
	}
	if (r->have == 0)
		return ERR_OK;
	*line = r->buf + r->start;
	*len = newline ? (size_t)(newline + 1 - *line) : r->have;
	*whole = newline && *len <= AUDIT_LINE_MAX;
	if (*whole) {
		r->start += *len;
		r->have -= *len;
		r->at += (off_t)*len;
	}
	return ERR_OK;
}

void audit_reader_end(struct audit_reader *r)
{
	free(r->buf);
	r->buf = NULL;
}
