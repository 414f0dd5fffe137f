/* SPDX-License-Identifier: Apache-2.0 */
/* audit - see audit.h.  The log file is one per volume and process; there is one mount in a process. */
#include "fs/audit.h"

#include "fs/log.h"
#include "keyprov/sealed_json.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOT_LOG_DIR "/var/log/blobcryptfs"
#define RECENT_SLOTS 64u /* pairs of (event, inode) whose repeats are held back; a collision lets one more through */
#define HEX_BYTES    (2 * ID_BYTES + 1)

struct recent {
	const char *event;
	uint64_t ino;
	time_t second;
	unsigned long held_back;
};

static struct {
	pthread_mutex_t lock; /* protects all of it */
	int fd;		      /* -1: none */
	char volume[HEX_BYTES];
	struct recent recent[RECENT_SLOTS];
} audit = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

/* Makes dir and its parents, 0700; those that are there stay as they are. */
static bool make_directories(char *dir)
{
	for (char *p = dir + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(dir, 0700) < 0 && errno != EEXIST)
			return false;
		*p = c;
		if (c == '\0')
			return true;
	}
}

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

void audit_open(const uint8_t volume_id[static ID_BYTES])
{
	char dir[PATH_MAX], name[HEX_BYTES + 4];
	int dirfd, fd = -1;

	pthread_mutex_lock(&audit.lock);
	for (size_t i = 0; i < ID_BYTES; i++)
		snprintf(audit.volume + 2 * i, 3, "%02x", volume_id[i]);
	snprintf(name, sizeof(name), "%s.log", audit.volume);
	if (log_directory(dir, sizeof(dir)) && make_directories(dir)) {
		dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dirfd >= 0) {
			fd = openat(dirfd, name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
			close(dirfd);
		}
	}
	if (audit.fd >= 0)
		close(audit.fd);
	audit.fd = fd;
	pthread_mutex_unlock(&audit.lock);
}

void audit_close(void)
{
	pthread_mutex_lock(&audit.lock);
	if (audit.fd >= 0)
		close(audit.fd);
	audit.fd = -1;
	pthread_mutex_unlock(&audit.lock);
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

static void write_line(const char *event, const char *detail, uint64_t ino, uint64_t sector, unsigned long held_back)
{
	struct timespec now;
	struct tm tm;
	char when[64];
	size_t n;
	json_t *o;
	char *text;
	enum err e;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%03ldZ", now.tv_nsec / 1000000);
	o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "time", when, "volume", audit.volume, "event", event, "detail",
		detail, "pid", (json_int_t)getpid(), "uid", (json_int_t)geteuid());
	if (!o)
		return;
	if (ino)
		json_object_set_new(o, "ino", json_integer((json_int_t)ino));
	if (sector != UINT64_MAX)
		json_object_set_new(o, "sector", json_integer((json_int_t)sector));
	if (held_back)
		json_object_set_new(o, "held_back", json_integer((json_int_t)held_back));
	e = sealed_json_text(o, JSON_COMPACT, &text, &n);
	json_decref(o);
	if (e != ERR_OK)
		return;
	text[n] = '\n'; /* there is room for it; one write makes one line, also with other writers */
	if (write(audit.fd, text, n + 1) < 0)
		log_line(LOG_WARN, "event=audit_write_failed err=\"%s\"", strerror(errno));
	free(text);
}

void audit_event(const char *event, const char *detail, uint64_t ino, uint64_t sector)
{
	static const char *const routine[] = {"mount", "unmount", "key_rotated"};
	enum log_level level = LOG_WARN;
	unsigned long held_back;
	char where[80] = "";

	pthread_mutex_lock(&audit.lock);
	if (!passes(event, ino, &held_back)) {
		pthread_mutex_unlock(&audit.lock);
		return;
	}
	if (audit.fd >= 0)
		write_line(event, detail, ino, sector, held_back);
	pthread_mutex_unlock(&audit.lock);
	for (size_t i = 0; i < sizeof(routine) / sizeof(routine[0]); i++)
		if (strcmp(event, routine[i]) == 0)
			level = LOG_INFO_;
	if (sector != UINT64_MAX)
		snprintf(where, sizeof(where), " ino=%" PRIu64 " sector=%" PRIu64, ino, sector);
	else if (ino)
		snprintf(where, sizeof(where), " ino=%" PRIu64, ino);
	log_line(level, "event=%s%s detail=\"%s\"", event, where, detail);
}
