/* SPDX-License-Identifier: Apache-2.0 */
/* options - one table says what each option is; see options.h. */
#include "fs/options.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <math.h>
#include <pwd.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

/* Nobody but this daemon changes the backing directory, and it tells the kernel nothing that it would have to take
 * back. */
#define DEFAULT_TIMEOUT_SECONDS 3600.0
#define MAX_TIMEOUT_SECONDS	86400.0
#define NEAR_ENOUGH		2u  /* edits up to which a known option is offered instead */
#define OPTION_NAME_CAP		64u /* longer ones are shown cut */

enum kind {
	K_IGNORE, /* known, without effect here; may have a value */
	K_ON,	  /* sets mount flags */
	K_OFF,	  /* clears mount flags */
	K_TRUE,
	K_STRING,
	K_PATH, /* absolute */
	K_SECONDS,
	K_THREADS,
	K_URING,
	K_UMASK,
	K_UID,
	K_GID,
	K_CONTEXT,
	K_USERSPACE,
};

struct known {
	const char *name;
	enum kind kind;
	size_t at; /* offset in struct mount_options */
	unsigned long flags;
};

#define AT(member) offsetof(struct mount_options, member)
#define FLAGS_USER (MS_NOEXEC | MS_NOSUID | MS_NODEV)

/*
 * FUSE keeps no access times of its own (the backing filesystem does), so the options about them other than noatime and
 * nodiratime have nothing to act on.  user_id= to max_read= come from /proc/self/mountinfo when mount(8) remounts.
 */
static const struct known known[] = {
	{"managed_key", K_STRING, AT(managed_key), 0},
	{"fips_dir", K_STRING, AT(fips_dir), 0},
	{"allow_non_fips", K_TRUE, AT(allow_non_fips), 0},
	{"direct_io", K_TRUE, AT(direct_io), 0},
	{"reset_state", K_TRUE, AT(reset_state), 0},
	{"nonempty", K_TRUE, AT(nonempty), 0},
	{"wait_key", K_TRUE, AT(wait_key), 0},
	{"audit_dir", K_PATH, AT(audit_dir), 0},
	{"on_state_change", K_STRING, AT(on_state_change), 0},
	{"io_uring", K_URING, 0, URING_ON},
	{"no_io_uring", K_URING, 0, URING_OFF},
	{"max_threads", K_THREADS, 0, 0},
	{"attr_timeout", K_SECONDS, AT(attr_timeout), 0},
	{"entry_timeout", K_SECONDS, AT(entry_timeout), 0},
	{"negative_timeout", K_SECONDS, AT(negative_timeout), 0},
	{"uid", K_UID, 0, 0},
	{"gid", K_GID, 0, 0},
	{"umask", K_UMASK, 0, 0},

	{"ro", K_ON, 0, MS_RDONLY},
	{"rw", K_OFF, 0, MS_RDONLY},
	{"noexec", K_ON, 0, MS_NOEXEC},
	{"exec", K_OFF, 0, MS_NOEXEC},
	{"nodev", K_ON, 0, MS_NODEV},
	{"dev", K_OFF, 0, MS_NODEV},
	{"nosuid", K_ON, 0, MS_NOSUID},
	{"suid", K_OFF, 0, MS_NOSUID},
	{"noatime", K_ON, 0, MS_NOATIME},
	{"atime", K_OFF, 0, MS_NOATIME},
	{"nodiratime", K_ON, 0, MS_NODIRATIME},
	{"diratime", K_OFF, 0, MS_NODIRATIME},
	{"sync", K_ON, 0, MS_SYNCHRONOUS},
	{"async", K_OFF, 0, MS_SYNCHRONOUS},
	{"dirsync", K_ON, 0, MS_DIRSYNC},
	{"nosymfollow", K_ON, 0, MS_NOSYMFOLLOW},
	{"symfollow", K_OFF, 0, MS_NOSYMFOLLOW},
	{"user", K_ON, 0, FLAGS_USER},
	{"users", K_ON, 0, FLAGS_USER},
	{"owner", K_ON, 0, MS_NOSUID | MS_NODEV},
	{"group", K_ON, 0, MS_NOSUID | MS_NODEV},
	{"remount", K_TRUE, AT(remount), 0},
	{"allow_other", K_TRUE, AT(allow_other), 0},
	{"noallow_other", K_TRUE, AT(no_allow_other), 0},
	{"allow_root", K_TRUE, AT(allow_root), 0},
	{"fsname", K_STRING, AT(fsname), 0},
	{"subtype", K_STRING, AT(subtype), 0},
	{"context", K_CONTEXT, 0, 0},
	{"fscontext", K_CONTEXT, 0, 0},
	{"defcontext", K_CONTEXT, 0, 0},
	{"rootcontext", K_CONTEXT, 0, 0},
	{"_netdev", K_USERSPACE, 0, 0},

	{"defaults", K_IGNORE, 0, 0},
	{"default_permissions", K_TRUE, AT(default_permissions), 0},
	{"relatime", K_IGNORE, 0, 0},
	{"norelatime", K_IGNORE, 0, 0},
	{"strictatime", K_IGNORE, 0, 0},
	{"nostrictatime", K_IGNORE, 0, 0},
	{"lazytime", K_IGNORE, 0, 0},
	{"nolazytime", K_IGNORE, 0, 0},
	{"iversion", K_IGNORE, 0, 0},
	{"noiversion", K_IGNORE, 0, 0},
	{"silent", K_IGNORE, 0, 0},
	{"loud", K_IGNORE, 0, 0},
	{"nouser", K_IGNORE, 0, 0},
	{"nousers", K_IGNORE, 0, 0},
	{"noowner", K_IGNORE, 0, 0},
	{"nogroup", K_IGNORE, 0, 0},
	{"auto", K_IGNORE, 0, 0},
	{"noauto", K_IGNORE, 0, 0},
	{"fail", K_IGNORE, 0, 0},
	{"nofail", K_IGNORE, 0, 0},
	{"comment", K_IGNORE, 0, 0},
	{"uhelper", K_IGNORE, 0, 0},
	{"user_id", K_IGNORE, 0, 0},
	{"group_id", K_IGNORE, 0, 0},
	{"max_read", K_IGNORE, 0, 0},
	{"blksize", K_IGNORE, 0, 0},
	{"seclabel", K_IGNORE, 0, 0},
};

struct given {
	const char *name;  /* as written, cut for messages */
	const char *value; /* unescaped; NULL if none */
	const char *raw;   /* the whole option as written */
};

void options_init(struct mount_options *o)
{
	memset(o, 0, sizeof(*o));
	o->attr_timeout = DEFAULT_TIMEOUT_SECONDS;
	o->entry_timeout = DEFAULT_TIMEOUT_SECONDS;
	o->negative_timeout = DEFAULT_TIMEOUT_SECONDS;
}

void options_clear(struct mount_options *o)
{
	free(o->managed_key);
	free(o->fips_dir);
	free(o->on_state_change);
	free(o->audit_dir);
	free(o->fsname);
	free(o->subtype);
	free(o->context);
	free(o->userspace);
	memset(o, 0, sizeof(*o));
}

/* Levenshtein distance of two option names; anything long counts as far away. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[OPTION_NAME_CAP];
	size_t la = strlen(a), lb = strlen(b);

	if (la >= OPTION_NAME_CAP || lb >= OPTION_NAME_CAP)
		return UINT_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

static enum err unknown_option(const char *name, struct err_why *why)
{
	const char *nearest = NULL;
	unsigned best = NEAR_ENOUGH + 1;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		unsigned d = distance(name, known[i].name);

		if (d < best && d < strlen(known[i].name)) {
			best = d;
			nearest = known[i].name;
		}
	}
	if (nearest)
		return err_set(why, ERR_CONFIG, 0, "There is no mount option \"%.*s\". Did you mean \"%s\"?",
			(int)OPTION_NAME_CAP, name, nearest);
	return err_set(why, ERR_CONFIG, 0, "There is no mount option \"%.*s\". \"blobcryptfs help mount\" lists them.",
		(int)OPTION_NAME_CAP, name);
}

static enum err bad_value(const struct given *g, const char *wanted, struct err_why *why)
{
	return err_set(
		why, ERR_CONFIG, 0, "The mount option %s must be %s, not \"%.100s\".", g->name, wanted, g->value);
}

static enum err parse_number(
	const struct given *g, int base, unsigned long max, const char *wanted, unsigned long *out, struct err_why *why)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(g->value, &end, base);
	if (errno || *end || end == g->value || g->value[0] == '-' || g->value[0] == '+' || n > max)
		return bad_value(g, wanted, why);
	*out = n;
	return ERR_OK;
}

static enum err parse_seconds(const struct given *g, double *out, struct err_why *why)
{
	char *end;
	double d;

	errno = 0;
	d = strtod(g->value, &end);
	if (errno || *end || end == g->value || !isfinite(d) || d < 0 || d > MAX_TIMEOUT_SECONDS)
		return bad_value(g, "a number of seconds from 0 to 86400", why);
	*out = d;
	return ERR_OK;
}

static enum err parse_owner(const struct given *g, bool group, unsigned *out, struct err_why *why)
{
	const struct passwd *pw;
	const struct group *gr;
	unsigned long n = 0;

	if (g->value[0] >= '0' && g->value[0] <= '9') {
		/* The highest number means "unchanged" to the system. */
		enum err e = parse_number(g, 10, UINT_MAX - 1, "a name or a number", &n, why);

		if (e == ERR_OK)
			*out = (unsigned)n;
		return e;
	}
	if (group) {
		gr = getgrnam(g->value);
		if (gr)
			*out = gr->gr_gid;
		return gr ? ERR_OK : bad_value(g, "a group that exists here", why);
	}
	pw = getpwnam(g->value);
	if (pw)
		*out = pw->pw_uid;
	return pw ? ERR_OK : bad_value(g, "a user that exists here", why);
}

/* Appends item to the comma list *list. */
static enum err append(char **list, const char *item)
{
	char *joined;

	if (asprintf(&joined, "%s%s%s", *list ? *list : "", *list ? "," : "", item) < 0)
		return ERR_NOMEM;
	free(*list);
	*list = joined;
	return ERR_OK;
}

static enum err apply_value(struct mount_options *o, const struct known *k, const struct given *g, struct err_why *why)
{
	void *at = (char *)o + k->at;
	unsigned long n = 0;
	unsigned id = 0;
	enum err e = ERR_OK;

	switch (k->kind) {
	case K_PATH:
		if (g->value[0] != '/')
			return bad_value(g, "an absolute path", why);
		__attribute__((fallthrough));
	case K_STRING:
		free(*(char **)at);
		*(char **)at = strdup(g->value);
		return *(char **)at ? ERR_OK : ERR_NOMEM;
	case K_SECONDS:
		return parse_seconds(g, at, why);
	case K_THREADS:
		e = parse_number(g, 10, MAX_THREADS_LIMIT, "a number from 1 to 1024", &n, why);
		if (e == ERR_OK && n == 0)
			e = bad_value(g, "a number from 1 to 1024", why);
		if (e == ERR_OK)
			o->max_threads = (unsigned)n;
		return e;
	case K_UMASK:
		e = parse_number(g, 8, 0777, "an octal number up to 777", &n, why);
		if (e == ERR_OK) {
			o->umask = (mode_t)n;
			o->has_umask = true;
		}
		return e;
	case K_UID:
		e = parse_owner(g, false, &id, why);
		if (e == ERR_OK) {
			o->uid = id;
			o->has_uid = true;
		}
		return e;
	case K_GID:
		e = parse_owner(g, true, &id, why);
		if (e == ERR_OK) {
			o->gid = id;
			o->has_gid = true;
		}
		return e;
	case K_CONTEXT:
		return append(&o->context, g->raw);
	case K_IGNORE:
	case K_ON:
	case K_OFF:
	case K_TRUE:
	case K_URING:
	case K_USERSPACE:
		break;
	}
	return ERR_BUG;
}

static enum err apply(struct mount_options *o, const struct known *k, const struct given *g, struct err_why *why)
{
	switch (k->kind) {
	case K_IGNORE:
		return ERR_OK;
	case K_ON: /* "user" may name who it was: "user=alice" */
		o->flags_on |= k->flags;
		o->flags_off &= ~k->flags;
		return ERR_OK;
	case K_OFF:
		o->flags_off |= k->flags;
		o->flags_on &= ~k->flags;
		return ERR_OK;
	case K_TRUE:
	case K_URING:
	case K_USERSPACE:
		if (g->value)
			return err_set(why, ERR_CONFIG, 0, "The mount option %s takes no value.", g->name);
		if (k->kind == K_URING)
			o->uring = (enum uring_choice)k->flags;
		else if (k->kind == K_USERSPACE)
			return append(&o->userspace, g->raw);
		else
			*(bool *)((char *)o + k->at) = true;
		return ERR_OK;
	case K_STRING:
	case K_PATH:
	case K_SECONDS:
	case K_THREADS:
	case K_UMASK:
	case K_UID:
	case K_GID:
	case K_CONTEXT:
		break;
	}
	if (!g->value || !*g->value)
		return err_set(why, ERR_CONFIG, 0, "The mount option %s needs a value: %s=...", g->name, g->name);
	return apply_value(o, k, g, why);
}

/* One option, raw as written; value unescaped, behind the '=' in the writable copy text. */
static enum err apply_text(struct mount_options *o, const char *raw, char *text, bool sloppy, struct err_why *why)
{
	char *equals = strchr(text, '=');
	struct given g = {text, NULL, raw};

	if (strncmp(raw, "x-", 2) == 0)
		return append(&o->userspace, raw);
	if (strncmp(raw, "X-", 2) == 0)
		return ERR_OK;
	if (equals) {
		*equals = '\0';
		g.value = equals + 1;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, text) == 0)
			return apply(o, &known[i], &g, why);
	if (sloppy)
		return ERR_OK;
	return unknown_option(text, why);
}

/* Takes the next option off *rest: raw as written, text without escapes and quotes.  Both have room for all of *rest.
 */
static void next_option(const char **rest, char *raw, char *text)
{
	const char *p = *rest;
	bool quoted = false;

	for (; *p && (quoted || *p != ','); p++) {
		*raw++ = *p;
		if (*p == '\\' && (p[1] == ',' || p[1] == '\\')) {
			p++;
			*raw++ = *p;
			*text++ = *p;
			continue;
		}
		if (*p == '"' && (quoted || p == *rest || p[-1] == '=')) {
			quoted = !quoted;
			continue;
		}
		*text++ = *p;
	}
	*raw = *text = '\0';
	*rest = *p ? p + 1 : p;
}

enum err options_parse(struct mount_options *o, const char *text, bool sloppy, struct err_why *why)
{
	size_t size = strlen(text) + 1;
	char *raw = malloc(size), *plain = malloc(size);
	enum err e = raw && plain ? ERR_OK : ERR_NOMEM;

	while (e == ERR_OK && *text) {
		next_option(&text, raw, plain);
		if (*raw)
			e = apply_text(o, raw, plain, sloppy, why);
	}
	free(raw);
	free(plain);
	if (e == ERR_NOMEM)
		return err_set(why, e, ENOMEM, "There is not enough memory to read the mount options.");
	return e;
}

/* "name=value" with commas and backslashes escaped, as libfuse's parser wants them. */
static enum err append_escaped(char **list, const char *name, const char *value)
{
	char *item = malloc(strlen(name) + 2 * strlen(value) + 1), *p;
	enum err e;

	if (!item)
		return ERR_NOMEM;
	p = stpcpy(item, name);
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			*p++ = '\\';
		*p++ = *value;
	}
	*p = '\0';
	e = append(list, item);
	free(item);
	return e;
}

/* Those SELinux options may hold commas inside quotes, which libfuse would cut at. */
static enum err append_context(char **list, const char *context)
{
	return append_escaped(list, "", context);
}

/* A context list is one option to libfuse only if there is one; each goes in by itself. */
static enum err append_contexts(char **list, const char *contexts)
{
	size_t size = strlen(contexts) + 1;
	char *raw = malloc(size), *plain = malloc(size);
	enum err e = raw && plain ? ERR_OK : ERR_NOMEM;

	while (e == ERR_OK && *contexts) {
		next_option(&contexts, raw, plain);
		e = append_context(list, raw);
	}
	free(raw);
	free(plain);
	return e;
}

bool options_checked_by_kernel(const struct mount_options *o, bool as_root)
{
	return !as_root || !o->no_allow_other || o->allow_root || o->default_permissions;
}

char *options_for_fuse(const struct mount_options *o, const char *source, bool uring, bool as_root)
{
	static const struct {
		unsigned long flag;
		const char *on;
	} flags[] = {
		{MS_RDONLY, "ro"},
		{MS_NOEXEC, "noexec"},
		{MS_NOATIME, "noatime"},
		{MS_NODIRATIME, "nodiratime"},
		{MS_SYNCHRONOUS, "sync"},
		{MS_DIRSYNC, "dirsync"},
		{MS_NOSYMFOLLOW, "nosymfollow"},
		{MS_NOSUID, "nosuid"},
		{MS_NODEV, "nodev"},
	};
	char *list = NULL;
	enum err e = options_checked_by_kernel(o, as_root) ? append(&list, "default_permissions") : ERR_OK;

	for (size_t i = 0; e == ERR_OK && i < sizeof(flags) / sizeof(flags[0]); i++)
		if (o->flags_on & flags[i].flag)
			e = append(&list, flags[i].on);
	/* libfuse starts from nosuid,nodev; as root we follow the other filesystems of this machine. */
	if (e == ERR_OK && as_root && !(o->flags_on & MS_NOSUID))
		e = append(&list, "suid");
	if (e == ERR_OK && as_root && !(o->flags_on & MS_NODEV))
		e = append(&list, "dev");
	if (e == ERR_OK && o->allow_root)
		e = append(&list, "allow_root");
	else if (e == ERR_OK && (o->allow_other || as_root) && !o->no_allow_other)
		e = append(&list, "allow_other");
	if (e == ERR_OK && uring)
		e = append(&list, "io_uring");
	if (e == ERR_OK)
		e = append_escaped(&list, "fsname=", o->fsname ? o->fsname : source);
	if (e == ERR_OK)
		e = append_escaped(&list, "subtype=", o->subtype ? o->subtype : "blobcryptfs");
	if (e == ERR_OK && o->context)
		e = append_contexts(&list, o->context);
	if (e != ERR_OK) {
		free(list);
		return NULL;
	}
	return list;
}
