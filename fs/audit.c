/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit - see audit.h.  The log file is one per volume and process; there is one mount in a process.
 *
 * A full queue loses events, and the next line says how many: damage of a whole disk must not stop the filesystem.  The
 * last quarter of it is kept for key events.
 */
#include "fs/audit.h"

#include "fs/log.h"
#include "keyprov/sealed_json.h"
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROOT_LOG_DIR  "/var/log/blobcryptfs"
#define RECENT_SLOTS  64u /* pairs of (event, inode) whose repeats are held back; a collision lets one more through */
#define QUEUE_SLOTS   256u
#define QUEUE_EVENTS  192u /* what is not about keys may fill no more */
#define SYNC_SECONDS  1	   /* after the last line */
#define FLUSH_SECONDS 10   /* a disk may hang */

struct recent {
	const char *event;
	uint64_t ino;
	time_t second;
	unsigned long held_back;
};

struct queued {
	json_t *line;
	bool sync;
};

static struct {
	struct auditlog *log; /* NULL: none; set while there is one thread */
	atomic_bool failing;  /* and told */
	pthread_t thread;
	pthread_mutex_t lock; /* protects all of the following */
	pthread_cond_t more, idle;
	bool running, stop, busy;
	struct queued queue[QUEUE_SLOTS];
	unsigned first, n_queued;
	unsigned long dropped;
	struct recent recent[RECENT_SLOTS];
} audit = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

static bool log_directory(char *dir, size_t size)
{
	const char *state = secure_getenv("XDG_STATE_HOME");
	const char *home = secure_getenv("HOME");
	int n;

	if (geteuid() == 0)
		n = snprintf(dir, size, "%s", ROOT_LOG_DIR);
	else if (state && state[0] == '/')
		n = snprintf(dir, size, "%s/blobcryptfs", state);
	else if (home && home[0] == '/')
		n = snprintf(dir, size, "%s/.local/state/blobcryptfs", home);
	else
		return false;
	return n > 0 && (size_t)n < size;
}

bool audit_place(const char *dir, char out[static PATH_MAX])
{
	if (dir && strlen(dir) >= PATH_MAX)
		return false;
	if (dir)
		memcpy(out, dir, strlen(dir) + 1);
	return dir || log_directory(out, PATH_MAX);
}

void audit_open(const struct fips *f, const uint8_t volume_id[static ID_BYTES], const char *dir)
{
	struct auditlog_config cfg = {0};
	struct err_why why = {0};
	char place[PATH_MAX];

	memcpy(cfg.volume, volume_id, ID_BYTES);
	cfg.dir = place;
	if (!audit_place(dir, place))
		log_line(LOG_WARN, "event=no_audit_log why=\"neither XDG_STATE_HOME nor HOME is set\"");
	else if (auditlog_open(f, &cfg, &audit.log, &why) != ERR_OK)
		log_line(LOG_WARN, "event=no_audit_log why=\"%s\"", why.text);
}

void audit_keyed(struct volkeys *vk)
{
	enum err e = audit.log ? auditlog_key(audit.log, vk) : ERR_OK;

	if (e != ERR_OK)
		log_line(LOG_WARN, "event=audit_not_sealed why=\"%s\"", err_text(e));
}

/* May this one pass?  Then held_back says how many like it did not. */
static bool passes(const char *event, uint64_t ino, unsigned long *held_back)
{
	uint64_t hash = 14695981039346656037u;
	struct recent *r;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	for (const char *p = event; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211u;
	hash = (hash ^ ino) * 1099511628211u;
	r = &audit.recent[(hash >> 32) % RECENT_SLOTS];
	*held_back = 0;
	if (r->event && strcmp(r->event, event) == 0 && r->ino == ino) {
		if (r->second == now.tv_sec) {
			r->held_back++;
			return false;
		}
		*held_back = r->held_back;
	}
	*r = (struct recent){.event = event, .ino = ino, .second = now.tv_sec};
	return true;
}

/* Steals o. */
static void append(json_t *o, bool sync)
{
	struct err_why why = {0};
	enum err e = audit.log && o ? auditlog_append(audit.log, o, sync, &why) : ERR_OK;

	json_decref(o);
	if (e == ERR_OK)
		atomic_store(&audit.failing, false);
	else if (!atomic_exchange(&audit.failing, true)) /* once; a full disk would say it for each line */
		log_line(LOG_WARN, "event=audit_write_failed why=\"%s\"", why.text[0] ? why.text : err_text(e));
}

static json_t *event_json(const char *event, const char *detail)
{
	return json_pack("{s:s, s:s, s:I, s:I}", "event", event, "detail", detail, "pid", (json_int_t)getpid(), "uid",
		(json_int_t)geteuid());
}

static void add_number(json_t *o, const char *name, uint64_t n)
{
	if (o && json_object_set_new(o, name, json_integer((json_int_t)n)) != 0)
		log_line(LOG_WARN, "event=audit_memory");
}

/* ---- the thread ---- */

/* The next line, or a sync; returns whether there is something to sync now.  With the lock held, which is let go
 * meanwhile. */
static bool write_next(void)
{
	struct queued q = {0};
	unsigned long dropped = audit.dropped;
	bool unsynced;

	if (audit.n_queued > 0) {
		q = audit.queue[audit.first];
		audit.first = (audit.first + 1) % QUEUE_SLOTS;
		audit.n_queued--;
	}
	unsynced = dropped > 0 || (q.line && !q.sync);
	audit.dropped = 0;
	audit.busy = true;
	pthread_mutex_unlock(&audit.lock);
	if (q.line)
		append(q.line, q.sync);
	else if (auditlog_sync(audit.log, NULL) != ERR_OK)
		log_line(LOG_WARN, "event=audit_not_synced");
	if (dropped) {
		json_t *o = event_json("events_left_out", "more happened than could be written");

		add_number(o, "count", dropped);
		append(o, false);
	}
	pthread_mutex_lock(&audit.lock);
	audit.busy = false;
	return unsynced;
}

static void *writer_thread(void *arg)
{
	bool unsynced = false;

	(void)arg;
	pthread_mutex_lock(&audit.lock);
	for (;;) {
		struct timespec until;
		int rc = 0;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += SYNC_SECONDS;
		if (audit.n_queued == 0)
			pthread_cond_broadcast(&audit.idle);
		while (audit.n_queued == 0 && !audit.stop && rc == 0)
			rc = unsynced ? pthread_cond_timedwait(&audit.more, &audit.lock, &until)
				      : pthread_cond_wait(&audit.more, &audit.lock);
		if (audit.n_queued == 0 && audit.stop)
			break;
		unsynced = write_next();
	}
	pthread_mutex_unlock(&audit.lock);
	return NULL;
}

void audit_start(void)
{
	pthread_mutex_lock(&audit.lock);
	audit.stop = false;
	audit.running = audit.log && pthread_create(&audit.thread, NULL, writer_thread, NULL) == 0;
	pthread_mutex_unlock(&audit.lock);
}

void audit_flush(void)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += FLUSH_SECONDS;
	pthread_mutex_lock(&audit.lock);
	while (rc == 0 && audit.running && (audit.n_queued > 0 || audit.busy))
		rc = pthread_cond_timedwait(&audit.idle, &audit.lock, &until);
	pthread_mutex_unlock(&audit.lock);
}

void audit_close(void)
{
	bool running;

	pthread_mutex_lock(&audit.lock);
	running = audit.running;
	audit.running = false;
	audit.stop = true;
	pthread_cond_signal(&audit.more);
	pthread_mutex_unlock(&audit.lock);
	if (running)
		pthread_join(audit.thread, NULL);
	auditlog_close(audit.log);
	audit.log = NULL;
}

/* ---- events ---- */

static void tell(const char *event, const char *detail, const char *where)
{
	static const char *const routine[] = {"mount", "unmount", "mount_refused", "key_rotated", "unwrap", "unlock",
		"unlocked", "grace_over", "recovered"};
	enum log_level level = LOG_WARN;

	for (size_t i = 0; i < sizeof(routine) / sizeof(routine[0]); i++)
		if (strcmp(event, routine[i]) == 0)
			level = LOG_INFO_;
	log_line(level, "event=%s%s detail=\"%s\"", event, where, detail);
}

/* To the thread, if there is one; true: o was taken. */
static bool enqueue(json_t *o, bool sync)
{
	if (!audit.running)
		return false;
	if (o && audit.n_queued < (sync ? QUEUE_SLOTS : QUEUE_EVENTS)) {
		audit.queue[(audit.first + audit.n_queued++) % QUEUE_SLOTS] = (struct queued){o, sync};
		pthread_cond_signal(&audit.more);
	} else {
		json_decref(o);
		audit.dropped++;
	}
	return true;
}

void audit_event(const char *event, const char *detail, uint64_t ino, uint64_t sector)
{
	unsigned long held_back = 0;
	char where[80] = "";
	json_t *o;
	bool taken;

	pthread_mutex_lock(&audit.lock);
	if (!passes(event, ino, &held_back)) {
		pthread_mutex_unlock(&audit.lock);
		return;
	}
	o = event_json(event, detail);
	if (ino)
		add_number(o, "ino", ino);
	if (sector != UINT64_MAX)
		add_number(o, "sector", sector);
	if (held_back)
		add_number(o, "held_back", held_back);
	taken = enqueue(o, false);
	pthread_mutex_unlock(&audit.lock);
	if (!taken)
		append(o, false);
	if (sector != UINT64_MAX)
		snprintf(where, sizeof(where), " ino=%" PRIu64 " sector=%" PRIu64, ino, sector);
	else if (ino)
		snprintf(where, sizeof(where), " ino=%" PRIu64, ino);
	tell(event, detail, where);
}

static void add_text(json_t *o, const char *name, const char *text)
{
	if (o && text[0] && json_object_set_new(o, name, json_string(text)) != 0)
		log_line(LOG_WARN, "event=audit_memory");
}

void audit_key_event(const char *event, const char *detail, const struct keyprov_detail *d)
{
	json_t *o = event_json(event, detail);
	bool taken;

	if (d) {
		add_text(o, "reason", d->reason);
		if (d->http_status)
			add_number(o, "http_status", (uint64_t)d->http_status);
		add_text(o, "kid", d->kid);
		add_text(o, "tenant", d->tenant);
		add_text(o, "oid", d->oid);
		add_text(o, "appid", d->appid);
		add_text(o, "request_id", d->request_id);
		add_text(o, "client_request_id", d->client_request_id);
	}
	pthread_mutex_lock(&audit.lock);
	taken = enqueue(o, true);
	pthread_mutex_unlock(&audit.lock);
	if (!taken)
		append(o, true);
	tell(event, detail, "");
}

enum err audit_verify_open(struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why)
{
	enum err e;

	if (!audit.log)
		return err_set(why, ERR_NOT_FOUND, 0, "This daemon has no audit log; its messages tell why.");
	audit_flush();
	e = auditlog_verify_own(audit.log, vk, out, why);
	return e == ERR_KEY_UNAVAILABLE ? auditlog_verify_own(audit.log, NULL, out, why) : e;
}
