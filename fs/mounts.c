/* SPDX-License-Identifier: Apache-2.0 */
/* mounts - see mounts.h. */
#include "fs/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOUNTINFO "/proc/self/mountinfo"
#define DEPTH_MAX 4096 /* directories on the way to the root */

void mount_info_clear(struct mount_info *m)
{
	free(m->source);
	free(m->target);
	free(m->fstype);
	memset(m, 0, sizeof(*m));
}

static char *copy(const char *s)
{
	return strdup(s ? s : "");
}

static enum err fill(struct libmnt_fs *fs, struct mount_info *out)
{
	const struct libmnt_optmap *map = mnt_get_builtin_optmap(MNT_LINUX_MAP);
	const char *vfs = mnt_fs_get_vfs_options(fs), *super = mnt_fs_get_fs_options(fs);
	struct mount_info m = {.source = copy(mnt_fs_get_source(fs)),
		.target = copy(mnt_fs_get_target(fs)),
		.fstype = copy(mnt_fs_get_fstype(fs))};
	char *value, text[16];
	size_t len;

	if (!m.source || !m.target || !m.fstype) {
		mount_info_clear(&m);
		return ERR_NOMEM;
	}
	if (vfs)
		mnt_optstr_get_flags(vfs, &m.flags, map);
	if (super)
		mnt_optstr_get_flags(super, &m.flags, map);
	if (mnt_fs_get_option(fs, "user_id", &value, &len) == 0 && len < sizeof(text)) {
		memcpy(text, value, len);
		text[len] = '\0';
		m.user_id = (uid_t)strtoul(text, NULL, 10);
	}
	m.dev = mnt_fs_get_devno(fs);
	m.is_ours = strcmp(m.fstype, MOUNT_TYPE) == 0;
	*out = m;
	return ERR_OK;
}

static enum err look(const char *path, bool around, struct mount_info *out)
{
	struct libmnt_table *table = mnt_new_table_from_file(MOUNTINFO);
	struct libmnt_fs *fs = NULL;
	enum err e = ERR_NOT_FOUND;
	char *up;

	if (!table)
		return ERR_IO;
	/* Not mnt_table_find_mountpoint(): that one looks paths up, and so could hang. */
	up = strdup(path);
	while (up) {
		fs = mnt_table_find_target(table, up, MNT_ITER_BACKWARD);
		if (fs || !around || strcmp(up, "/") == 0)
			break;
		char *slash = strrchr(up, '/');

		if (!slash)
			break;
		slash[slash == up ? 1 : 0] = '\0';
	}
	free(up);
	if (fs)
		e = fill(fs, out);
	mnt_unref_table(table);
	return e;
}

enum err mounts_at(const char *path, struct mount_info *out)
{
	return look(path, false, out);
}

enum err mounts_around(const char *path, struct mount_info *out)
{
	return look(path, true, out);
}

size_t mounts_owners(uid_t *out, size_t max)
{
	struct libmnt_table *table = mnt_new_table_from_file(MOUNTINFO);
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	struct mount_info m;
	size_t n = 0;

	while (table && iter && n < max && mnt_table_next_fs(table, iter, &fs) == 0) {
		if (fill(fs, &m) != ERR_OK)
			continue;
		for (size_t i = 0; m.is_ours && i <= n; i++) {
			if (i == n) {
				out[n++] = m.user_id;
				break;
			}
			if (out[i] == m.user_id)
				break;
		}
		mount_info_clear(&m);
	}
	mnt_free_iter(iter);
	mnt_unref_table(table);
	return n;
}

void mounts_remember(const char *source, const char *target, const char *options)
{
	struct libmnt_update *update = mnt_new_update();
	struct libmnt_fs *fs = mnt_new_fs();

	if (update && fs && mnt_fs_set_source(fs, source) == 0 && mnt_fs_set_target(fs, target) == 0 &&
		mnt_fs_set_fstype(fs, MOUNT_TYPE) == 0 && mnt_fs_set_options(fs, options) == 0 &&
		mnt_update_set_fs(update, 0, NULL, fs) == 0)
		mnt_update_table(update, NULL);
	mnt_unref_fs(fs);
	mnt_free_update(update);
}

extern char **environ;

static int unmount_as_user(const char *target, bool lazy)
{
	char program[] = "fusermount3", u[] = "-u", q[] = "-q", z[] = "-z", end[] = "--", *copied = strdup(target);
	char *argv[] = {program, u, q, lazy ? z : end, lazy ? end : copied, lazy ? copied : NULL, NULL};
	struct mount_info at = {0};
	int rc, status = 0;
	pid_t pid;

	rc = copied ? posix_spawnp(&pid, program, NULL, NULL, argv, environ) : ENOMEM;
	free(copied);
	if (rc)
		return rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	/* It tells why in words only. */
	rc = mounts_at(target, &at) == ERR_OK && at.user_id == getuid() ? EBUSY : EPERM;
	mount_info_clear(&at);
	return rc;
}

int mounts_unmount(const char *target, bool lazy)
{
	struct libmnt_context *cxt;
	int rc;

	if (geteuid() != 0)
		return unmount_as_user(target, lazy);
	cxt = mnt_new_context();
	if (!cxt)
		return ENOMEM;
	mnt_context_disable_helpers(cxt, 1);
	mnt_context_disable_canonicalize(cxt, 1);
	mnt_context_enable_lazy(cxt, lazy);
	rc = mnt_context_set_target(cxt, target);
	if (rc == 0)
		rc = mnt_context_umount(cxt);
	if (mnt_context_syscall_called(cxt) && mnt_context_get_syscall_errno(cxt))
		rc = mnt_context_get_syscall_errno(cxt);
	mnt_free_context(cxt);
	return rc < 0 ? -rc : rc;
}

char *path_absolute(const char *path)
{
	size_t len = strlen(path);
	char *text, *slash, *parent, *out = NULL;
	const char *base;

	while (len > 1 && path[len - 1] == '/')
		len--;
	text = strndup(path, len);
	if (!text)
		return NULL;
	slash = strrchr(text, '/');
	base = slash ? slash + 1 : text;
	/* Nothing to leave unlooked at: the root, "." and "..". */
	if (!*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
		out = realpath(text, NULL);
		free(text);
		return out;
	}
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : slash == text ? "/" : text, NULL);
	if (parent && asprintf(&out, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, base) < 0)
		out = NULL;
	free(parent);
	free(text);
	return out;
}

enum nesting path_nesting(int inner, int outer)
{
	struct stat in, out, last = {0};
	enum nesting found = NESTING_NONE;
	int fd = openat(inner, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), up;

	if (fd < 0 || fstat(outer, &out) < 0) {
		if (fd >= 0)
			close(fd);
		return NESTING_NONE;
	}
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		if (fstat(fd, &in) < 0)
			break;
		if (in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
			found = depth ? NESTING_BELOW : NESTING_SAME;
			break;
		}
		if (depth && in.st_dev == last.st_dev && in.st_ino == last.st_ino)
			break; /* the root is its own parent */
		last = in;
		up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (up < 0)
			break;
		close(fd);
		fd = up;
	}
	close(fd);
	return found;
}

int path_is_empty(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *entry;
	int rc = 0;

	if (!d)
		return errno;
	errno = 0;
	while (rc == 0 && (entry = readdir(d)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			strcmp(entry->d_name, "lost+found") != 0)
			rc = ENOTEMPTY;
	if (rc == 0 && errno)
		rc = errno;
	closedir(d);
	return rc;
}
