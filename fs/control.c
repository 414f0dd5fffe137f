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

#define BACKLOG	       8
#define TICK_MS	       (3600 * 1000)
#define CLIENT_SECONDS 5

struct control {
	struct control_handler handler;
	pthread_t thread;
	int listen_fd, stop_fd;
	char path[CONTROL_PATH_CAP];
	ino_t ino; /* of the socket, so that another's is not removed */
};

bool control_wait(int fd, short events, const struct timespec *deadline)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		struct timespec now;
		int64_t ms;
		int n;

		clock_gettime(CLOCK_MONOTONIC, &now);
		ms = (deadline->tv_sec - now.tv_sec) * 1000 + (deadline->tv_nsec - now.tv_nsec) / 1000000;
		if (ms <= 0)
			return false;
		n = poll(&p, 1, (int)ms);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
	}
}

bool control_send(int fd, const json_t *o, const struct timespec *deadline)
{
	char *text = json_dumps(o, JSON_COMPACT);
	size_t len, done = 0;

	if (!text)
		return false;
	len = strlen(text);
	text[len++] = '\n'; /* in the place of the NUL */
	while (done < len && control_wait(fd, POLLOUT, deadline)) {
		ssize_t n = send(fd, text + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	free(text);
	return done == len;
}

json_t *control_receive(int fd, size_t cap, const struct timespec *deadline)
{
	char *line = malloc(cap);
	size_t len = 0;
	json_t *o = NULL;

	while (line && len < cap && control_wait(fd, POLLIN, deadline)) {
		ssize_t n = recv(fd, line + len, cap - len, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			break;
		if (n < 0)
			continue;
		len += (size_t)n;
		if (memchr(line + len - (size_t)n, '\n', (size_t)n)) {
			o = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
			break;
		}
	}
	free(line);
	return o;
}

void control_deadline(struct timespec *out, unsigned seconds)
{
	clock_gettime(CLOCK_MONOTONIC, out);
	out->tv_sec += seconds;
}

static void serve_client(struct control *c, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct timespec deadline;
	json_t *request, *answer = NULL;
	const char *what;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != 0 && peer.uid != geteuid()))
		return;
	control_deadline(&deadline, CLIENT_SECONDS);
	request = control_receive(fd, CONTROL_REQUEST_CAP, &deadline);
	what = json_string_value(json_object_get(request, "request"));
	if (what)
		answer = c->handler.answer(c->handler.arg, what);
	if (!answer)
		answer = json_pack("{s:s}", "error", "This request is not known.");
	json_decref(request);
	control_deadline(&deadline, CLIENT_SECONDS);
	if (answer)
		control_send(fd, answer, &deadline);
	json_decref(answer);
}

static void *control_thread(void *arg)
{
	struct control *c = arg;
	struct pollfd p[2] = {{.fd = c->stop_fd, .events = POLLIN}, {.fd = c->listen_fd, .events = POLLIN}};

	for (;;) {
		int n = poll(p, 2, TICK_MS), fd;

		if (n == 0)
			c->handler.tick(c->handler.arg);
		if (n <= 0)
			continue;
		if (p[0].revents)
			return NULL;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		serve_client(c, fd);
		close(fd);
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

static int listen_in(struct control *c, const char *dir, const char *volume_hex)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, len;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -1;
	errno = EPERM;
	if (!control_directory_is_safe(dir, geteuid()))
		return -1;
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

enum err control_start(
	const char *volume_hex, const struct control_handler *h, struct control **out, struct err_why *why)
{
	struct control *c = calloc(1, sizeof(*c));
	char dir[CONTROL_PATH_CAP];

	if (!c)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory for the status socket.");
	c->handler = *h;
	c->listen_fd = -1;
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	for (unsigned n = 0; c->listen_fd < 0 && n < CONTROL_DIRECTORIES; n++)
		if (control_directory(geteuid(), n, dir))
			c->listen_fd = listen_in(c, dir, volume_hex);
	if (c->stop_fd < 0 || c->listen_fd < 0 || pthread_create(&c->thread, NULL, control_thread, c) != 0) {
		int saved = errno;

		if (c->listen_fd >= 0) {
			unlink(c->path);
			close(c->listen_fd);
		}
		if (c->stop_fd >= 0)
			close(c->stop_fd);
		free(c);
		return err_set(why, ERR_IO, saved,
			"The socket for \"blobcryptfs status\" could not be made (%s); the mount works without.",
			strerror(saved));
	}
	*out = c;
	return ERR_OK;
}

void control_stop(struct control *c)
{
	const uint64_t one = 1;
	struct stat st;

	if (!c)
		return;
	while (write(c->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(c->thread, NULL);
	if (stat(c->path, &st) == 0 && st.st_ino == c->ino)
		unlink(c->path);
	close(c->listen_fd);
	close(c->stop_fd);
	free(c);
}
