/* SPDX-License-Identifier: Apache-2.0 */
/* auditlog - appending, sealing, the head, rotation and trimming; AUDIT.md sections 3 and 4. */
#include "crypto/secret.h"
#include "keyprov/atomic_file.h"
#include "keyprov/auditlog_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT_BYTES_DEFAULT (8u << 20)
#define SEGMENTS_DEFAULT      16u
#define SEGMENTS_MIN	      2u
#define TIME_TEXT	      40u

static struct audit_writer *writer(struct auditlog *a)
{
	return (struct audit_writer *)(void *)secret_bytes(a->keys);
}

static enum err log_lock(struct auditlog *a, struct err_why *why)
{
	while (flock(a->lockfd, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_set(why, ERR_IO, errno, "can't lock the audit log: %s", strerror(errno));
	return ERR_OK;
}

static void log_unlock(struct auditlog *a)
{
	(void)flock(a->lockfd, LOCK_UN); /* can't fail on a descriptor that was locked */
}

enum err auditlog_open(
	const struct fips *f, const struct auditlog_config *cfg, struct auditlog **out, struct err_why *why)
{
	struct auditlog *a = calloc(1, sizeof(*a));
	char name[AUDIT_NAME];
	enum err e;

	if (why)
		*why = (struct err_why){0};
	if (!a)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	a->f = f;
	a->dirfd = a->lockfd = a->fd = -1;
	memcpy(a->id, cfg->volume, ID_BYTES);
	audit_volume_hex(cfg->volume, a->volume);
	audit_name(a->volume, "log", a->log_name);
	audit_name(a->volume, "lock", name);
	a->segment_bytes = cfg->segment_bytes ? cfg->segment_bytes : SEGMENT_BYTES_DEFAULT;
	a->segments_max = cfg->segments_max ? cfg->segments_max : SEGMENTS_DEFAULT;
	if (a->segments_max < SEGMENTS_MIN)
		a->segments_max = SEGMENTS_MIN;
	pthread_mutex_init(&a->lock, NULL);
	e = audit_dir_open(cfg->dir, true, &a->dirfd, why);
	if (e == ERR_OK)
		e = audit_file_open(a->dirfd, name, O_RDWR | O_CREAT, &a->lockfd, why);
	if (e != ERR_OK) {
		auditlog_close(a);
		return e;
	}
	*out = a;
	return ERR_OK;
}

static void time_text(char out[static TIME_TEXT])
{
	struct timespec now;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(out, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, TIME_TEXT - n, ".%03ldZ", now.tv_nsec / 1000000);
}

/* The whole line as text; w's keys stay at their place. */
static enum err make_line(struct auditlog *a, const json_t *event, char **text, size_t *len)
{
	static const char *const ours[] = {"time", "seq", "volume", "prev", "w", "n", "mac"};
	char when[TIME_TEXT];
	json_t *o;
	enum err e = ERR_NOMEM;

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (json_object_get(event, ours[i]))
			return ERR_RANGE;
	if (!json_is_string(json_object_get(event, "event")))
		return ERR_RANGE;
	time_text(when);
	o = json_pack("{s:s, s:I, s:s}", "time", when, "seq", (json_int_t)(a->end.seq + 1), "volume", a->volume);
	if (o && json_object_update(o, (json_t *)(uintptr_t)event) == 0 &&
		audit_set_b64(o, "prev", a->end.hash, AUDIT_HASH) == 0)
		e = ERR_OK;
	if (e == ERR_OK && a->keys &&
		(audit_set_b64(o, "w", a->w, ID_BYTES) != 0 ||
			json_object_set_new(o, "n", json_integer((json_int_t)writer(a)->next.n)) != 0))
		e = ERR_NOMEM;
	if (e == ERR_OK)
		e = audit_dump(a->f, o, a->keys ? writer(a)->next.seal : NULL, AUDIT_LINE_MAX, text, len);
	json_decref(o);
	return e;
}

/* In one piece, or not at all. */
static enum err write_line(struct auditlog *a, const char *text, size_t len, struct err_why *why)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(a->fd, text + done, len - done, a->end.size + (off_t)done);
		int saved = errno;

		if (n < 0 && saved == EINTR)
			continue;
		if (n <= 0) {
			/* if this fails too, whoever comes next sees to it */
			if (ftruncate(a->fd, a->end.size) < 0)
				a->end_known = false;
			return err_set(why, ERR_IO, n < 0 ? saved : ENOSPC, "can't write the audit log %s: %s",
				a->log_name, strerror(n < 0 ? saved : ENOSPC));
		}
		done += (size_t)n;
	}
	return ERR_OK;
}

static enum err make_file(struct auditlog *a, struct err_why *why)
{
	enum err e;

	if (a->fd >= 0)
		return ERR_OK;
	e = audit_file_open(a->dirfd, a->log_name, O_RDWR | O_CREAT | O_EXCL, &a->fd, why);
	if (e == ERR_OK)
		e = atomic_file_sync_dir(a->dirfd, why);
	return e;
}

/* One line behind the end, without rotation, sync or head. */
static enum err put_line(struct auditlog *a, const json_t *event, struct err_why *why)
{
	struct audit_writer *w = a->keys ? writer(a) : NULL;
	struct audit_end end;
	char *text = NULL;
	size_t len = 0;
	enum err e = make_file(a, why);

	if (e != ERR_OK)
		return e;
	e = make_line(a, event, &text, &len);
	if (e == ERR_OK && w) {
		w->spare = w->next;
		e = audit_keys_step(a->f, &w->spare);
	}
	end = a->end;
	if (e == ERR_OK)
		e = audit_hash(a->f, text, len, end.hash);
	if (e != ERR_OK)
		err_set(why, e, 0, "the audit line can't be made: %s", err_text(e));
	else
		e = write_line(a, text, len, why);
	if (e == ERR_OK) {
		end.size += (off_t)len;
		end.seq++;
		a->end = end;
	}
	if (e == ERR_OK && w) {
		memcpy(w->head, w->next.head, sizeof(w->head));
		a->own = end;
		a->own_n = w->next.n;
		a->own_synced = false;
		w->next = w->spare;
	}
	if (w)
		secret_wipe(&w->spare, sizeof(w->spare));
	free(text);
	return e;
}

static enum err say_note(struct auditlog *a, struct err_why *why)
{
	json_t *o;
	enum err e;

	if (!a->note_event[0])
		return ERR_OK;
	o = json_pack("{s:s, s:s}", "event", a->note_event, "detail", a->note);
	e = o ? put_line(a, o, why) : ERR_NOMEM;
	json_decref(o);
	if (e == ERR_OK)
		a->note_event[0] = '\0';
	return e;
}

static enum err sync_file(struct auditlog *a, struct err_why *why)
{
	if (a->fd >= 0 && fdatasync(a->fd) < 0)
		return err_set(why, ERR_IO, errno, "can't sync the audit log %s: %s", a->log_name, strerror(errno));
	return ERR_OK;
}

/* Points the head to the own last line, which is on the disk. */
static enum err move_head(struct auditlog *a, struct err_why *why)
{
	struct audit_head now;
	struct audit_head h = {
		.seq = a->own.seq, .segment = a->own.segment, .offset = (uint64_t)a->own.size, .n = a->own_n};
	enum err e = audit_head_read(a->dirfd, a->volume, &now, NULL);
	bool gone = e == ERR_NOT_FOUND || e == ERR_CORRUPT;

	if (e != ERR_OK && !gone)
		return err_set(why, e, errno, "can't read the audit log's head: %s", err_text(e));
	if (!gone && now.seq >= a->own.seq)
		return ERR_OK;
	if (gone) {
		audit_note(a, AUDIT_DAMAGED, "the head is missing or damaged");
		e = say_note(a, why);
		if (e == ERR_OK)
			e = sync_file(a, why);
		if (e != ERR_OK)
			return e;
		h.seq = a->own.seq;
		h.offset = (uint64_t)a->own.size;
		h.n = a->own_n;
	}
	memcpy(h.hash, a->own.hash, AUDIT_HASH);
	memcpy(h.w, a->w, ID_BYTES);
	return audit_head_write(a->f, a->dirfd, a->volume, &h, writer(a)->head, gone, why);
}

static enum err sync_all(struct auditlog *a, struct err_why *why)
{
	enum err e = sync_file(a, why);

	if (e == ERR_OK && a->keys && a->own.seq > 0 && !a->own_synced)
		e = move_head(a, why);
	if (e == ERR_OK)
		a->own_synced = true;
	return e;
}

/* ---- segments ---- */

/* The first of the segments from first on whose first line can be read. */
static enum err find_start(struct auditlog *a, uint64_t *first, struct audit_line *l)
{
	enum err e = ERR_NOT_FOUND;

	for (; *first < a->end.segment && e != ERR_OK; (*first)++) {
		struct audit_reader r = {0};
		char name[AUDIT_NAME];
		const char *line = NULL;
		size_t len = 0;
		bool whole = false;
		int fd = -1;

		audit_name_closed(a->volume, *first, name);
		e = audit_file_open(a->dirfd, name, O_RDONLY, &fd, NULL);
		if (e == ERR_OK)
			e = audit_reader_start(&r, fd, 0, AUDIT_LINE_MAX);
		if (e == ERR_OK)
			e = audit_reader_next(&r, &line, &len, &whole);
		if (e == ERR_OK)
			e = line && whole ? audit_line_parse(line, len - 1, a->volume, l) : ERR_CORRUPT;
		audit_reader_end(&r);
		if (fd >= 0)
			close(fd);
		if (e == ERR_OK)
			break;
	}
	return e;
}

/* Drops the oldest segments, after a sealed line that says so is on the disk. */
static enum err trim(struct auditlog *a, struct err_why *why)
{
	struct audit_segments s;
	struct audit_line l = {0};
	char name[AUDIT_NAME], prev[AUDIT_HASH_TEXT];
	uint64_t first;
	json_t *o;
	enum err e = audit_list(a->dirfd, a->volume, &s, why);

	if (e != ERR_OK || s.count + 1 <= a->segments_max)
		return e;
	first = s.last + 2 - a->segments_max;
	if (find_start(a, &first, &l) != ERR_OK)
		return ERR_OK; /* nothing there that the log could start with: it stays for verify to tell */
	b64_encode(l.prev, AUDIT_HASH, prev);
	o = json_pack("{s:s, s:s, s:I, s:I, s:s}", "event", AUDIT_TRIMMED, "detail", "the oldest segments were removed",
		"first_segment", (json_int_t)first, "first_seq", (json_int_t)l.seq, "first_prev", prev);
	audit_line_clear(&l);
	e = o ? put_line(a, o, why) : ERR_NOMEM;
	json_decref(o);
	if (e == ERR_OK)
		e = sync_all(a, why);
	for (uint64_t n = s.first; e == ERR_OK && n < first; n++) {
		audit_name_closed(a->volume, n, name);
		if (unlinkat(a->dirfd, name, 0) < 0 && errno != ENOENT)
			e = err_set(why, ERR_IO, errno, "can't remove %s: %s", name, strerror(errno));
	}
	return e == ERR_OK ? atomic_file_sync_dir(a->dirfd, why) : e;
}

static enum err rotate(struct auditlog *a, struct err_why *why)
{
	char name[AUDIT_NAME];
	struct audit_segments s;
	enum err e = audit_list(a->dirfd, a->volume, &s, why);

	if (e != ERR_OK)
		return e;
	if (!a->keys && s.count + 1 >= 2 * a->segments_max)
		return err_set(
			why, ERR_RANGE, 0, "the audit log is full of lines that nobody with the keys has sealed yet");
	e = sync_file(a, why);
	if (e != ERR_OK)
		return e;
	audit_name_closed(a->volume, a->end.segment, name);
	if (renameat(a->dirfd, a->log_name, a->dirfd, name) < 0)
		return err_set(why, ERR_IO, errno, "can't rename %s to %s: %s", a->log_name, name, strerror(errno));
	close(a->fd);
	a->fd = -1;
	a->end.segment++;
	a->end.size = 0;
	e = atomic_file_sync_dir(a->dirfd, why);
	if (e == ERR_OK)
		e = make_file(a, why);
	return e == ERR_OK && a->keys ? trim(a, why) : e;
}

/* A log that can't be rotated goes on as it is; without keys it ends. */
static enum err make_room(struct auditlog *a, struct err_why *why)
{
	enum err e;

	if (a->fd < 0 || (uint64_t)a->end.size < a->segment_bytes)
		return ERR_OK;
	e = rotate(a, why);
	if (e == ERR_IO)
		e = make_file(a, why);
	return e;
}

/* ---- the calls ---- */

enum err auditlog_append(struct auditlog *a, const json_t *event, bool sync, struct err_why *why)
{
	enum err e;

	if (why)
		*why = (struct err_why){0};
	pthread_mutex_lock(&a->lock);
	e = log_lock(a, why);
	if (e == ERR_OK) {
		e = audit_end_find(a, why);
		if (e == ERR_OK)
			e = make_room(a, why);
		if (e == ERR_OK)
			e = say_note(a, why);
		if (e == ERR_OK)
			e = put_line(a, event, why);
		if (e == ERR_OK && sync)
			e = sync_all(a, why);
		log_unlock(a);
	}
	pthread_mutex_unlock(&a->lock);
	return e;
}

static enum err sync_locked(struct auditlog *a, struct err_why *why)
{
	enum err e = log_lock(a, why);

	if (e != ERR_OK)
		return e;
	e = audit_end_find(a, why);
	if (e == ERR_OK)
		e = sync_all(a, why);
	log_unlock(a);
	return e;
}

enum err auditlog_sync(struct auditlog *a, struct err_why *why)
{
	enum err e;

	if (why)
		*why = (struct err_why){0};
	pthread_mutex_lock(&a->lock);
	e = sync_locked(a, why);
	pthread_mutex_unlock(&a->lock);
	return e;
}

/* Is there any sealed line in what is there? */
static enum err any_sealed(struct auditlog *a, bool *out, struct err_why *why)
{
	enum err e = ERR_OK;
	struct audit_segments s;

	*out = false;
	e = audit_list(a->dirfd, a->volume, &s, why);
	for (uint64_t n = s.first ? s.first : 1; e == ERR_OK && !*out && n <= s.last + 1; n++) {
		struct audit_reader r = {0};
		char name[AUDIT_NAME];
		const char *line = NULL;
		size_t len = 0;
		bool whole = false;
		int fd = -1;

		audit_name_closed(a->volume, n, name);
		e = audit_file_open(a->dirfd, n > s.last ? a->log_name : name, O_RDONLY, &fd, why);
		if (e == ERR_NOT_FOUND) {
			e = ERR_OK;
			continue;
		}
		if (e == ERR_OK)
			e = audit_reader_start(&r, fd, 0, (off_t)1 << 40);
		do {
			struct audit_line l;

			if (e == ERR_OK)
				e = audit_reader_next(&r, &line, &len, &whole);
			if (e == ERR_OK && line && whole && audit_line_parse(line, len - 1, a->volume, &l) == ERR_OK) {
				*out = l.sealed;
				audit_line_clear(&l);
			}
		} while (e == ERR_OK && line && whole && !*out);
		audit_reader_end(&r);
		if (fd >= 0)
			close(fd);
	}
	return e;
}

/* Is the head what it should be?  What is wrong with it is noted. */
static enum err examine_head(struct auditlog *a, struct volkeys *vk, bool *make, struct err_why *why)
{
	struct audit_head h;
	bool sealed = false;
	enum err e = audit_head_read(a->dirfd, a->volume, &h, why);

	*make = false;
	if (e == ERR_NOT_FOUND) {
		e = any_sealed(a, &sealed, why);
		*make = e == ERR_OK && !sealed;
		if (sealed)
			audit_note(a, AUDIT_DAMAGED, "the head is missing");
		return e;
	}
	if (e == ERR_OK)
		e = audit_head_check(a->f, vk, &h);
	if (e == ERR_OK)
		e = audit_head_line(a, &h);
	if (e == ERR_CORRUPT) {
		audit_note(a, AUDIT_DAMAGED, "the head is damaged, or the line it points to is gone or changed");
		e = ERR_OK;
	}
	return e;
}

static enum err become_writer(struct auditlog *a, struct volkeys *vk, struct err_why *why)
{
	struct audit_head first = {.segment = 1};
	struct secret *keys = NULL;
	struct audit_writer *w;
	bool make = false;
	enum err e = audit_end_find(a, why);

	if (e == ERR_OK)
		e = examine_head(a, vk, &make, why);
	if (e == ERR_OK)
		e = secret_new(sizeof(struct audit_writer), &keys);
	if (e != ERR_OK)
		return e;
	w = (struct audit_writer *)(void *)secret_bytes(keys);
	e = fips_random(a->f, a->w, sizeof(a->w)); /* no bulk that a fork could have doubled */
	if (e == ERR_OK)
		e = audit_keys_start(a->f, vk, a->w, &w->next);
	if (e == ERR_OK && make) {
		memcpy(first.w, a->w, ID_BYTES);
		e = audit_genesis(a->f, a->id, first.hash);
		if (e == ERR_OK)
			e = audit_head_write(a->f, a->dirfd, a->volume, &first, w->next.head, true, why);
	}
	if (e != ERR_OK) {
		secret_free(keys);
		return e;
	}
	a->keys = keys;
	return ERR_OK;
}

enum err auditlog_key(struct auditlog *a, struct volkeys *vk)
{
	enum err e = ERR_OK;

	pthread_mutex_lock(&a->lock);
	if (!a->keys)
		e = log_lock(a, NULL);
	if (e == ERR_OK && !a->keys) {
		e = become_writer(a, vk, NULL);
		if (e == ERR_OK && trim(a, NULL) != ERR_OK)
			e = ERR_OK; /* the next rotation tries again */
		log_unlock(a);
	}
	pthread_mutex_unlock(&a->lock);
	return e;
}

void auditlog_close(struct auditlog *a)
{
	if (!a)
		return;
	if (a->keys && a->own.seq > 0 && !a->own_synced && sync_locked(a, NULL) != ERR_OK)
		a->own_synced = false; /* nobody left to tell; verify will not miss the lines */
	secret_free(a->keys);
	if (a->fd >= 0)
		close(a->fd);
	if (a->lockfd >= 0)
		close(a->lockfd);
	if (a->dirfd >= 0)
		close(a->dirfd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
