/* SPDX-License-Identifier: Apache-2.0 */
/* report_print - reports in words; see report.h. */
#include "fs/report.h"

#include <stdbool.h>
#include <string.h>

struct line {
	const char *label, *path; /* members joined by dots */
	bool if_known;		  /* left out if it is null */
};

static const struct line lines[] = {
	{"volume", "volume", false},
	{"directory", "directory", false},
	{"mounted", "mounted", false},
	{"mount point", "mountpoint", false},
	{"note", "note", false},
	{"gate", "gate", false},
	{"reason", "access.reason", false},
	{"since", "access.since", true},
	{"lease left", "access.lease_left_seconds", true},
	{"next probe in", "access.next_probe_seconds", true},
	{"last request id", "access.last_request_id", true},
	{"last denial", "access.last_denial.time", true},
	{"denied because", "access.last_denial.answer", true},
	{"denied", "access.last_denial.why", true},
	{"last failure", "access.last_failure.time", true},
	{"failed because", "access.last_failure.why", true},
	{"format", "format", false},
	{"suite", "suite_name", false},
	{"created", "created", false},
	{"authenticated", "authenticated", false},
	{"key", "key.kind", false},
	{"key source", "key.source", false},
	{"key id", "key.id", false},
	{"key version", "key.version", false},
	{"key created", "key.created", false},
	{"key wrapped", "key.wrapped_at", false},
	{"rotate days", "key.rotate_days", false},
	{"rotation due", "key.rotation_due", false},
	{"customer's key", "key.customer.uri", false},
	{"follows versions", "key.customer.follows_versions", false},
	{"cloud", "key.customer.cloud", false},
	{"vault tenant", "key.customer.tenant", false},
	{"vault region", "key.customer.region", false},
	{"identity", "key.customer.identity", false},
	{"algorithm", "key.customer.algorithm", false},
	{"api version", "key.customer.api_version", false},
	{"if expired", "key.customer.expired", false},
	{"probe seconds", "key.customer.probe_seconds", false},
	{"lease seconds", "key.customer.lease_seconds", false},
	{"managed source", "key.managed.source", false},
	{"managed id", "key.managed.id", false},
	{"managed version", "key.managed.version", false},
	{"fips", "fips.approved", false},
	{"provider", "fips.provider", false},
	{"provider version", "fips.version", false},
	{"provider module", "fips.module", false},
	{"transport", "transport.in_use", false},
	{"transport reason", "transport.reason", false},
	{"threads at most", "transport.max_threads", false},
	{"cache", "cache.policy", false},
	{"session", "session.number", false},
	{"read-only", "session.read_only", false},
	{"unclean sessions", "session.unclean", false},
	{"daemon", "pid", false},
	{"user id", "uid", false},
	{"uptime seconds", "uptime_seconds", false},
	{"locked bytes", "locked_memory.arena_bytes", false},
	{"locked in use", "locked_memory.in_use_bytes", false},
	{"program", "program", false},
};

static const struct line revocation_lines[] = {
	{"volume", "volume", false},
	{"mount point", "mountpoint", false},
	{"reason", "lock.reason", false},
	{"locked", "lock.time", false},
	{"first denial", "first_denial.time", true},
	{"answer", "first_denial.answer", true},
	{"denied", "first_denial.why", true},
	{"request id", "first_denial.request_id", true},
	{"client request id", "first_denial.client_request_id", true},
	{"confirmed ms", "confirmed_ms", true},
	{"lock started ms", "lock.started_ms", false},
	{"closed ms", "lock.closed_ms", false},
	{"drained ms", "lock.drained_ms", false},
	{"wiped ms", "lock.wiped_ms", false},
	{"purged ms", "lock.purged_ms", false},
	{"done ms", "lock.done_ms", false},
	{"last read ms", "lock.last_read_ms", false},
	{"first refused ms", "lock.first_refused_ms", false},
	{"refused", "lock.refused", false},
	{"inodes purged", "lock.inodes_purged", false},
	{"undrained files", "lock.undrained", false},
	{"verified", "lock.verified", false},
	{"note", "lock.note", true},
	{"opened ms", "opened_ms", true},
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
void report_print_text(const char *s, FILE *out)
{
	for (; *s; s++)
		fputc((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s, out);
}

void report_print_value(const json_t *v, FILE *out)
{
	switch (json_typeof(v)) {
	case JSON_STRING:
		report_print_text(json_string_value(v), out);
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
	report_print_value(v, out);
	fputc('\n', out);
}

static void print_lines(const json_t *report, const struct line *list, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const json_t *v = at_path(report, list[i].path);

		if (v && !(list[i].if_known && json_is_null(v)))
			print_line(list[i].label, v, out);
	}
}

void report_print(const json_t *report, FILE *out)
{
	const json_t *counters = json_object_get(report, "counters");

	print_lines(report, lines, sizeof(lines) / sizeof(lines[0]), out);
	for (void *it = counters ? json_object_iter(json_object_get(report, "counters")) : NULL; it;
		it = json_object_iter_next(json_object_get(report, "counters"), it))
		print_line(json_object_iter_key(it), json_object_iter_value(it), out);
}

/* Milliseconds are counted from the first denial, or without one from the beginning of the lock. */
void report_print_revocation(const json_t *report, FILE *out)
{
	print_lines(report, revocation_lines, sizeof(revocation_lines) / sizeof(revocation_lines[0]), out);
}

void report_dump(const json_t *report, FILE *out)
{
	json_dumpf(report, out, JSON_INDENT(2));
	fputc('\n', out);
}
