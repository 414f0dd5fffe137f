/* SPDX-License-Identifier: Apache-2.0 */
/* control_ask - the asking side of the control socket; see control.h. */
#include "fs/control.h"
#include "fs/control_internal.h"
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MANY		1024u /* sockets asked at once */
#define RETRY_MS	20    /* while a daemon's backlog is full */
#define HEX_CAP		64u
#define FIRST_BYTES	4096u
#define PATHS_CAP	(2u * CONTROL_PATH_CAP)
#define DEADLINE_STATUS 5

struct question {
	const char *line; /* with its newline */
	size_t len;
	uid_t owner;
	struct timespec deadline;
};

/* One daemon that is being asked. */
struct asked {
	int fd; /* -1: done */
	int error;
	size_t sent, len, room;
	char *buf;
	json_t *answer;
};

static void asked_end(struct asked *a, int error)
{
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	a->error = error;
	free(a->buf);
	a->buf = NULL;
}

/* Waits while the daemon's backlog is full. */
static int connect_until(int fd, const struct sockaddr_un *addr, const struct timespec *deadline)
{
	while (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return errno;
		if (control_left(deadline) == 0)
			return ETIMEDOUT;
		poll(NULL, 0, RETRY_MS);
	}
	return 0;
}

static void asked_start(struct asked *a, const char *path, const struct question *q)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int rc;

	*a = (struct asked){.fd = -1};
	if (strlen(path) >= sizeof(addr.sun_path)) {
		asked_end(a, ENAMETOOLONG);
		return;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = a->fd < 0 ? errno : connect_until(a->fd, &addr, &q->deadline);
	/* Somebody else's answers are worth nothing. */
	if (rc == 0 && (getsockopt(a->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != q->owner))
		rc = EPERM;
	if (rc != 0)
		asked_end(a, rc);
}

static void asked_send(struct asked *a, const struct question *q)
{
	ssize_t n = send(a->fd, q->line + a->sent, q->len - a->sent, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		asked_end(a, errno);
	else if (n > 0)
		a->sent += (size_t)n;
}

static void asked_receive(struct asked *a)
{
	ssize_t n;

	if (a->len == a->room) {
		size_t room = a->room ? 2 * a->room : FIRST_BYTES;
		char *grown = room <= CONTROL_ANSWER_CAP ? realloc(a->buf, room) : NULL;

		if (!grown) {
			asked_end(a, EMSGSIZE);
			return;
		}
		a->buf = grown;
		a->room = room;
	}
	n = recv(a->fd, a->buf + a->len, a->room - a->len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		asked_end(a, n < 0 ? errno : ECONNRESET);
		return;
	}
	a->len += (size_t)n;
	if (!memchr(a->buf + a->len - (size_t)n, '\n', (size_t)n))
		return;
	a->answer = json_loadb(a->buf, a->len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(a->answer)) {
		json_decref(a->answer);
		a->answer = NULL;
	}
	asked_end(a, a->answer ? 0 : EBADMSG);
}

/* Until every one has answered, or the time is over. */
static void converse(struct asked *a, size_t n, const struct question *q)
{
	struct pollfd *p = calloc(n, sizeof(*p));

	for (;;) {
		int left = control_left(&q->deadline);
		size_t open = 0;

		for (size_t i = 0; p && i < n; i++) {
			p[i] = (struct pollfd){.fd = a[i].fd, .events = a[i].sent < q->len ? POLLOUT : POLLIN};
			open += a[i].fd >= 0;
		}
		if (!p || open == 0 || left == 0)
			break;
		if (poll(p, n, left) < 0 && errno != EINTR)
			break;
		for (size_t i = 0; i < n; i++) {
			if (a[i].fd < 0 || !p[i].revents)
				continue;
			if (a[i].sent < q->len)
				asked_send(&a[i], q);
			else
				asked_receive(&a[i]);
		}
	}
	for (size_t i = 0; i < n; i++)
		if (a[i].fd >= 0)
			asked_end(&a[i], ETIMEDOUT);
	free(p);
}

/* The line to send; malloc'ed. */
static bool question_make(
	struct question *q, char **line, uid_t owner, const char *request, const json_t *args, unsigned seconds)
{
	json_t *o = json_pack("{s:s}", "request", request);

	if (o && args && json_object_set_new(o, "args", json_deep_copy(args)) != 0) {
		json_decref(o);
		o = NULL;
	}
	*line = o ? control_line(o, &q->len) : NULL;
	json_decref(o);
	q->line = *line;
	q->owner = owner;
	control_deadline(&q->deadline, seconds);
	return *line != NULL;
}

static enum err ask_at(
	const char *path, const char *mountpoint, const struct question *q, json_t **answer, struct err_why *why)
{
	struct asked a;
	const char *at;

	asked_start(&a, path, q);
	if (a.error == ENOENT || a.error == ECONNREFUSED)
		return ERR_NOT_FOUND;
	if (a.error)
		return err_set(why, ERR_IO, a.error, "The daemon at %s can't be asked: %s.", path, strerror(a.error));
	converse(&a, 1, q);
	if (!a.answer)
		return err_set(why, ERR_IO, a.error, "The daemon at %s did not answer: %s.", path, strerror(a.error));
	at = json_string_value(json_object_get(a.answer, "mountpoint"));
	if (mountpoint && (!at || strcmp(at, mountpoint) != 0)) {
		json_decref(a.answer);
		return ERR_NOT_FOUND;
	}
	*answer = a.answer;
	return ERR_OK;
}

/* Paths of all sockets in dir, up to max. */
static size_t list_sockets(const char *dir, char (*paths)[PATHS_CAP], size_t max)
{
	const struct dirent *entry;
	DIR *d = opendir(dir);
	size_t n = 0;

	while (d && n < max && (entry = readdir(d))) {
		const char *dot = strrchr(entry->d_name, '.');
		int len;

		if (!dot || strcmp(dot, ".sock") != 0)
			continue;
		len = snprintf(paths[n], PATHS_CAP, "%s/%s", dir, entry->d_name);
		if (len > 0 && (size_t)len < PATHS_CAP)
			n++;
	}
	if (d)
		closedir(d);
	return n;
}

static enum err ask_each(
	const char *dir, const char *mountpoint, const struct question *q, json_t **answer, struct err_why *why)
{
	char(*paths)[PATHS_CAP] = calloc(MANY, sizeof(*paths));
	enum err e = ERR_NOT_FOUND;
	size_t n = paths ? list_sockets(dir, paths, MANY) : 0;

	for (size_t i = 0; e != ERR_OK && i < n; i++) {
		enum err one = ask_at(paths[i], mountpoint, q, answer, why);

		if (one != ERR_NOT_FOUND)
			e = one;
	}
	free(paths);
	return e;
}

static enum err ask(
	const char *volume_hex, const char *mountpoint, const struct question *q, json_t **answer, struct err_why *why)
{
	char dir[CONTROL_PATH_CAP], path[PATHS_CAP];
	enum err e = ERR_NOT_FOUND;

	for (unsigned n = 0; e == ERR_NOT_FOUND && n < CONTROL_DIRECTORIES; n++) {
		if (!control_directory(q->owner, n, dir))
			continue;
		if (access(dir, X_OK) < 0 && errno == EACCES)
			return err_set(why, ERR_IO, EACCES, "Only root and the user who mounted it can see more.");
		if (!control_directory_is_safe(dir, q->owner))
			continue;
		if (volume_hex) {
			snprintf(path, sizeof(path), "%s/%.*s.sock", dir, (int)HEX_CAP, volume_hex);
			e = ask_at(path, mountpoint, q, answer, why);
		} else {
			e = ask_each(dir, mountpoint, q, answer, why);
		}
	}
	return e;
}

/* Which volume is mounted there?  What changes something must not go to every daemon. */
static enum err find_volume(const char *mountpoint, uid_t owner, char hex[static HEX_CAP], struct err_why *why)
{
	json_t *status = NULL;
	enum err e = control_ask(NULL, mountpoint, owner, "status", DEADLINE_STATUS, &status, why);
	const char *id = json_string_value(json_object_get(status, "volume"));

	if (e == ERR_OK && (!id || strlen(id) >= HEX_CAP || strchr(id, '/')))
		e = err_set(why, ERR_IO, EBADMSG, "The daemon of %s gave no answer that makes sense.", mountpoint);
	if (e == ERR_OK)
		memcpy(hex, id, strlen(id) + 1);
	json_decref(status);
	return e;
}

enum err control_ask(const char *volume_hex, const char *mountpoint, uid_t owner, const char *request, unsigned seconds,
	json_t **answer, struct err_why *why)
{
	return control_ask_args(volume_hex, mountpoint, owner, request, NULL, seconds, answer, why);
}

enum err control_ask_args(const char *volume_hex, const char *mountpoint, uid_t owner, const char *request,
	const json_t *args, unsigned seconds, json_t **answer, struct err_why *why)
{
	char hex[HEX_CAP], *line;
	struct question q;
	enum err e = ERR_OK;

	if (!volume_hex && strcmp(request, "status") != 0) {
		e = find_volume(mountpoint, owner, hex, why);
		if (e != ERR_OK)
			return e;
		volume_hex = hex;
		mountpoint = NULL;
	}
	if (!question_make(&q, &line, owner, request, args, seconds))
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory to ask the daemon.");
	e = ask(volume_hex, mountpoint, &q, answer, why);
	free(line);
	return e;
}

unsigned control_ask_all(uid_t owner, const char *request, const json_t *args, unsigned seconds,
	void (*heard)(void *arg, const json_t *answer), void *arg)
{
	char dir[CONTROL_PATH_CAP], *line = NULL, (*paths)[PATHS_CAP] = calloc(MANY, sizeof(*paths));
	struct asked *a = calloc(MANY, sizeof(*a));
	struct question q;
	unsigned count = 0;
	size_t n = 0;

	for (unsigned k = 0; paths && k < CONTROL_DIRECTORIES; k++)
		if (control_directory(owner, k, dir) && control_directory_is_safe(dir, owner))
			n += list_sockets(dir, paths + n, MANY - n);
	if (!a || !question_make(&q, &line, owner, request, args, seconds))
		n = 0;
	for (size_t i = 0; i < n; i++)
		asked_start(&a[i], paths[i], &q);
	if (n > 0)
		converse(a, n, &q);
	for (size_t i = 0; i < n; i++) {
		/* left behind by a daemon that is gone */
		if (a[i].error == ECONNREFUSED || a[i].error == ENOENT)
			continue;
		count++;
		heard(arg, a[i].answer);
		json_decref(a[i].answer);
	}
	free(line);
	free(paths);
	free(a);
	return count;
}
