/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auditlog_end - finds where the next line goes, and what others or a crash have left there since; AUDIT.md section 4.
 *
 * Only bytes behind the head are ever cut off, and only such as a crash leaves.  Whatever else is wrong stays as it is:
 * it is noted, and the chain goes on from the bytes that are there.
 */
#include "keyprov/auditlog_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEQ_BELIEVED ((uint64_t)1 << 53) /* of a head that nobody has authenticated */

void audit_note(struct auditlog *a, const char *event, const char *fmt, ...)
{
	va_list ap;

	if (strcmp(a->note_event, AUDIT_DAMAGED) == 0 || (a->note_event[0] && strcmp(event, AUDIT_DAMAGED) != 0))
		return;
	snprintf(a->note_event, sizeof(a->note_event), "%s", event);
	va_start(ap, fmt);
	if (vsnprintf(a->note, sizeof(a->note), fmt, ap) < 0)
		a->note[0] = '\0';
	va_end(ap);
}

/* What a crash has left behind at. */
static enum err cut_off(struct auditlog *a, off_t at, off_t size, const char *bytes, size_t len, struct err_why *why)
{
	uint8_t hash[AUDIT_HASH];
	char text[AUDIT_HASH_TEXT] = "";

	if (at + (off_t)len == size && audit_hash(a->f, bytes, len, hash) == ERR_OK)
		b64_encode(hash, sizeof(hash), text);
	if (ftruncate(a->fd, at) < 0)
		return err_set(why, ERR_IO, errno, "can't repair the audit log %s: %s", a->log_name, strerror(errno));
	audit_note(a, AUDIT_REPAIRED, "%lld bytes that a crash left behind line %llu were cut off%s%s",
		(long long)(size - at), (unsigned long long)a->end.seq, text[0] ? "; SHA-256 " : "", text);
	return ERR_OK;
}

/* One whole line behind the end. */
static enum err take_line(struct auditlog *a, const char *line, size_t len, bool *follows)
{
	struct audit_line l;
	enum err e = audit_line_parse(line, len - 1, a->volume, &l);

	*follows = e == ERR_OK && l.seq == a->end.seq + 1 && memcmp(l.prev, a->end.hash, AUDIT_HASH) == 0;
	if (!*follows && memchr(line, '\0', len)) {
		if (e == ERR_OK)
			audit_line_clear(&l);
		return ERR_OK;
	}
	if (!*follows)
		audit_note(a, AUDIT_DAMAGED, "the line at byte %lld of %s does not follow the one before",
			(long long)a->end.size, a->log_name);
	a->end.seq = e == ERR_OK && l.seq < SEQ_BELIEVED ? l.seq : a->end.seq + 1;
	if (e == ERR_OK)
		audit_line_clear(&l);
	a->end.size += (off_t)len;
	return audit_hash(a->f, line, len, a->end.hash);
}

/* From a->end to size.  nuls_are_a_crash: a line with NUL bytes is taken for one a power cut left. */
static enum err walk(struct auditlog *a, off_t size, bool nuls_are_a_crash, struct err_why *why)
{
	struct audit_reader r;
	enum err e = audit_reader_start(&r, a->fd, a->end.size, size);

	while (e == ERR_OK) {
		const char *line;
		size_t len = 0;
		bool whole = false, follows = false;

		e = audit_reader_next(&r, &line, &len, &whole);
		if (e != ERR_OK || !line)
			break;
		if (whole) {
			off_t before = a->end.size;

			if (!nuls_are_a_crash && memchr(line, '\0', len)) {
				audit_note(a, AUDIT_DAMAGED, "the line at byte %lld of %s is no text",
					(long long)before, a->log_name);
				a->end.seq++;
				a->end.size += (off_t)len;
				e = audit_hash(a->f, line, len, a->end.hash);
				continue;
			}
			e = take_line(a, line, len, &follows);
			if (e != ERR_OK || a->end.size > before)
				continue;
		}
		e = cut_off(a, a->end.size, size, line, len, why);
		break;
	}
	audit_reader_end(&r);
	if (e != ERR_OK && (!why || !why->text[0]))
		return err_set(why, e, errno, "can't read the audit log %s: %s", a->log_name, err_text(e));
	return e;
}

/* The last line of the newest closed segment. */
static enum err end_of_closed(struct auditlog *a, uint64_t segment, struct err_why *why)
{
	char name[AUDIT_NAME], *buf = malloc(AUDIT_LINE_MAX);
	struct audit_line l;
	struct stat st;
	off_t start = 0;
	int fd = -1;
	enum err e = buf ? ERR_OK : ERR_NOMEM;

	audit_name_closed(a->volume, segment, name);
	if (e == ERR_OK)
		e = audit_file_open(a->dirfd, name, O_RDONLY, &fd, why);
	if (e == ERR_OK)
		e = fstat(fd, &st) == 0 ? audit_line_before(fd, st.st_size, buf, &start) : ERR_IO;
	if (e == ERR_OK)
		e = audit_hash(a->f, buf, (size_t)(st.st_size - start), a->end.hash);
	if (e == ERR_OK)
		e = audit_line_parse(buf, (size_t)(st.st_size - start) - 1, a->volume, &l);
	if (e == ERR_OK) {
		a->end.seq = l.seq;
		audit_line_clear(&l);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	if (e == ERR_CORRUPT || e == ERR_NOT_FOUND) {
		audit_note(a, AUDIT_DAMAGED, "the last line of %s is damaged", name);
		return ERR_OK;
	}
	if (e != ERR_OK && (!why || !why->text[0]))
		return err_set(why, e, errno, "can't read the audit log %s: %s", name, err_text(e));
	return e;
}

/* hash: of the line that ends at offset of fd. */
static enum err line_hash(const struct auditlog *a, int fd, uint64_t offset, uint8_t hash[static AUDIT_HASH])
{
	char *buf = malloc(AUDIT_LINE_MAX);
	off_t start = 0;
	enum err e = buf ? audit_line_before(fd, (off_t)offset, buf, &start) : ERR_NOMEM;

	if (e == ERR_OK)
		e = audit_hash(a->f, buf, (size_t)((off_t)offset - start), hash);
	free(buf);
	return e;
}

enum err audit_head_line(struct auditlog *a, const struct audit_head *h)
{
	char name[AUDIT_NAME];
	uint8_t hash[AUDIT_HASH];
	int fd = a->fd;
	enum err e = ERR_OK;

	if (h->seq == 0)
		return ERR_OK;
	if (h->segment > a->end.segment || (h->segment == a->end.segment && fd < 0))
		return ERR_CORRUPT;
	if (h->segment < a->end.segment) {
		audit_name_closed(a->volume, h->segment, name);
		e = audit_file_open(a->dirfd, name, O_RDONLY, &fd, NULL);
	}
	if (e == ERR_OK)
		e = line_hash(a, fd, h->offset, hash);
	if (fd >= 0 && fd != a->fd)
		close(fd);
	if (e == ERR_OK && memcmp(hash, h->hash, AUDIT_HASH) != 0)
		e = ERR_CORRUPT;
	return e == ERR_NOT_FOUND ? ERR_CORRUPT : e;
}

/* Starts behind the line the head points to, if that is in the open segment.  *nuls: what is behind is unsynced. */
static enum err start_at_head(struct auditlog *a, off_t size, bool *nuls)
{
	struct audit_head h;
	enum err e = audit_head_read(a->dirfd, a->volume, &h, NULL);

	*nuls = e == ERR_NOT_FOUND;
	if (e != ERR_OK)
		return e == ERR_IO || e == ERR_NOMEM ? e : ERR_OK;
	*nuls = h.segment < a->end.segment || h.seq == 0;
	if (*nuls)
		return ERR_OK;
	e = audit_head_line(a, &h);
	if (e == ERR_OK && (off_t)h.offset <= size && h.segment == a->end.segment) {
		a->end.seq = h.seq;
		a->end.size = (off_t)h.offset;
		memcpy(a->end.hash, h.hash, AUDIT_HASH);
		*nuls = true;
		return ERR_OK;
	}
	if (e == ERR_OK || e == ERR_CORRUPT) {
		audit_note(a, AUDIT_DAMAGED, "line %llu, to which the head points, is gone or changed",
			(unsigned long long)h.seq);
		return ERR_OK;
	}
	return e;
}

static enum err find_anew(struct auditlog *a, off_t size, struct err_why *why)
{
	struct audit_segments s;
	struct audit_head h;
	bool nuls = false;
	enum err e = audit_list(a->dirfd, a->volume, &s, why);

	if (e != ERR_OK)
		return e;
	a->end = (struct audit_end){.segment = s.last + 1};
	e = audit_genesis(a->f, a->id, a->end.hash);
	if (e == ERR_OK && s.last > 0)
		e = end_of_closed(a, s.last, why);
	if (e == ERR_OK)
		e = start_at_head(a, size, &nuls);
	if (e == ERR_OK && a->fd >= 0)
		e = walk(a, size, nuls, why);
	if (e != ERR_OK && (!why || !why->text[0]))
		return err_set(why, e, 0, "can't read the audit log %s: %s", a->log_name, err_text(e));
	if (e != ERR_OK)
		return e;
	/* lines that were there once: the gap in seq tells that they are gone */
	if (audit_head_read(a->dirfd, a->volume, &h, NULL) == ERR_OK && h.seq > a->end.seq && h.seq < SEQ_BELIEVED) {
		audit_note(a, AUDIT_DAMAGED, "the log ends in front of line %llu, to which the head points",
			(unsigned long long)h.seq);
		a->end.seq = h.seq;
	}
	if (a->own.seq > a->end.seq) {
		audit_note(a, AUDIT_DAMAGED, "line %llu, which this process wrote, is gone",
			(unsigned long long)a->own.seq);
		a->end.seq = a->own.seq;
	}
	return ERR_OK;
}

enum err audit_end_find(struct auditlog *a, struct err_why *why)
{
	struct stat st = {0}, at;
	enum err e = ERR_OK;
	int fd = -1;

	if (a->fd >= 0 && fstatat(a->dirfd, a->log_name, &at, AT_SYMLINK_NOFOLLOW) == 0 && fstat(a->fd, &st) == 0 &&
		at.st_ino == st.st_ino && at.st_dev == st.st_dev) {
		if (a->end_known && st.st_size == a->end.size)
			return ERR_OK;
		if (a->end_known && st.st_size > a->end.size)
			return walk(a, st.st_size, false, why);
		a->end_known = false;
	} else {
		e = audit_file_open(a->dirfd, a->log_name, O_RDWR, &fd, why);
		if (e != ERR_OK && e != ERR_NOT_FOUND)
			return e;
		if (a->fd >= 0)
			close(a->fd);
		a->fd = fd;
		a->end_known = false;
		st.st_size = 0;
		if (fd >= 0 && fstat(fd, &st) < 0)
			return err_set(
				why, ERR_IO, errno, "can't look at the audit log %s: %s", a->log_name, strerror(errno));
	}
	e = find_anew(a, st.st_size, why);
	a->end_known = e == ERR_OK;
	return e;
}
