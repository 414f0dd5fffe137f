/* SPDX-License-Identifier: Apache-2.0 */
/* auditlog_view - the files of a log as they were at one moment, and reading lines from them. */
#include "keyprov/auditlog_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096u /* segments; more than any log of ours has */

static enum err shared_lock(int fd, struct err_why *why)
{
	while (flock(fd, LOCK_SH) < 0)
		if (errno != EINTR)
			return err_set(why, ERR_IO, errno, "can't lock the audit log: %s", strerror(errno));
	return ERR_OK;
}

static enum err add_file(struct audit_view *v, const char *name, uint64_t segment, struct err_why *why)
{
	struct audit_file *f = &v->files[v->count];
	struct stat st;
	enum err e;

	memcpy(f->name, name, AUDIT_NAME);
	f->segment = segment;
	e = audit_file_open(v->dirfd, name, O_RDONLY, &f->fd, why);
	if (e != ERR_OK)
		return e == ERR_NOT_FOUND ? ERR_OK : e; /* verify sees the gap */
	if (fstat(f->fd, &st) < 0) {
		close(f->fd);
		return err_set(why, ERR_IO, errno, "can't look at %s: %s", name, strerror(errno));
	}
	f->size = st.st_size;
	v->count++;
	return ERR_OK;
}

static enum err add_files(struct audit_view *v, struct err_why *why)
{
	char name[AUDIT_NAME];
	struct audit_segments s;
	enum err e = audit_list(v->dirfd, v->volume, &s, why);

	if (e != ERR_OK)
		return e;
	if (s.count > 0 && s.last - s.first >= FILES_MAX)
		return err_set(why, ERR_RANGE, 0, "the audit log's segments are numbered from %llu to %llu: too many",
			(unsigned long long)s.first, (unsigned long long)s.last);
	v->files = calloc((size_t)(s.count > 0 ? s.last - s.first + 2 : 1), sizeof(*v->files));
	if (!v->files)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	for (uint64_t n = s.first; s.count > 0 && e == ERR_OK && n <= s.last; n++) {
		audit_name_closed(v->volume, n, name);
		e = add_file(v, name, n, why);
	}
	audit_name(v->volume, "log", name);
	return e == ERR_OK ? add_file(v, name, s.last + 1, why) : e;
}

enum err audit_view_open(
	const char *dir, const uint8_t volume[static ID_BYTES], bool hold, struct audit_view *out, struct err_why *why)
{
	char name[AUDIT_NAME];
	enum err e;

	*out = (struct audit_view){.dirfd = -1, .lockfd = -1};
	audit_volume_hex(volume, out->volume);
	audit_name(out->volume, "lock", name);
	e = audit_dir_open(dir, false, &out->dirfd, why);
	if (e == ERR_OK) {
		e = audit_file_open(out->dirfd, name, O_RDONLY, &out->lockfd, why);
		if (e == ERR_OK)
			e = shared_lock(out->lockfd, why);
		else if (e == ERR_NOT_FOUND) /* a copy of a log, say; nobody appends to it */
			e = ERR_OK;
	}
	if (e == ERR_OK)
		e = add_files(out, why);
	if (e == ERR_OK) {
		out->head_err = audit_head_read(out->dirfd, out->volume, &out->head, why);
		if (out->head_err == ERR_IO || out->head_err == ERR_NOMEM)
			e = out->head_err;
	}
	if (e == ERR_OK && out->count == 0 && out->head_err == ERR_NOT_FOUND)
		e = err_set(why, ERR_NOT_FOUND, 0, "there is no audit log of this volume in %.200s", dir);
	if (!hold && out->lockfd >= 0) {
		close(out->lockfd);
		out->lockfd = -1;
	}
	if (e != ERR_OK)
		audit_view_close(out);
	return e;
}

void audit_view_close(struct audit_view *v)
{
	for (size_t i = 0; i < v->count; i++)
		close(v->files[i].fd);
	free(v->files);
	if (v->lockfd >= 0)
		close(v->lockfd);
	if (v->dirfd >= 0)
		close(v->dirfd);
	*v = (struct audit_view){.dirfd = -1, .lockfd = -1};
}

struct lines {
	unsigned long skip, seen;
	bool (*fn)(void *arg, const char *line, size_t len);
	void *arg;
};

/* fn NULL: only counts. */
static enum err each_line(const struct audit_view *v, struct lines *l)
{
	enum err e = ERR_OK;
	bool more = true;

	for (size_t i = 0; e == ERR_OK && more && i < v->count; i++) {
		struct audit_reader r;
		const char *line;
		size_t len;
		bool whole = true;

		e = audit_reader_start(&r, v->files[i].fd, 0, v->files[i].size);
		while (e == ERR_OK && more) {
			e = audit_reader_next(&r, &line, &len, &whole);
			if (e != ERR_OK || !line || !whole)
				break;
			if (l->seen++ >= l->skip && l->fn)
				more = l->fn(l->arg, line, len - 1);
		}
		audit_reader_end(&r);
	}
	return e;
}

enum err auditlog_read(const char *dir, const uint8_t volume[static ID_BYTES], unsigned long last,
	bool (*fn)(void *arg, const char *line, size_t len), void *arg, struct err_why *why)
{
	struct lines count = {0}, show = {.fn = fn, .arg = arg};
	struct audit_view v;
	enum err e;

	if (why)
		*why = (struct err_why){0};
	e = audit_view_open(dir, volume, false, &v, why);
	if (e != ERR_OK)
		return e;
	if (last != ULONG_MAX)
		e = each_line(&v, &count);
	show.skip = count.seen > last ? count.seen - last : 0;
	if (e == ERR_OK)
		e = each_line(&v, &show);
	audit_view_close(&v);
	return e == ERR_OK ? e : err_set(why, e, errno, "can't read the audit log in %.200s", dir);
}
