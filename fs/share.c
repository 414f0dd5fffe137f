/* SPDX-License-Identifier: Apache-2.0 */
/* share - see share.h. */
#include "fs/share.h"

#include "fs/control.h"
#include "fs/log.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX 8192u
#define BOOT_ID	   "/proc/sys/kernel/random/boot_id"
#define BOOT_CAP   40u
#define NAME_BYTES 16u /* of the digest of the key */

struct share {
	int fd, notify;
	char *key;
	char path[CONTROL_PATH_CAP + 64];
	char boot[BOOT_CAP];
};

static void read_boot_id(char out[static BOOT_CAP])
{
	int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, BOOT_CAP - 1) : -1;

	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

/* The file, which somebody may have removed meanwhile. */
static bool open_file(struct share *s)
{
	struct stat st;

	if (s->fd >= 0 && fstat(s->fd, &st) == 0 && st.st_nlink > 0)
		return true;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = open(s->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return false;
	/* the inode, not the name: nobody replaces it */
	return inotify_add_watch(s->notify, s->path, IN_CLOSE_WRITE | IN_MODIFY | IN_DONT_FOLLOW) >= 0;
}

struct share *share_open(const struct fips *f, const char *key)
{
	struct share *s = calloc(1, sizeof(*s));
	char dir[CONTROL_PATH_CAP], hex[2 * NAME_BYTES + 1];
	uint8_t digest[32];

	if (!s)
		return NULL;
	s->fd = -1;
	s->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	s->key = strdup(key);
	read_boot_id(s->boot);
	if (s->notify < 0 || !s->key || !control_home(dir) || fips_sha256(f, key, strlen(key), digest) != ERR_OK)
		goto fail;
	for (size_t i = 0; i < NAME_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	snprintf(s->path, sizeof(s->path), "%s/%s.probe", dir, hex);
	if (open_file(s))
		return s;
	log_line(LOG_WARN, "event=probes_not_shared path=%s err=\"%s\"", s->path, strerror(errno));
fail:
	share_close(s);
	return NULL;
}

void share_close(struct share *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	if (s->notify >= 0)
		close(s->notify);
	free(s->key);
	free(s);
}

int share_fd(const struct share *s)
{
	return s->notify;
}

void share_heard(struct share *s)
{
	char events[4096] __attribute__((aligned(8)));

	while (read(s->notify, events, sizeof(events)) > 0)
		;
}

bool share_trylock(struct share *s)
{
	return open_file(s) && flock(s->fd, LOCK_EX | LOCK_NB) == 0;
}

void share_unlock(struct share *s)
{
	flock(s->fd, LOCK_UN);
}

static void take_text(const json_t *o, const char *name, char *out, size_t cap)
{
	const char *s = json_string_value(json_object_get(o, name));

	snprintf(out, cap, "%s", s ? s : "");
}

static bool parse(const struct share *s, const json_t *o, struct share_record *r)
{
	static const char *const results[] = {"ok", "denied", "unavailable"};
	const char *key = json_string_value(json_object_get(o, "key"));
	const char *boot = json_string_value(json_object_get(o, "boot"));
	const char *result = json_string_value(json_object_get(o, "result"));
	struct timespec now;
	json_int_t began = json_integer_value(json_object_get(o, "began"));
	int found = -1;

	clock_gettime(CLOCK_BOOTTIME, &now);
	if (!key || strcmp(key, s->key) != 0 || !boot || strcmp(boot, s->boot) != 0 || !result)
		return false;
	if (began <= 0 || (uint64_t)began > (uint64_t)now.tv_sec * LEASE_SECOND + (uint64_t)now.tv_nsec)
		return false;
	for (int i = 0; i < 3; i++)
		if (strcmp(result, results[i]) == 0)
			found = i;
	if (found < 0)
		return false;
	memset(r, 0, sizeof(*r));
	r->began = (uint64_t)began;
	r->result = (enum probe_result)found;
	take_text(o, "reason", r->detail.reason, sizeof(r->detail.reason));
	take_text(o, "request_id", r->detail.request_id, sizeof(r->detail.request_id));
	take_text(o, "client_request_id", r->detail.client_request_id, sizeof(r->detail.client_request_id));
	take_text(o, "tenant", r->detail.tenant, sizeof(r->detail.tenant));
	take_text(o, "oid", r->detail.oid, sizeof(r->detail.oid));
	take_text(o, "appid", r->detail.appid, sizeof(r->detail.appid));
	take_text(o, "region", r->detail.region, sizeof(r->detail.region));
	take_text(o, "kid", r->detail.kid, sizeof(r->detail.kid));
	take_text(o, "why", r->why, sizeof(r->why));
	r->detail.network = json_is_true(json_object_get(o, "network"));
	r->detail.http_status = (int)json_integer_value(json_object_get(o, "http_status"));
	return true;
}

bool share_read(struct share *s, struct share_record *out)
{
	char text[RECORD_MAX];
	ssize_t n = pread(s->fd, text, sizeof(text), 0);
	json_t *o = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	bool usable = o && parse(s, o, out);

	json_decref(o);
	return usable;
}

/* In place, since the lock is on this very file; torn it is no JSON. */
void share_write(struct share *s, const struct share_record *r)
{
	static const char *const results[] = {"ok", "denied", "unavailable"};
	const struct keyprov_detail *d = &r->detail;
	char text[RECORD_MAX];
	size_t n = 0;
	json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i}", "key",
		s->key, "boot", s->boot, "began", (json_int_t)r->began, "result", results[r->result], "reason",
		d->reason, "request_id", d->request_id, "client_request_id", d->client_request_id, "tenant", d->tenant,
		"oid", d->oid, "appid", d->appid, "region", d->region, "kid", d->kid, "why", r->why, "network",
		(int)d->network, "http_status", d->http_status);

	if (o)
		n = json_dumpb(o, text, sizeof(text), JSON_COMPACT);
	json_decref(o);
	/* What can't be shared is not shared: the others probe for themselves. */
	if (n == 0 || n > sizeof(text) || ftruncate(s->fd, 0) < 0 || pwrite(s->fd, text, n, 0) != (ssize_t)n)
		(void)!ftruncate(s->fd, 0);
}
