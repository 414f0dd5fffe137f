/* SPDX-License-Identifier: Apache-2.0 */
/* session - the numbers of read-write mounts, and which of them did not end cleanly.  crypto/FORMAT.md section 8. */
#include "keyprov/sealed_json.h"
#include "keyprov/volume_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RANGES_MAX 1000 /* in the file; each is at most 24 bytes of it */
#define STAMPS	   65536u

struct state {
	struct session s;
	bool open;
};

static void state_clear(struct state *st)
{
	free(st->s.unclean);
	memset(st, 0, sizeof(*st));
}

/* ---- ranges ---- */

/* Joins the two neighbors with the smallest gap.  Clean sessions in the gap count as unclean then: less is noticed, but
 * nothing readable is refused. */
static void join_nearest(struct session *s)
{
	size_t best = 1;

	for (size_t i = 2; i < s->n_unclean; i++)
		if (s->unclean[i].first - s->unclean[i - 1].last < s->unclean[best].first - s->unclean[best - 1].last)
			best = i;
	s->unclean[best - 1].last = s->unclean[best].last;
	memmove(&s->unclean[best], &s->unclean[best + 1], (s->n_unclean - best - 1) * sizeof(s->unclean[0]));
	s->n_unclean--;
}

/* number is greater than all there are */
static enum err add_unclean(struct session *s, uint32_t number)
{
	struct session_range *grown;
	size_t n = s->n_unclean;

	if (n > 0 && number - s->unclean[n - 1].last <= 1) {
		s->unclean[n - 1].last = number;
		return ERR_OK;
	}
	grown = reallocarray(s->unclean, n + 1, sizeof(*grown));
	if (!grown)
		return ERR_NOMEM;
	grown[n] = (struct session_range){number, number};
	s->unclean = grown;
	s->n_unclean = n + 1;
	while (s->n_unclean > RANGES_MAX)
		join_nearest(s);
	return ERR_OK;
}

/* ---- JSON ---- */

static bool get_u32(const json_t *j, uint32_t *out)
{
	json_int_t n = json_integer_value(j);

	if (!json_is_integer(j) || n < 0 || n > UINT32_MAX)
		return false;
	*out = (uint32_t)n;
	return true;
}

static enum err parse_ranges(const json_t *list, struct session *s)
{
	size_t n = json_array_size(list);
	uint32_t after = 0;

	if (!json_is_array(list) || n > RANGES_MAX)
		return ERR_CORRUPT;
	s->unclean = calloc(n ? n : 1, sizeof(s->unclean[0]));
	if (!s->unclean)
		return ERR_NOMEM;
	for (size_t i = 0; i < n; i++) {
		const json_t *pair = json_array_get(list, i);
		struct session_range r;

		if (json_array_size(pair) != 2 || !get_u32(json_array_get(pair, 0), &r.first) ||
			!get_u32(json_array_get(pair, 1), &r.last))
			return ERR_CORRUPT;
		if (r.first > r.last || r.last > s->number || (i > 0 && r.first <= after))
			return ERR_CORRUPT;
		after = r.last;
		s->unclean[i] = r;
	}
	s->n_unclean = n;
	return ERR_OK;
}

/* j has passed its MAC; still nothing in it is believed without a look. */
static enum err parse_state(const json_t *j, struct state *st)
{
	const json_t *open = json_object_get(j, "open");
	enum err e;

	memset(st, 0, sizeof(*st));
	if (!get_u32(json_object_get(j, "session"), &st->s.number) || !json_is_boolean(open) ||
		json_object_size(j) != 4)
		return ERR_CORRUPT;
	st->open = json_is_true(open);
	e = parse_ranges(json_object_get(j, "unclean"), &st->s);
	if (e != ERR_OK)
		state_clear(st);
	return e;
}

static json_t *ranges_json(const struct session *s)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < s->n_unclean; i++) {
		if (json_array_append_new(list, json_pack("[I, I]", (json_int_t)s->unclean[i].first,
							(json_int_t)s->unclean[i].last)) != 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

/* Both copies, the first one first. */
static enum err write_state(int dirfd, struct volkeys *vk, const struct session *s, bool open, struct err_why *why)
{
	json_t *j = json_pack(
		"{s:I, s:b, s:o}", "session", (json_int_t)s->number, "open", (int)open, "unclean", ranges_json(s));
	enum err e;

	if (!j)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	e = sealed_json_seal(j, vk, MAC_STATE);
	if (e != ERR_OK)
		e = err_set(why, e, 0, "can't compute the MAC of " VOLUME_STATE ": %s", err_text(e));
	else
		e = sealed_json_write_page(dirfd, VOLUME_STATE, j, why);
	if (e == ERR_OK)
		e = sealed_json_write_page(dirfd, STATE_BACKUP, j, why);
	json_decref(j);
	return e;
}

static enum err read_copy(int dirfd, const char *name, struct volkeys *vk, struct state *st, struct err_why *why)
{
	json_t *j;
	enum err e = sealed_json_read(dirfd, name, &j, why);

	memset(st, 0, sizeof(*st));
	if (e != ERR_OK)
		return e;
	e = sealed_json_verify(j, vk, MAC_STATE);
	if (e == ERR_OK)
		e = parse_state(j, st);
	json_decref(j);
	if (e == ERR_CORRUPT)
		return err_set(why, e, 0, "%s was changed or is damaged: its MAC is wrong", name);
	return e == ERR_OK ? ERR_OK : err_set(why, e, 0, "can't check %s: %s", name, err_text(e));
}

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_NOT_FOUND;
}

/*
 * The newer copy counts, the first one among equals: it is written first, so it is never behind.  A second copy that
 * stands in for a damaged first one may be one step behind, which is harmless: a session's first step ends before
 * anything is written in it, and its last step (closed) is only believed once it is read.
 */
static enum err load(const struct volume *v, struct volkeys *vk, struct state *st, struct err_why *why)
{
	struct err_why why1 = {0}, why2 = {0};
	struct state a, b;
	enum err e1 = read_copy(v->dirfd, VOLUME_STATE, vk, &a, &why1);
	enum err e2 = read_copy(v->dirfd, STATE_BACKUP, vk, &b, &why2);

	if (e1 == ERR_OK && (e2 != ERR_OK || a.s.number >= b.s.number)) {
		state_clear(&b);
		*st = a;
		return ERR_OK;
	}
	state_clear(&a);
	if (e2 == ERR_OK) {
		*st = b;
		return ERR_OK;
	}
	if (is_damage(e1) && is_damage(e2))
		return err_set(why, ERR_CORRUPT, 0,
			"the session state of %.150s is lost (%.120s; %.120s); if you trust the"
			" directory, mount once with -o reset_state",
			v->path, why1.text, why2.text);
	if (is_damage(e1))
		return err_set(why, e2, why2.sys_errno, "%s", why2.text);
	return err_set(why, e1, why1.sys_errno, "%s", why1.text);
}

/* ---- public ---- */

enum err session_create(int dirfd, struct volkeys *vk, struct err_why *why)
{
	struct session none = {0};

	return write_state(dirfd, vk, &none, false, why);
}

/* The next session, durably; st then describes it. */
static enum err begin_next(const struct volume *v, struct volkeys *vk, struct state *st, struct err_why *why)
{
	if (v->lock_shared)
		return err_set(why, ERR_IO, EROFS, "%.300s can't be written; mount with -o ro", v->path);
	if (st->s.number == UINT32_MAX)
		return err_set(why, ERR_RANGE, 0, "the volume has no session numbers left; mount with -o ro");
	st->s.number++;
	return write_state(v->dirfd, vk, &st->s, true, why);
}

enum err session_begin(struct volume *v, struct volkeys *vk, bool read_only, struct session **out, struct err_why *why)
{
	struct session *s = malloc(sizeof(*s));
	struct state st = {0};
	enum err e;

	*out = NULL;
	if (!s)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	e = load(v, vk, &st, why);
	if (e == ERR_OK && st.open && add_unclean(&st.s, st.s.number) != ERR_OK)
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	if (e == ERR_OK && !read_only)
		e = begin_next(v, vk, &st, why);
	if (e != ERR_OK) {
		state_clear(&st);
		free(s);
		return e;
	}
	*s = st.s; /* transferred */
	*out = s;
	return ERR_OK;
}

enum err session_end(struct volume *v, struct volkeys *vk, struct session *s, struct err_why *why)
{
	struct session none = {.number = s->number};

	return write_state(v->dirfd, vk, s->resolved ? &none : s, false, why);
}

enum err session_resolve(struct volume *v, struct volkeys *vk, struct session *s, struct err_why *why)
{
	struct session none = {.number = s->number};
	enum err e = write_state(v->dirfd, vk, &none, true, why);

	if (e == ERR_OK)
		s->resolved = true;
	return e;
}

enum err session_reset(struct volume *v, struct volkeys *vk, struct err_why *why)
{
	/* Which sessions there were is lost, but their stamps have 16 bits: this range has them all. */
	struct session_range all = {0, STAMPS - 1};
	struct session s = {.number = STAMPS, .unclean = &all, .n_unclean = 1};
	struct state st = {0};
	enum err e = load(v, vk, &st, why);

	if (e == ERR_OK) { /* nothing is lost; the option was left in fstab */
		state_clear(&st);
		return ERR_OK;
	}
	if (e != ERR_CORRUPT)
		return e;
	return write_state(v->dirfd, vk, &s, false, why);
}

void session_free(struct session *s)
{
	if (!s)
		return;
	free(s->unclean);
	free(s);
}

bool session_stamp_unclean(const struct session *s, uint16_t stamp)
{
	for (size_t i = 0; i < s->n_unclean; i++) {
		uint32_t first = s->unclean[i].first, span = s->unclean[i].last - first;

		/* distance from the first number to the next one with this stamp */
		if (span >= STAMPS - 1 || (uint16_t)(stamp - (uint16_t)first) <= span)
			return true;
	}
	return false;
}

bool session_any_unclean(const struct session *s)
{
	return s->n_unclean > 0;
}
