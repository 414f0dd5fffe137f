/* SPDX-License-Identifier: Apache-2.0 */
/* azid_file - the files identities come from, read straight into locked memory. */
#include "keyprov/azid_internal.h"
#include "keyprov/keyfile.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads and closes fd. */
static enum err slurp(int fd, size_t cap, const char *shown, struct secret **out, struct err_why *why)
{
	struct secret *all = NULL;
	size_t got = 0;
	/* one byte more, so that longer files are noticed */
	enum err e = secret_new(cap + 1, &all);

	if (e != ERR_OK)
		err_set(why, e, 0, "out of locked memory");
	while (e == ERR_OK && got <= cap) {
		ssize_t n = read(fd, secret_bytes(all) + got, cap + 1 - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			e = err_set(why, ERR_IO, errno, "can't read %.300s: %s", shown, strerror(errno));
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	if (e == ERR_OK && (got == 0 || got > cap))
		e = err_set(why, ERR_CONFIG, 0, "%.300s is %s; it should have 1 to %zu bytes", shown,
			got == 0 ? "empty" : "too long", cap);
	if (e == ERR_OK) {
		e = secret_take(secret_bytes(all), got, out);
		if (e != ERR_OK)
			err_set(why, e, 0, "out of locked memory");
	}
	secret_free(all);
	return e;
}

bool azid_text(const struct secret *s, size_t *len)
{
	const uint8_t *p = secret_view(s);
	size_t n = secret_len(s);

	while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
		n--;
	*len = n;
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] >= 0x7f)
			return false;
	return n > 0;
}

static enum err missing(const char *path, struct err_why *why)
{
	return err_set(why, ERR_CONFIG, ENOENT,
		"the identity's file %.300s is missing; put it back, or choose another"
		" identity",
		path);
}

enum err azid_file_spec(const struct azid_spec *s, size_t cap, struct secret **out, struct err_why *why)
{
	const char *dir = s->credential ? secure_getenv("CREDENTIALS_DIRECTORY") : NULL;
	char path[PATH_MAX];
	int fd = -1, n;
	enum err e;

	if (s->credential && (!dir || dir[0] != '/'))
		return err_set(why, ERR_CONFIG, 0,
			"there are no systemd credentials here (CREDENTIALS_DIRECTORY is not set); run as a service"
			" with LoadCredential=%.200s:PATH",
			s->file);
	n = s->credential ? snprintf(path, sizeof(path), "%s/%s", dir, s->file)
			  : snprintf(path, sizeof(path), "%s", s->file);
	if (n < 0 || n >= (int)sizeof(path))
		return err_set(why, ERR_CONFIG, 0, "CREDENTIALS_DIRECTORY is too long");
	e = keyfile_open(AT_FDCWD, path, path, s->credential ? KEYFILE_CREDENTIAL : KEYFILE_GIVEN, &fd, NULL, why);
	if (e == ERR_KEY_UNAVAILABLE)
		return missing(path, why);
	return e == ERR_OK ? slurp(fd, cap, path, out, why) : e;
}

enum err azid_file_token(const char *path, size_t cap, struct secret **out, struct err_why *why)
{
	struct stat st;
	int fd;

	if (path[0] != '/')
		return err_set(why, ERR_CONFIG, 0,
			"AZURE_FEDERATED_TOKEN_FILE is no absolute path; the pod's workload identity sets it");
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? missing(path, why)
			       : err_set(why, ERR_CONFIG, errno, "can't open the identity's file %.300s: %s", path,
					 strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(why, ERR_CONFIG, 0, "the identity's file %.300s is not a regular file", path);
	}
	return slurp(fd, cap, path, out, why);
}

/* root's, or the agent's own user's */
static bool owner_is_agent(const struct azid *a, uid_t uid)
{
	struct passwd pw, *found = NULL;
	char buf[4096];

	if (uid == 0)
		return true;
	return getpwnam_r(a->arc_user, &pw, buf, sizeof(buf), &found) == 0 && found && found->pw_uid == uid;
}

enum err azid_file_arc(const struct azid *a, const char *name, struct secret **out, struct err_why *why)
{
	int dir = open(a->arc_tokens, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd = -1, saved;
	struct stat st;
	char shown[PATH_MAX];

	snprintf(shown, sizeof(shown), "%.512s/%.255s", a->arc_tokens, name);
	if (dir >= 0)
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	saved = errno;
	if (dir >= 0)
		close(dir);
	if (fd < 0 && (saved == EACCES || saved == EPERM))
		return err_set(why, ERR_CONFIG, saved,
			"no permission to read the Azure Arc agent's key %.300s; run as root or join the group \"%s\"",
			shown, a->arc_user);
	if (fd < 0 && saved == ENOENT)
		return err_set(why, ERR_KEY_UNAVAILABLE, saved,
			"the Azure Arc agent's key %.300s is not there; look at \"azcmagent show\"", shown);
	if (fd < 0)
		return err_set(why, ERR_CONFIG, saved, "can't open the Azure Arc agent's key %.300s: %s", shown,
			strerror(saved));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > AZID_ARC_KEY_MAX ||
		!owner_is_agent(a, st.st_uid)) {
		close(fd);
		return err_set(why, ERR_CONFIG, 0,
			"%.300s is not a key of the Azure Arc agent: it has to be a regular file of at most %u bytes"
			" that belongs to root or \"%s\"",
			shown, AZID_ARC_KEY_MAX, a->arc_user);
	}
	return slurp(fd, AZID_ARC_KEY_MAX, shown, out, why);
}
