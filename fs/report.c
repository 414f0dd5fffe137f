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

json_t *report_utc(time_t t)
{
	char text[32];
	struct tm tm;

	if (t == 0 || !gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return json_null();
	return json_string(text);
}

/* Descriptor text is anybody's until authenticated: invalid UTF-8 becomes null instead of failing the whole report. */
json_t *report_text(const char *s)
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

bool report_follows_versions(const json_t *conf)
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
		conf_member(conf, "uri"), "kid", report_text(v->key.id), "follows_versions",
		report_follows_versions(conf), "cloud", conf_member(conf, "cloud"), "tenant",
		conf_member(conf, "tenant"), "region", conf_member(conf, "region"), "identity", report_text(identity),
		"algorithm", conf_member(conf, "algorithm"), "api_version", conf_member(conf, "api_version"), "expired",
		conf_member(conf, "expired"), "probe_seconds", conf_member(conf, "probe_seconds"), "lease_seconds",
		conf_member(conf, "lease_seconds"));
}

/* The layer below the customer's key is ciphertext until that key has opened it. */
static json_t *report_inner(const struct volume *v)
{
	if (!v->inner_known)
		return json_null();
	return json_pack("{s:o, s:o, s:I, s:o}", "source", report_text(v->inner_source), "id",
		report_text(v->inner_key.id), "version", (json_int_t)v->inner_key.version, "created",
		report_utc(v->inner_key.created));
}

json_t *report_told(const char *s)
{
	return *s ? report_text(s) : json_null();
}

json_t *report_key(const struct volume *v)
{
	const json_t *conf = volume_customer_conf(v);
	json_t *o = json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:b}", "kind", report_text(v->provider), "source",
		report_text(v->source), "id", report_text(v->key.id), "version", (json_int_t)v->key.version, "created",
		report_utc(v->key.created), "wrapped_at", report_utc(v->wrapped_at), "rotate_days",
		(json_int_t)v->rotate_days, "rotation_due", volume_rotation_due(v, time(NULL)));

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
	return json_pack("{s:s, s:o, s:b, s:b, s:i, s:i, s:s, s:o, s:o}", "volume", hex, "directory", report_text(dir),
		"mounted", 0, "authenticated", 0, "format", FORMAT_VERSION, "suite", (int)v->suite, "suite_name",
		suite_name(v->suite), "created", report_text(v->created), "key", report_key(v));
}

/* number is null before the first opening (wait_key). */
static json_t *report_session(struct mounted *m)
{
	json_t *unclean = json_array();
	const struct session *s;

	pthread_mutex_lock(&m->shown_lock);
	s = m->session;
	pthread_mutex_unlock(&m->shown_lock);
	for (size_t i = 0; unclean && s && !s->resolved && i < s->n_unclean; i++)
		json_array_append_new(
			unclean, json_pack("[I, I]", (json_int_t)s->unclean[i].first, (json_int_t)s->unclean[i].last));
	return json_pack("{s:o, s:b, s:o}", "number", s ? json_integer((json_int_t)s->number) : json_null(),
		"read_only", m->read_only, "unclean", unclean);
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
	enum gate_reason reason = GATE_NONE;
	json_t *o, *more;

	pthread_mutex_lock(&m->shown_lock);
	o = json_deep_copy(m->shown);
	pthread_mutex_unlock(&m->shown_lock);
	if (!o)
		return NULL;
	locked_stats_get(&memory);
	json_object_set_new(o, "mounted", json_true());
	json_object_set_new(o, "authenticated", json_boolean(m->session));
	more = json_pack("{s:o, s:s, s:i, s:i, s:I, s:s, s:{s:b, s:s, s:s, s:o}, s:o}", "mountpoint",
		report_text(m->cfg->mountpoint), "gate", gate_state_name(gate_state(m->fs, &reason, NULL)), "pid",
		(int)getpid(), "uid", (int)geteuid(), "uptime_seconds", (json_int_t)(time(NULL) - m->started),
		"program", BLOBCRYPTFS_VERSION, "fips", "approved", m->fips->is_fips, "provider", m->fips->name,
		"version", m->fips->version, "module", report_text(m->fips->module), "transport", report_transport(m));
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
	json_object_set_new(o, "access", warden_report(m->warden));
	return o;
}
