/* SPDX-License-Identifier: Apache-2.0 */
/* metrics - a mount's numbers as OpenMetrics text (version 1.0.0), for a collector that runs "blobcryptfs metrics". */
#include "crypto/secret.h"
#include "fs/report.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# TYPE blobcryptfs_%s %s\n# HELP blobcryptfs_%s %s\n", name, type, name, help);
}

/* A label's value: backslash, quote and newline are escaped. */
static void label(FILE *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			fputc('\\', out);
		if (*value == '\n')
			fputs("\\n", out);
		else
			fputc(*value, out);
	}
}

static void gauge(FILE *out, const struct mounted *m, const char *name, const char *help, double value)
{
	head(out, name, "gauge", help);
	fprintf(out, "blobcryptfs_%s{volume=\"%s\"} %.15g\n", name, m->volume_hex, value);
}

static void counter(FILE *out, const struct mounted *m, const char *name, const char *help, uint64_t value)
{
	head(out, name, "counter", help);
	fprintf(out, "blobcryptfs_%s_total{volume=\"%s\"} %" PRIu64 "\n", name, m->volume_hex, value);
}

static void info(FILE *out, const struct mounted *m)
{
	head(out, "mount", "info", "The mount.");
	fprintf(out, "blobcryptfs_mount_info{volume=\"%s\",version=\"" BLOBCRYPTFS_VERSION "\",mountpoint=\"",
		m->volume_hex);
	label(out, m->cfg->mountpoint);
	fprintf(out, "\",fips=\"%s\"} 1\n", m->fips->is_fips ? "yes" : "no");
}

static void gate(FILE *out, const struct mounted *m)
{
	static const enum gate_state states[] = {GATE_OPEN, GATE_GRACE, GATE_LOCKING, GATE_LOCKED};
	static const enum gate_reason reasons[] = {
		GATE_NONE, GATE_REVOKED, GATE_UNAVAILABLE, GATE_MANUAL, GATE_WAITING};
	enum gate_reason reason = GATE_NONE;
	time_t since = 0;
	enum gate_state state = gate_state(m->fs, &reason, &since);

	head(out, "gate", "stateset", "Whether the data may be touched.");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		fprintf(out, "blobcryptfs_gate{volume=\"%s\",blobcryptfs_gate=\"%s\"} %d\n", m->volume_hex,
			gate_state_name(states[i]), states[i] == state);
	head(out, "gate_reason", "stateset", "Why the data may not be touched.");
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		fprintf(out, "blobcryptfs_gate_reason{volume=\"%s\",blobcryptfs_gate_reason=\"%s\"} %d\n",
			m->volume_hex, gate_reason_name(reasons[i]), reasons[i] == reason);
	gauge(out, m, "gate_since_timestamp_seconds", "When the state was entered.", (double)since);
}

static void keeper(FILE *out, const struct mounted *m)
{
	struct warden_counts c;
	struct prober_status p;
	uint64_t now = boottime_ns();

	prober_status(m->prober, &p);
	warden_counts(m->warden, &c);
	gauge(out, m, "customer_key", "1 if a customer's key is on.", p.on);
	if (p.on && p.lease_end)
		gauge(out, m, "lease_left_seconds", "For how long the last confirmed unwrap is good.",
			p.lease_end > now ? (double)(p.lease_end - now) / (double)LEASE_SECOND : 0);
	counter(out, m, "probes", "Unwraps asked for as a proof of access.", p.probes);
	counter(out, m, "probes_shared", "Answers taken over from another mount's probe.", p.shared);
	counter(out, m, "probes_denied", "Answers that refused the key.", c.denials);
	counter(out, m, "probes_failed", "Probes without an answer that counts.", c.failures);
	counter(out, m, "locks", "How often the volume was locked.", c.locks);
}

static void operations(FILE *out, const struct mounted *m)
{
	const struct fsys_counters *c = fsys_counters(m->fs);

#define COUNTER(name, help) counter(out, m, #name, help, atomic_load_explicit(&c->name, memory_order_relaxed))
	COUNTER(reads, "Read requests.");
	COUNTER(read_bytes, "Bytes read.");
	COUNTER(writes, "Write requests.");
	COUNTER(write_bytes, "Bytes written.");
	COUNTER(opens, "Open requests.");
	COUNTER(creates, "Files created.");
	COUNTER(lookups, "Names looked up.");
	COUNTER(getattrs, "Attributes asked for.");
	COUNTER(readdirs, "Directory reads.");
	COUNTER(unlinks, "Names removed.");
	COUNTER(renames, "Names changed.");
	COUNTER(fsyncs, "Sync requests.");
	COUNTER(damage, "Damaged places met.");
	COUNTER(accepted, "Unsynced ends accepted after an unclean session.");
#undef COUNTER
	gauge(out, m, "inodes", "Inodes the kernel knows.",
		(double)atomic_load_explicit(&c->inodes, memory_order_relaxed));
	gauge(out, m, "open_files", "Open files.", (double)atomic_load_explicit(&c->open_files, memory_order_relaxed));
}

json_t *report_metrics(struct mounted *m)
{
	struct locked_stats memory = {0};
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	json_t *o = NULL;

	if (!out)
		return NULL;
	locked_stats_get(&memory);
	info(out, m);
	gate(out, m);
	keeper(out, m);
	operations(out, m);
	gauge(out, m, "locked_memory_bytes", "Memory locked for keys and plaintext.", (double)memory.arena_bytes);
	gauge(out, m, "start_timestamp_seconds", "When the volume was mounted.", (double)m->started);
	fputs("# EOF\n", out);
	if (fclose(out) == 0)
		o = json_pack("{s:i, s:o}", "code", EXIT_OK, "text", report_text(text));
	free(text);
	return o;
}
