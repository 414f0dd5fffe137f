/* SPDX-License-Identifier: Apache-2.0 */
/* control - the daemon's side; see control.h.  The asking side is in control_ask.c. */
#include "fs/control.h"

#include "fs/control_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define BACKLOG	       64
#define CLIENTS	       64u /* more wait in the backlog */
#define CLIENT_SECONDS 5   /* to send the request, and to take the answer */
#define FIRST_BYTES    1024u

enum phase { FREE, READING, WAITING, WRITING };

struct client {
	enum phase phase;
	int fd;
	uid_t uid;
	uint64_t ticket;
	struct timespec deadline; /* not while WAITING: then the client gives up when it likes */
	char *buf;		  /* what came in; then the answer */
	size_t len, done, room;
};

struct reply {
	struct reply *next;
	uint64_t ticket;
	json_t *answer;
};

struct control {
	struct control_handler handler;
	pthread_t thread;
	int listen_fd, stop_fd, wake_fd;
	char path[CONTROL_PATH_CAP];
	ino_t ino; /* of the socket, so that another's is not removed */
	struct client client[CLIENTS];
	uint64_t tickets;

	pthread_mutex_t lock; /* protects replies */
	struct reply *replies;
};

char *control_line(const json_t *o, size_t *len)
{
	size_t n = json_dumpb(o, NULL, 0, JSON_COMPACT);
	char *text = n ? malloc(n + 1) : NULL;

	if (!text)
		return NULL;
	if (json_dumpb(o, text, n, JSON_COMPACT) != n) {
		free(text);
		return NULL;
	}
	text[n] = '\n';
	*len = n + 1;
	return text;
}

void control_deadline(struct timespec *out, unsigned seconds)
{
	clock_gettime(CLOCK_MONOTONIC, out);
	out->tv_sec += seconds;
}

int control_left(const struct timespec *deadline)
{
	struct timespec now;
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (deadline->tv_sec - now.tv_sec) * 1000 + (deadline->tv_nsec - now.tv_nsec) / 1000000;
	return ms <= 0 ? 0 : (int)ms;
}

static void drop(struct client *k)
{
	close(k->fd);
	free(k->buf);
	*k = (struct client){.fd = -1};
}

/* Sends what the socket takes; the rest follows when poll() says so. */
static void write_some(struct client *k)
{
	while (k->done < k->len) {
		ssize_t n = send(k->fd, k->buf + k->done, k->len - k->done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break;
		k->done += (size_t)n;
	}
	drop(k);
}

/* Takes answer over. */
static void start_writing(struct client *k, json_t *answer)
{
	free(k->buf);
	k->buf = answer ? control_line(answer, &k->len) : NULL;
	json_decref(answer);
	if (!k->buf) {
		drop(k);
		return;
	}
	k->done = 0;
	k->phase = WRITING;
	control_deadline(&k->deadline, CLIENT_SECONDS);
	write_some(k);
}

static void handle(struct control *c, struct client *k)
{
	json_t *request = json_loadb(k->buf, k->len, JSON_REJECT_DUPLICATES, NULL), *answer = NULL, *args, *none = NULL;
	struct control_request r = {.uid = k->uid, .control = c, .ticket = k->ticket};
	bool later = false;

	r.name = json_string_value(json_object_get(request, "request"));
	args = json_object_get(request, "args");
	if (!args)
		args = none = json_object();
	r.args = args;
	k->phase = WAITING;
	if (r.name && json_is_object(args))
		answer = c->handler.answer(c->handler.arg, &r, &later);
	json_decref(none);
	json_decref(request);
	if (later)
		return;
	start_writing(k, answer ? answer : json_pack("{s:s}", "error", "This request is not known."));
}

/* False: the client is gone, talks nonsense, or there is no memory. */
static bool read_some(struct client *k)
{
	ssize_t n;

	if (k->len == k->room) {
		size_t room = k->room ? 2 * k->room : FIRST_BYTES;
		char *grown = room <= CONTROL_REQUEST_CAP ? realloc(k->buf, room) : NULL;

		if (!grown)
			return false;
		k->buf = grown;
		k->room = room;
	}
	n = recv(k->fd, k->buf + k->len, k->room - k->len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	k->len += (size_t)n;
	return n > 0;
}

static void look_after(struct control *c, struct client *k, short revents)
{
	switch (k->phase) {
	case READING:
		if (revents && !read_some(k))
			drop(k);
		else if (revents && memchr(k->buf, '\n', k->len))
			handle(c, k);
		break;
	case WAITING:
		if (revents & (POLLHUP | POLLERR))
			drop(k);
		return;
	case WRITING:
		if (revents)
			write_some(k);
		break;
	case FREE:
		return;
	}
	if ((k->phase == READING || k->phase == WRITING) && control_left(&k->deadline) == 0)
		drop(k);
}

static void accept_one(struct control *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	socklen_t len = sizeof(struct ucred);
	struct ucred peer;

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != 0 && peer.uid != geteuid())) {
		close(fd);
		return;
	}
	for (size_t i = 0; i < CLIENTS; i++) {
		struct client *k = &c->client[i];

		if (k->phase != FREE)
			continue;
		*k = (struct client){.phase = READING, .fd = fd, .uid = peer.uid, .ticket = ++c->tickets};
		control_deadline(&k->deadline, CLIENT_SECONDS);
		return;
	}
	close(fd);
}

static void deliver(struct control *c)
{
	struct reply *all, *r = NULL, *next;
	uint64_t woken;

	if (read(c->wake_fd, &woken, sizeof(woken)) < 0)
		return;
	pthread_mutex_lock(&c->lock);
	all = c->replies;
	c->replies = NULL;
	pthread_mutex_unlock(&c->lock);
	LL_FOREACH_SAFE(all, r, next)
	{
		struct client *k = NULL;

		for (size_t i = 0; !k && i < CLIENTS; i++)
			if (c->client[i].phase == WAITING && c->client[i].ticket == r->ticket)
				k = &c->client[i];
		if (k)
			start_writing(k, r->answer);
		else
			json_decref(r->answer);
		free(r);
	}
}

void control_reply(struct control *c, uint64_t ticket, json_t *answer)
{
	const uint64_t one = 1;
	struct reply *r = malloc(sizeof(*r));

	if (!r) { /* the client gives up when its time is over */
		json_decref(answer);
		return;
	}
	r->ticket = ticket;
	r->answer = answer ? answer : json_pack("{s:s}", "error", "There is not enough memory for an answer.");
	pthread_mutex_lock(&c->lock);
	LL_PREPEND(c->replies, r);
	pthread_mutex_unlock(&c->lock);
	while (write(c->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Fills p behind the fixed three; returns how many, and how long to wait at most. */
static nfds_t watch(const struct control *c, struct pollfd *p, int *timeout, bool *room)
{
	nfds_t n = 0;

	*timeout = -1;
	*room = false;
	for (size_t i = 0; i < CLIENTS; i++) {
		const struct client *k = &c->client[i];
		int left;

		p[n].fd = k->phase == FREE ? -1 : k->fd;
		p[n].events = 0;
		p[n++].revents = 0;
		if (k->phase == FREE)
			*room = true;
		if (k->phase != READING && k->phase != WRITING)
			continue;
		p[n - 1].events = k->phase == READING ? POLLIN : POLLOUT;
		left = control_left(&k->deadline);
		if (*timeout < 0 || left < *timeout)
			*timeout = left;
	}
	return n;
}

static void *control_thread(void *arg)
{
	struct control *c = arg;
	struct pollfd p[CLIENTS + 3] = {{.fd = c->stop_fd, .events = POLLIN}, {.fd = c->wake_fd, .events = POLLIN}};

	for (;;) {
		bool room;
		int timeout;
		nfds_t n = watch(c, p + 3, &timeout, &room);

		p[2] = (struct pollfd){.fd = room ? c->listen_fd : -1, .events = POLLIN};
		if (poll(p, n + 3, timeout) < 0 && errno != EINTR)
			return NULL;
		if (p[0].revents)
			return NULL;
		for (size_t i = 0; i < CLIENTS; i++)
			look_after(c, &c->client[i], p[i + 3].revents);
		if (p[1].revents)
			deliver(c);
		if (p[2].revents)
			accept_one(c);
	}
}

bool control_directory(uid_t uid, unsigned n, char out[static CONTROL_PATH_CAP])
{
	const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
	int len = -1;

	if (uid == 0) {
		if (n == 0)
			len = snprintf(out, CONTROL_PATH_CAP, "/run/blobcryptfs");
	} else if (n == 0) {
		if (uid == geteuid() && runtime && runtime[0] == '/')
			len = snprintf(out, CONTROL_PATH_CAP, "%s/blobcryptfs", runtime);
		else
			len = snprintf(out, CONTROL_PATH_CAP, "/run/user/%u/blobcryptfs", uid);
	} else if (n == 1) {
		len = snprintf(out, CONTROL_PATH_CAP, "/tmp/blobcryptfs-%u", uid);
	}
	return len > 0 && len < CONTROL_PATH_CAP;
}

bool control_directory_is_safe(const char *dir, uid_t uid)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid && (st.st_mode & 077) == 0;
}

/* Makes the n-th directory if it is missing; errno. */
static bool home_at(unsigned n, char out[static CONTROL_PATH_CAP])
{
	if (!control_directory(geteuid(), n, out) || (mkdir(out, 0700) < 0 && errno != EEXIST))
		return false;
	errno = EPERM;
	return control_directory_is_safe(out, geteuid());
}

bool control_home(char out[static CONTROL_PATH_CAP])
{
	for (unsigned n = 0; n < CONTROL_DIRECTORIES; n++)
		if (home_at(n, out))
			return true;
	return false;
}

static int listen_in(struct control *c, const char *dir, const char *volume_hex)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, len;

	len = snprintf(c->path, sizeof(c->path), "%s/%s.sock", dir, volume_hex);
	errno = ENAMETOOLONG;
	if (len < 0 || (size_t)len >= sizeof(addr.sun_path))
		return -1;
	memcpy(addr.sun_path, c->path, (size_t)len + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* We hold the lock of the volume, so what is there was left over by a daemon that is gone. */
	unlink(c->path);
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(c->path, 0600) < 0 ||
		listen(fd, BACKLOG) < 0 || stat(c->path, &st) < 0) {
		close(fd);
		return -1;
	}
	c->ino = st.st_ino;
	return fd;
}

static void control_free(struct control *c)
{
	struct reply *r = NULL, *next;

	for (size_t i = 0; i < CLIENTS; i++)
		if (c->client[i].phase != FREE)
			drop(&c->client[i]);
	LL_FOREACH_SAFE(c->replies, r, next)
	{
		json_decref(r->answer);
		free(r);
	}
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->stop_fd >= 0)
		close(c->stop_fd);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

enum err control_start(
	const char *volume_hex, const struct control_handler *h, struct control **out, struct err_why *why)
{
	struct control *c = calloc(1, sizeof(*c));
	char dir[CONTROL_PATH_CAP];

	if (!c)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory for the control socket.");
	c->handler = *h;
	c->listen_fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (unsigned n = 0; c->listen_fd < 0 && n < CONTROL_DIRECTORIES; n++)
		if (home_at(n, dir))
			c->listen_fd = listen_in(c, dir, volume_hex);
	if (c->stop_fd < 0 || c->wake_fd < 0 || c->listen_fd < 0 ||
		pthread_create(&c->thread, NULL, control_thread, c) != 0) {
		int saved = errno;

		if (c->listen_fd >= 0)
			unlink(c->path);
		control_free(c);
		return err_set(why, ERR_IO, saved,
			"The socket for \"blobcryptfs status\" could not be made (%s); the mount works without.",
			strerror(saved));
	}
	*out = c;
	return ERR_OK;
}

/* What has been answered goes out as far as the sockets take it at once. */
void control_stop(struct control *c)
{
	const uint64_t one = 1;
	struct stat st;

	if (!c)
		return;
	while (write(c->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(c->thread, NULL);
	deliver(c);
	if (stat(c->path, &st) == 0 && st.st_ino == c->ino)
		unlink(c->path);
	control_free(c);
}
