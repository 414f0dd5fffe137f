/* SPDX-License-Identifier: Apache-2.0 */
/* auditlog_verify - finds the first line that is not what was written; AUDIT.md section 5. */
#include "crypto/secret.h"
#include "keyprov/auditlog_internal.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM	     1
#define uthash_nonfatal_oom(element) /* seen by its missing table */
/* clang does not see that the default function means to fall through. */
#define HASH_FUNCTION(key, len, hash) HASH_FNV(key, len, hash)
#include <uthash.h>

#define RUN_MAX	   4096u /* unsealed lines in a row that are told apart */
#define KEYS_CACHE 64u	 /* writers whose keys are kept; those of the others are computed anew */

struct seen { /* a writer */
	uint8_t w[ID_BYTES];
	uint64_t next; /* the n its next line must have */
	struct audit_keys *keys;
	UT_hash_handle hh;
};

struct place {
	uint8_t hash[AUDIT_HASH];
	size_t file;
	unsigned long line;
};

struct check {
	const struct fips *f;
	struct volkeys *vk;
	const struct audit_view *view;
	struct auditlog_verdict *out;
	struct seen *writers, *cached[KEYS_CACHE];
	size_t cache_next;

	size_t file; /* of the line looked at, and its number there */
	unsigned long line;
	off_t line_end;
	uint64_t seq;		   /* of the line before */
	struct place run[RUN_MAX]; /* the last sealed line (or the start), then the unsealed ones behind it */
	size_t run_len;
	bool run_full, before_sealed; /* the line before is authentic */
	struct place before, at_head; /* at_head.line != 0: what stands where the head's line should be */

	uint64_t first_seq, trim_seq; /* trim_seq: the highest that a trimmed line allows to be the first */
	uint8_t first_prev[AUDIT_HASH], trim_prev[AUDIT_HASH];
	bool any_sealed, stop;
	enum err head_err; /* of reading the head, and of its seal */
	const struct audit_end *own;
};

static void found(struct check *c, const char *file, unsigned long line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void found(struct check *c, const char *file, unsigned long line, const char *fmt, ...)
{
	va_list ap;

	c->stop = true;
	c->out->sound = false;
	c->out->line = line;
	snprintf(c->out->file, sizeof(c->out->file), "%s", file);
	va_start(ap, fmt);
	if (vsnprintf(c->out->what, sizeof(c->out->what), fmt, ap) < 0)
		c->out->what[0] = '\0';
	va_end(ap);
}

static const char *file_name(const struct check *c, size_t i)
{
	return i < c->view->count ? c->view->files[i].name : "";
}

static void found_here(struct check *c, const char *what)
{
	found(c, file_name(c, c->file), c->line, "%s", what);
}

static void found_at(struct check *c, const struct place *p, const char *what)
{
	found(c, file_name(c, p->file), p->line, "%s", what);
}

/* ---- seals ---- */

static void forget_keys(struct seen *s)
{
	locked_free(s->keys);
	s->keys = NULL;
}

/* The keys of s at line n, where n is not behind what is cached. */
static enum err keys_at(struct check *c, struct seen *s, uint64_t n)
{
	struct seen **slot;

	if (!s->keys || s->keys->n > n) {
		enum err e;

		if (!s->keys) {
			slot = &c->cached[c->cache_next++ % KEYS_CACHE];
			if (*slot)
				forget_keys(*slot);
			*slot = s;
			s->keys = locked_alloc(sizeof(*s->keys));
			if (!s->keys) {
				*slot = NULL;
				return ERR_NOMEM;
			}
		}
		e = audit_keys_start(c->f, c->vk, s->w, s->keys);
		if (e != ERR_OK)
			return e;
	}
	return audit_keys_jump(c->f, s->keys, n);
}

static struct seen *writer_of(struct check *c, const uint8_t w[static ID_BYTES])
{
	struct seen *s = NULL;

	HASH_FIND(hh, c->writers, w, ID_BYTES, s);
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	memcpy(s->w, w, ID_BYTES);
	HASH_ADD(hh, c->writers, w, ID_BYTES, s);
	if (!s->hh.tbl) {
		free(s);
		return NULL;
	}
	return s;
}

/* *order: -1: a line of this writer that was here before; 1: lines of it are left out before this one. */
static enum err check_seal(struct check *c, const char *text, const struct audit_line *l, int *order)
{
	struct seen *s = writer_of(c, l->w);
	bool is_first = s && s->next == 0;
	enum err e = ERR_OK;

	*order = 0;
	if (!s)
		return ERR_NOMEM;
	if (c->vk) {
		e = keys_at(c, s, l->n);
		if (e == ERR_OK)
			e = audit_mac_check(c->f, s->keys->seal, text, l->covered, l->mac);
		if (e != ERR_OK)
			return e;
	}
	/* a log that was trimmed may start in the middle of what a writer wrote */
	if (l->n < s->next)
		*order = -1;
	else if (l->n > s->next && !(is_first && c->first_seq > 1))
		*order = 1;
	if (*order >= 0)
		s->next = l->n + 1;
	return ERR_OK;
}

/* ---- chain ---- */

static bool chained(const struct check *c, const struct audit_line *l)
{
	return l->seq == c->seq + 1 && memcmp(l->prev, c->before.hash, AUDIT_HASH) == 0;
}

/* The chain is broken in front of a line that is authentic itself: what is wrong is in front of it. */
static void explain_authentic(struct check *c, const struct audit_line *l, int order)
{
	char what[160];
	size_t j = c->run_len;

	while (j > 0 && memcmp(c->run[j - 1].hash, l->prev, AUDIT_HASH) != 0)
		j--;
	if (j > 0 && j < c->run_len) {
		found_at(c, &c->run[j], "inserted: no sealed line knows it");
	} else if (order < 0 || (j == 0 && c->run_len <= 1 && l->seq <= c->seq)) {
		found_here(c, "inserted: it is a copy of a line that belongs elsewhere");
	} else if (l->seq > c->seq + 1) {
		snprintf(what, sizeof(what), "removed: the lines %llu to %llu, in front of it, are gone",
			(unsigned long long)c->seq + 1, (unsigned long long)l->seq - 1);
		found_here(c, what);
	} else if (j == 0 && c->run_len > 1) {
		found_at(c, &c->run[1],
			"changed: it, or an unsealed line behind it, is not what the next sealed line "
			"says");
	} else {
		found_here(c, "removed: what it follows is not the line in front of it");
	}
}

static void explain(struct check *c, const struct audit_line *l, int order)
{
	bool authentic = l->sealed && c->vk;

	if (l->seq == 1 && c->first_seq > 1)
		found(c, file_name(c, 0), 1, "inserted: line 1 is behind it");
	else if (authentic)
		explain_authentic(c, l, order);
	else if (order < 0)
		found_here(c, "inserted: it is a copy of a line that belongs elsewhere");
	else if (l->seq > c->seq + 1)
		found_here(c, "removed: lines in front of it are gone (seq has a gap)");
	else if (l->seq <= c->seq)
		found_here(c, "inserted: its seq was there before");
	else if (!c->before_sealed && c->seq >= c->first_seq && c->first_seq > 0)
		found_at(c, &c->before, "changed: the next line has another hash of it");
	else
		found_here(c, "changed: its hash of the line before is wrong");
}

/* What lines of ours say about the log itself. */
static enum err read_event(struct check *c, const struct audit_line *l)
{
	uint64_t seq = 0;
	uint8_t prev[AUDIT_HASH];
	const char *detail = json_string_value(json_object_get(l->o, "detail"));

	if (strcmp(l->event, AUDIT_DAMAGED) == 0) {
		found(c, file_name(c, c->file), c->line, "changed: when this line was written, it was found that %s",
			detail ? detail : "the log is damaged");
		return ERR_OK;
	}
	if (strcmp(l->event, AUDIT_TRIMMED) != 0 || !l->sealed)
		return ERR_OK;
	if (audit_get_number(l->o, "first_seq", &seq) != ERR_OK ||
		audit_get_b64(l->o, "first_prev", prev, AUDIT_HASH) != ERR_OK)
		return ERR_OK;
	if (seq > c->trim_seq) {
		c->trim_seq = seq;
		memcpy(c->trim_prev, prev, AUDIT_HASH);
	}
	return ERR_OK;
}

/* The log may start with its first line only if that is line 1, or a line about trimming says so. */
static bool start_explained(const struct check *c)
{
	if (c->first_seq <= 1)
		return true;
	return c->trim_seq > c->first_seq ||
	       (c->trim_seq == c->first_seq && memcmp(c->trim_prev, c->first_prev, AUDIT_HASH) == 0);
}

static void found_start(struct check *c)
{
	found(c, file_name(c, 0), 1, "removed: the lines in front of it are gone, and no line says why");
}

/* Is it the one the head, or the process that asks, knows under this number? */
static void check_known(struct check *c, const struct audit_line *l)
{
	const struct audit_head *h = &c->view->head;

	bool known_bad = c->own && l->seq == c->own->seq && memcmp(c->own->hash, c->before.hash, AUDIT_HASH) != 0;
	bool head_bad = c->head_err == ERR_OK && l->seq == h->seq &&
			(memcmp(h->hash, c->before.hash, AUDIT_HASH) != 0 || h->offset != (uint64_t)c->line_end ||
				h->segment != c->view->files[c->file].segment);

	/* the head points to sealed lines only: the next of these will tell of this one */
	if (head_bad && c->vk && !l->sealed) {
		c->at_head = c->before;
		return;
	}
	/* what was trimmed is gone only after the head has moved behind the line that says so */
	if ((known_bad || head_bad) && !start_explained(c))
		found_start(c);
	else if (head_bad)
		found_here(c, "changed: it is not the line that the head points to");
	else if (known_bad)
		found_here(c, "changed: it is not the line that this process wrote");
}

static enum err remember(struct check *c, const char *text, size_t len, const struct audit_line *l)
{
	enum err e = audit_hash(c->f, text, len, c->before.hash);

	c->before.file = c->file;
	c->before.line = c->line;
	c->before_sealed = l->sealed && c->vk;
	c->seq = l->seq;
	if (c->before_sealed) {
		c->run_len = 0;
		c->run_full = false;
	}
	if (c->run_len < RUN_MAX)
		c->run[c->run_len++] = c->before;
	c->out->unsealed_end = l->sealed ? 0 : c->out->unsealed_end + 1;
	c->any_sealed = c->any_sealed || l->sealed;
	return e;
}

/* Behind the head a crash may leave what is no line. */
static bool behind_head(const struct check *c)
{
	if (c->head_err == ERR_OK)
		return c->seq >= c->view->head.seq;
	return c->head_err == ERR_NOT_FOUND && !c->any_sealed;
}

static enum err start_of_log(struct check *c, const struct audit_line *l)
{
	c->first_seq = c->out->first_seq = l->seq;
	memcpy(c->first_prev, l->prev, AUDIT_HASH);
	if (l->seq == 1)
		return ERR_OK;
	/* whether it may be the first is known when the whole log is read */
	c->seq = l->seq - 1;
	memcpy(c->before.hash, l->prev, AUDIT_HASH);
	memcpy(c->run[0].hash, l->prev, AUDIT_HASH);
	return ERR_OK;
}

/* One whole line, with its newline. */
static enum err check_line(struct check *c, const char *text, size_t len)
{
	struct audit_line l;
	int order = 0;
	enum err e = audit_line_parse(text, len - 1, c->view->volume, &l);

	if (e == ERR_CORRUPT) {
		if (c->file + 1 == c->view->count && behind_head(c) && memchr(text, '\0', len)) {
			c->stop = true;
			c->out->torn_end = (unsigned long)(c->view->files[c->file].size - c->line_end + (off_t)len);
			return ERR_OK;
		}
		found_here(c, "changed: it is not a line of this log");
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	if (c->first_seq == 0)
		e = start_of_log(c, &l);
	if (e == ERR_OK && l.sealed)
		e = check_seal(c, text, &l, &order);
	if (e == ERR_CORRUPT || e == ERR_RANGE) {
		found_here(c, "changed: its seal is wrong");
		e = ERR_OK;
	} else if (e == ERR_OK && !chained(c, &l)) {
		explain(c, &l, order);
	} else if (e == ERR_OK && order != 0) {
		found_here(c, order < 0 ? "inserted: a line of this writer with this number was there before"
					: "removed: lines of its writer in front of it are gone");
	} else if (e == ERR_OK) {
		e = remember(c, text, len, &l);
		c->out->lines++;
		c->out->last_seq = l.seq;
		if (e == ERR_OK)
			check_known(c, &l);
		if (e == ERR_OK && !c->stop)
			e = read_event(c, &l);
	}
	audit_line_clear(&l);
	return e;
}

static enum err check_file(struct check *c)
{
	const struct audit_file *f = &c->view->files[c->file];
	struct audit_reader r;
	enum err e = audit_reader_start(&r, f->fd, 0, f->size);

	c->line = 0;
	while (e == ERR_OK && !c->stop) {
		const char *line;
		size_t len = 0;
		bool whole = false;

		e = audit_reader_next(&r, &line, &len, &whole);
		if (e != ERR_OK || !line)
			break;
		c->line++;
		c->line_end = r.at;
		if (whole) {
			e = check_line(c, line, len);
		} else if (c->file + 1 == c->view->count && behind_head(c)) {
			c->stop = true;
			c->out->torn_end = (unsigned long)(f->size - r.at);
		} else if (c->file + 1 == c->view->count && len < AUDIT_LINE_MAX) {
			found_here(c, "cut off: the line has no end, and the head says that it had");
		} else {
			found_here(c, "changed: it is not a line of this log");
		}
	}
	audit_reader_end(&r);
	return e;
}

/* ---- the whole ---- */

/* The start, the head and the end, after all lines were good. */
static enum err check_ends(struct check *c)
{
	const struct audit_head *h = &c->view->head;
	char head[AUDIT_NAME];
	size_t last = c->view->count ? c->view->count - 1 : 0;
	char log[AUDIT_NAME];
	enum err e = c->head_err;

	audit_name(c->view->volume, "head", head);
	audit_name(c->view->volume, "log", log);
	if (!start_explained(c)) {
		found_start(c);
		return ERR_OK;
	}
	if (e == ERR_NOT_FOUND) {
		if (c->any_sealed)
			found(c, head, 0, "removed: the head is gone");
	} else if (e == ERR_CORRUPT || e == ERR_RANGE) {
		found(c, head, 0, "changed: the head is damaged or its seal is wrong");
	} else if (e != ERR_OK) {
		return e;
	} else if (h->seq > c->seq) {
		found(c, c->view->count ? file_name(c, last) : log, c->view->count ? c->line + !c->out->torn_end : 0,
			"cut off: the log ends after line %llu, and the head says that there were %llu",
			(unsigned long long)c->seq, (unsigned long long)h->seq);
	} else if (c->first_seq > 1 && h->seq < c->first_seq) {
		found(c, head, 0, "changed: the head is older than the log");
	}
	if (!c->stop && c->at_head.line > 0)
		found_at(c, &c->at_head, "changed: it is not the line that the head points to");
	if (!c->stop && c->own && c->own->seq > c->seq)
		found(c, c->view->count ? file_name(c, last) : log, c->view->count ? c->line + !c->out->torn_end : 0,
			"cut off: the log ends after line %llu, and this process wrote line %llu",
			(unsigned long long)c->seq, (unsigned long long)c->own->seq);
	return ERR_OK;
}

static enum err check_all(struct check *c, const uint8_t volume[static ID_BYTES])
{
	enum err e = audit_genesis(c->f, volume, c->before.hash);
	bool torn;

	c->out->sound = true;
	c->out->seals_checked = c->vk != NULL;
	c->run[0] = c->before;
	c->run_len = 1;
	c->head_err = c->view->head_err;
	if (e == ERR_OK && c->head_err == ERR_OK && c->vk)
		c->head_err = audit_head_check(c->f, c->vk, &c->view->head);
	for (c->file = 0; e == ERR_OK && !c->stop && c->file < c->view->count; c->file++)
		e = check_file(c);
	torn = c->stop && c->out->sound;
	if (torn)
		c->stop = false;
	return e == ERR_OK && !c->stop ? check_ends(c) : e;
}

static void check_free(struct check *c)
{
	struct seen *s, *next;

	HASH_ITER(hh, c->writers, s, next)
	{
		HASH_DEL(c->writers, s);
		locked_free(s->keys);
		free(s);
	}
	free(c);
}

struct question {
	const struct fips *f;
	const char *dir;
	const uint8_t *volume;
	struct volkeys *vk;
	const struct audit_end *own;
};

static enum err verify_view(const struct question *q, const struct audit_view *v, struct auditlog_verdict *out)
{
	struct check *c = calloc(1, sizeof(*c));
	enum err e;

	if (!c)
		return ERR_NOMEM;
	memset(out, 0, sizeof(*out));
	c->f = q->f;
	c->vk = q->vk;
	c->view = v;
	c->out = out;
	c->own = q->own && q->own->seq > 0 ? q->own : NULL;
	e = check_all(c, q->volume);
	check_free(c);
	return e;
}

/*
 * Writers go on while a view is looked at.  One of them may have cut off, behind what was a torn end in it, and written
 * again; so a bad verdict is given only with all of them kept out.
 */
static enum err verify(const struct question *q, struct auditlog_verdict *out, struct err_why *why)
{
	enum err e = ERR_OK;

	if (why)
		*why = (struct err_why){0};
	memset(out, 0, sizeof(*out));
	for (int hold = 0; hold < 2 && e == ERR_OK && !out->sound; hold++) {
		struct audit_view v;

		e = audit_view_open(q->dir, q->volume, hold, &v, why);
		if (e != ERR_OK)
			return e;
		e = verify_view(q, &v, out);
		audit_view_close(&v);
	}
	return e == ERR_OK ? e : err_set(why, e, errno, "the audit log can't be verified: %s", err_text(e));
}

enum err auditlog_verify(const struct fips *f, const char *dir, const uint8_t volume[static ID_BYTES],
	struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why)
{
	const struct question q = {.f = f, .dir = dir, .volume = volume, .vk = vk};

	return verify(&q, out, why);
}

enum err auditlog_verify_own(struct auditlog *a, struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why)
{
	struct audit_end own;
	char dir[64];
	enum err e;
	const struct question q = {.f = a->f, .dir = dir, .volume = a->id, .vk = vk, .own = &own};

	pthread_mutex_lock(&a->lock);
	own = a->own;
	pthread_mutex_unlock(&a->lock);
	snprintf(dir, sizeof(dir), "/proc/self/fd/%d", a->dirfd);
	e = verify(&q, out, why);
	return e == ERR_NOT_FOUND ? err_set(why, e, 0, "there is no audit log of this volume yet") : e;
}
