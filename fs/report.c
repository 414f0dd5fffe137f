/* SPDX-License-Identifier: Apache-2.0 */
/* report - see report.h. */
#include "fs/report.h"

#include "crypto/secret.h"
#include "keyprov/azid.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT_VERSION 1

static json_t *utc(time_t t)
{
	char text[32];
	struct tm tm;

	if (t == 0 || !gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return json_null();
	return json_string(text);
}

/* Descriptor text is anybody's until authenticated: invalid UTF-8 becomes null instead of failing the whole report. */
static json_t *text(const char *s)
{
	json_t *o = json_string(s);

	return o ? o : json_null();
}

/* A member of the customer's key as the descriptor has it, or null. */
static json_t *conf_member(const json_t *conf, const char *name)
{
	json_t *value = json_object_get(conf, name);

	return value ? json_incref(value) : json_null();
}

static bool follows_versions(const json_t *conf)
{
	const char *uri = json_string_value(json_object_get(conf, "uri")), *keys = uri ? strstr(uri, "/keys/") : NULL;

	return keys && !strchr(keys + strlen("/keys/"), '/');
}

/* The layer above the managed key. */
static json_t *report_customer(const struct volume *v, const json_t *conf)
{
	char identity[256] = "";

	azid_conf_text(json_object_get(conf, "identity"), identity);
	return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "uri",
		conf_member(conf, "uri"), "kid", text(v->key.id), "follows_versions", follows_versions(conf), "cloud",
		conf_member(conf, "cloud"), "tenant", conf_member(conf, "tenant"), "region",
		conf_member(conf, "region"), "identity", text(identity), "algorithm", conf_member(conf, "algorithm"),
		"api_version", conf_member(conf, "api_version"), "expired", conf_member(conf, "expired"),
		"probe_seconds", conf_member(conf, "probe_seconds"), "lease_seconds",
		conf_member(conf, "lease_seconds"));
}

/* The layer below the customer's key is ciphertext until that key has opened it. */
static json_t *report_inner(const struct volume *v)
{
	if (!v->inner_known)
		return json_null();
	return json_pack("{s:o, s:o, s:I, s:o}", "source", text(v->inner_source), "id", text(v->inner_key.id),
		"version", (json_int_t)v->inner_key.version, "created", utc(v->inner_key.created));
}

json_t *report_key(const struct volume *v)
{
	const json_t *conf = volume_customer_conf(v);
	json_t *o = json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:b}", "kind", text(v->provider), "source",
		text(v->source), "id", text(v->key.id), "version", (json_int_t)v->key.version, "created",
		utc(v->key.created), "wrapped_at", utc(v->wrapped_at), "rotate_days", (json_int_t)v->rotate_days,
		"rotation_due", volume_rotation_due(v, time(NULL)));

	if (o && conf) {
		json_object_set_new(o, "customer", report_customer(v, conf));
		json_object_set_new(o, "managed", report_inner(v));
	}
	return o;
}

static const char *suite_name(enum suite suite)
{
	switch (suite) {
	case SUITE_GCM:
		return "AES-256-GCM";
	case SUITE_XTS_GCM:
		return "AES-256-XTS, then AES-256-GCM (infrastructure encryption)";
	}
	return "unknown";
}

json_t *report_volume(const struct volume *v, const char *dir)
{
	char hex[2 * ID_BYTES + 1];

	cli_hex(v->id, ID_BYTES, hex);
	return json_pack("{s:s, s:o, s:b, s:b, s:i, s:i, s:s, s:o, s:o}", "volume", hex, "directory", text(dir),
		"mounted", 0, "authenticated", 0, "format", FORMAT_VERSION, "suite", (int)v->suite, "suite_name",
		suite_name(v->suite), "created", text(v->created), "key", report_key(v));
}

static json_t *report_session(const struct mounted *m)
{
	json_t *unclean = json_array();

	for (size_t i = 0; unclean && !m->session->resolved && i < m->session->n_unclean; i++)
		json_array_append_new(unclean, json_pack("[I, I]", (json_int_t)m->session->unclean[i].first,
						       (json_int_t)m->session->unclean[i].last));
	return json_pack("{s:I, s:b, s:o}", "number", (json_int_t)m->session->number, "read_only", m->read_only,
		"unclean", unclean);
}

static json_t *report_transport(const struct mounted *m)
{
	bool uring = serve_uses_uring(m);
	const char *reason = m->uring_reason;

	if (m->uring_asked && !uring)
		reason = "the kernel offers io_uring but it could not be set up (see sysctl kernel.io_uring_disabled)";
	return json_pack("{s:s, s:s, s:I}", "in_use", uring ? "io_uring" : "/dev/fuse", "reason", reason, "max_threads",
		(json_int_t)m->max_threads);
}

static json_t *report_counters(const struct fsys_counters *c)
{
	json_t *o = json_object();

	if (!o)
		return NULL;
#define COUNTER(name)                                                                                                  \
	json_object_set_new(o, #name, json_integer((json_int_t)atomic_load_explicit(&c->name, memory_order_relaxed)))
	COUNTER(reads);
	COUNTER(read_bytes);
	COUNTER(writes);
	COUNTER(write_bytes);
	COUNTER(opens);
	COUNTER(creates);
	COUNTER(lookups);
	COUNTER(getattrs);
	COUNTER(readdirs);
	COUNTER(unlinks);
	COUNTER(renames);
	COUNTER(fsyncs);
	COUNTER(damage);
	COUNTER(accepted);
	COUNTER(inodes);
	COUNTER(open_files);
	COUNTER(dirfds);
#undef COUNTER
	return o;
}

json_t *report_mount(struct mounted *m)
{
	const struct mount_options *opt = m->cfg->opt;
	struct locked_stats memory = {0};
	json_t *o, *more;

	pthread_mutex_lock(&m->shown_lock);
	o = json_deep_copy(m->shown);
	pthread_mutex_unlock(&m->shown_lock);
	if (!o)
		return NULL;
	locked_stats_get(&memory);
	json_object_set_new(o, "mounted", json_true());
	json_object_set_new(o, "authenticated", json_true());
	more = json_pack("{s:o, s:s, s:i, s:i, s:I, s:s, s:{s:b, s:s, s:s, s:o}, s:o}", "mountpoint",
		text(m->cfg->mountpoint), "gate", "OPEN", "pid", (int)getpid(), "uid", (int)geteuid(), "uptime_seconds",
		(json_int_t)(time(NULL) - m->started), "program", BLOBCRYPTFS_VERSION, "fips", "approved",
		m->fips->is_fips, "provider", m->fips->name, "version", m->fips->version, "module",
		text(m->fips->module), "transport", report_transport(m));
	if (more)
		json_object_update(o, more);
	json_decref(more);
	more = json_pack("{s:{s:s, s:f, s:f, s:f}, s:o, s:o, s:{s:I, s:I, s:I}}", "cache", "policy",
		opt->direct_io ? "none (direct_io)" : "kernel page cache", "attr_timeout", opt->attr_timeout,
		"entry_timeout", opt->entry_timeout, "negative_timeout", opt->negative_timeout, "session",
		report_session(m), "counters", report_counters(fsys_counters(m->fs)), "locked_memory", "arena_bytes",
		(json_int_t)memory.arena_bytes, "in_use_bytes", (json_int_t)memory.in_use_bytes, "allocations",
		(json_int_t)memory.allocations);
	if (more)
		json_object_update(o, more);
	json_decref(more);
	return o;
}

/* ---- in words ---- */

static const struct line {
	const char *label, *path; /* members joined by dots */
} lines[] = {
	{"volume", "volume"},
	{"directory", "directory"},
	{"mounted", "mounted"},
	{"mount point", "mountpoint"},
	{"note", "note"},
	{"gate", "gate"},
	{"format", "format"},
	{"suite", "suite_name"},
	{"created", "created"},
	{"authenticated", "authenticated"},
	{"key", "key.kind"},
	{"key source", "key.source"},
	{"key id", "key.id"},
	{"key version", "key.version"},
	{"key created", "key.created"},
	{"key wrapped", "key.wrapped_at"},
	{"rotate days", "key.rotate_days"},
	{"rotation due", "key.rotation_due"},
	{"customer's key", "key.customer.uri"},
	{"follows versions", "key.customer.follows_versions"},
	{"cloud", "key.customer.cloud"},
	{"vault tenant", "key.customer.tenant"},
	{"vault region", "key.customer.region"},
	{"identity", "key.customer.identity"},
	{"algorithm", "key.customer.algorithm"},
	{"api version", "key.customer.api_version"},
	{"if expired", "key.customer.expired"},
	{"probe seconds", "key.customer.probe_seconds"},
	{"lease seconds", "key.customer.lease_seconds"},
	{"managed source", "key.managed.source"},
	{"managed id", "key.managed.id"},
	{"managed version", "key.managed.version"},
	{"fips", "fips.approved"},
	{"provider", "fips.provider"},
	{"provider version", "fips.version"},
	{"provider module", "fips.module"},
	{"transport", "transport.in_use"},
	{"transport reason", "transport.reason"},
	{"threads at most", "transport.max_threads"},
	{"cache", "cache.policy"},
	{"session", "session.number"},
	{"read-only", "session.read_only"},
	{"unclean sessions", "session.unclean"},
	{"daemon", "pid"},
	{"user id", "uid"},
	{"uptime seconds", "uptime_seconds"},
	{"locked bytes", "locked_memory.arena_bytes"},
	{"locked in use", "locked_memory.in_use_bytes"},
	{"program", "program"},
};

static const json_t *at_path(const json_t *o, const char *path)
{
	char name[64];
	const char *dot;

	while (o && (dot = strchr(path, '.'))) {
		snprintf(name, sizeof(name), "%.*s", (int)(dot - path), path);
		o = json_object_get(o, name);
		path = dot + 1;
	}
	return json_object_get(o, path);
}

/* Text from a descriptor must not move the terminal's cursor. */
static void print_text(const char *s, FILE *out)
{
	for (; *s; s++)
		fputc((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s, out);
}

static void print_value(const json_t *v, FILE *out)
{
	switch (json_typeof(v)) {
	case JSON_STRING:
		print_text(json_string_value(v), out);
		break;
	case JSON_INTEGER:
		fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		break;
	case JSON_REAL:
		fprintf(out, "%g", json_real_value(v));
		break;
	case JSON_TRUE:
		fputs("yes", out);
		break;
	case JSON_FALSE:
		fputs("no", out);
		break;
	case JSON_NULL:
		fputs("unknown", out);
		break;
	case JSON_ARRAY: /* ranges of sessions */
		if (json_array_size(v) == 0)
			fputs("none", out);
		for (size_t i = 0; i < json_array_size(v); i++) {
			const json_t *range = json_array_get(v, i);

			fprintf(out, "%s%" JSON_INTEGER_FORMAT "-%" JSON_INTEGER_FORMAT, i ? ", " : "",
				json_integer_value(json_array_get(range, 0)),
				json_integer_value(json_array_get(range, 1)));
		}
		break;
	case JSON_OBJECT:
		break;
	}
}

static void print_line(const char *label, const json_t *v, FILE *out)
{
	fprintf(out, "%s:%*s", label, (int)(18 - strlen(label)), "");
	print_value(v, out);
	fputc('\n', out);
}

void report_print(const json_t *report, FILE *out)
{
	const json_t *counters = json_object_get(report, "counters"), *v;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		v = at_path(report, lines[i].path);
		if (v)
			print_line(lines[i].label, v, out);
	}
	for (void *it = counters ? json_object_iter(json_object_get(report, "counters")) : NULL; it;
		it = json_object_iter_next(json_object_get(report, "counters"), it))
		print_line(json_object_iter_key(it), json_object_iter_value(it), out);
}

void report_dump(const json_t *report, FILE *out)
{
	json_dumpf(report, out, JSON_INDENT(2));
	fputc('\n', out);
}
