/* SPDX-License-Identifier: Apache-2.0 */
/* control_ask - the asking side of the status socket; see control.h. */
#include "fs/control.h"
#include "fs/control_internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct question {
	const char *mountpoint, *request;
	const json_t *args; /* or NULL */
	uid_t owner;
	unsigned seconds;
};

static int connect_to(const char *path, uid_t owner)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	/* Somebody else's answers are worth nothing. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != owner) {
		close(fd);
		errno = EPERM;
		return -1;
	}
	return fd;
}

static enum err ask_at(const char *path, const struct question *q, json_t **answer, struct err_why *why)
{
	struct timespec deadline;
	json_t *request, *got = NULL;
	const char *mountpoint;
	int fd = connect_to(path, q->owner);

	if (fd < 0 && (errno == ENOENT || errno == ECONNREFUSED))
		return ERR_NOT_FOUND;
	if (fd < 0)
		return err_set(why, ERR_IO, errno, "The daemon at %s can't be asked: %s.", path, strerror(errno));
	control_deadline(&deadline, q->seconds);
	request = json_pack("{s:s}", "request", q->request);
	if (request && q->args && json_object_set_new(request, "args", json_deep_copy(q->args)) != 0) {
		json_decref(request);
		request = NULL;
	}
	if (request && control_send(fd, request, &deadline))
		got = control_receive(fd, CONTROL_ANSWER_CAP, &deadline);
	json_decref(request);
	close(fd);
	if (!json_is_object(got)) {
		json_decref(got);
		return err_set(
			why, ERR_IO, ETIMEDOUT, "The daemon at %s did not answer within %u seconds.", path, q->seconds);
	}
	mountpoint = json_string_value(json_object_get(got, "mountpoint"));
	if (q->mountpoint && (!mountpoint || strcmp(mountpoint, q->mountpoint) != 0)) {
		json_decref(got);
		return ERR_NOT_FOUND;
	}
	*answer = got;
	return ERR_OK;
}

static enum err ask_all(const char *dir, const struct question *q, json_t **answer, struct err_why *why)
{
	DIR *d = opendir(dir);
	const struct dirent *entry;
	enum err e = ERR_NOT_FOUND;
	char path[CONTROL_PATH_CAP];

	if (!d)
		return ERR_NOT_FOUND;
	while (e != ERR_OK && (entry = readdir(d))) {
		const char *dot = strrchr(entry->d_name, '.');
		int len;

		if (!dot || strcmp(dot, ".sock") != 0)
			continue;
		len = snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (len > 0 && (size_t)len < sizeof(path)) {
			enum err one = ask_at(path, q, answer, why);

			if (one != ERR_NOT_FOUND)
				e = one;
		}
	}
	closedir(d);
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
	const struct question q = {mountpoint, request, args, owner, seconds};
	char dir[CONTROL_PATH_CAP], path[2 * CONTROL_PATH_CAP];
	enum err e = ERR_NOT_FOUND;

	for (unsigned n = 0; e == ERR_NOT_FOUND && n < CONTROL_DIRECTORIES; n++) {
		if (!control_directory(owner, n, dir))
			continue;
		if (access(dir, X_OK) < 0 && errno == EACCES)
			return err_set(why, ERR_IO, EACCES, "Only root and the user who mounted it can see more.");
		if (!control_directory_is_safe(dir, owner))
			continue;
		if (volume_hex) {
			snprintf(path, sizeof(path), "%s/%s.sock", dir, volume_hex);
			e = ask_at(path, &q, answer, why);
		} else {
			e = ask_all(dir, &q, answer, why);
		}
	}
	return e;
}
