/* SPDX-License-Identifier: Apache-2.0 */
/* keystore - see keystore.h. */
#include "keyprov/keystore.h"
#include "keyprov/atomic_file.h"
#include "keyprov/keyfile.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_NAME_MAX 32

static void key_name(unsigned version, char out[static KEY_NAME_MAX])
{
	snprintf(out, KEY_NAME_MAX, "v%u.key", version);
}

/* "v12.key" -> 12; 0 for anything else, leading zeros included, so that a version has one name only */
static unsigned key_version(const char *name)
{
	char again[KEY_NAME_MAX];
	unsigned long version;

	if (name[0] != 'v')
		return 0;
	version = strtoul(name + 1, NULL, 10);
	if (version == 0 || version > KEYSTORE_VERSION_MAX)
		return 0;
	key_name((unsigned)version, again);
	return strcmp(name, again) == 0 ? (unsigned)version : 0;
}

static int default_dir(char out[static PATH_MAX])
{
	const char *xdg = secure_getenv("XDG_DATA_HOME"), *home = secure_getenv("HOME");

	if (geteuid() == 0)
		return snprintf(out, PATH_MAX, "%s", KEYSTORE_ROOT_DIR);
	if (xdg && xdg[0] == '/') /* the XDG specification: relative ones are to be ignored */
		return snprintf(out, PATH_MAX, "%s/blobcryptfs/keys", xdg);
	if (home && home[0] == '/')
		return snprintf(out, PATH_MAX, "%s/.local/share/blobcryptfs/keys", home);
	return -1;
}

enum err keystore_init(struct keystore *s, const char *dir, const char *volume, struct err_why *why)
{
	int n = dir ? snprintf(s->dir, sizeof(s->dir), "%s", dir) : default_dir(s->dir);
	size_t len = strlen(volume);

	if (n < 0)
		return err_set(why, ERR_CONFIG, 0,
			"can't tell where the key store is: neither XDG_DATA_HOME nor HOME is set;"
			" use store:DIR");
	if (n >= (int)sizeof(s->dir) || s->dir[0] != '/')
		return err_set(why, ERR_CONFIG, 0, "the key store's directory must be an absolute path");
	if (len != sizeof(s->volume) - 1 || strspn(volume, "0123456789abcdef") != len)
		return err_set(why, ERR_BUG, 0, "bad volume id");
	memcpy(s->volume, volume, sizeof(s->volume));
	n = snprintf(s->path, sizeof(s->path), "%s/%s", s->dir, s->volume);
	if (n < 0 || n >= (int)sizeof(s->path))
		return err_set(why, ERR_CONFIG, 0, "the key store's path is too long");
	return ERR_OK;
}

/* Whoever can write to the directory could slip in a key, so it has to be ours. */
static enum err check_dir(int fd, const char *path, struct err_why *why)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_set(why, ERR_IO, errno, "can't stat %.300s: %s", path, strerror(errno));
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(why, ERR_CONFIG, 0, "key store %.300s belongs to user %u, neither to you nor to root",
			path, (unsigned)st.st_uid);
	if (st.st_mode & 0077)
		return err_set(why, ERR_CONFIG, 0, "key store %.300s is open to others (mode %04o); chmod 700 it", path,
			(unsigned)st.st_mode & 07777);
	return ERR_OK;
}

static enum err open_dir(const char *path, const char *what, int *out, struct err_why *why)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum err e;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(why, ERR_KEY_UNAVAILABLE, errno,
			"%s %.300s is missing; mount or restore it, or say where the"
			" key is with managed_key=",
			what, path);
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return err_set(why, ERR_CONFIG, errno, "no permission to open %s %.300s; run as its owner", what, path);
	if (fd < 0)
		return err_set(why, ERR_IO, errno, "can't open %s %.300s: %s", what, path, strerror(errno));
	e = check_dir(fd, path, why);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	*out = fd;
	return ERR_OK;
}

static enum err open_volume_dir(const struct keystore *s, int *out, struct err_why *why)
{
	int store = -1;
	enum err e = open_dir(s->dir, "key store", &store, why);

	if (e != ERR_OK)
		return e;
	close(store);
	return open_dir(s->path, "this volume's key directory", out, why);
}

/* mkdir with a durable entry; an existing directory is fine */
static enum err make_dir(const char *path, struct err_why *why)
{
	char parent[PATH_MAX];
	char *slash;
	enum err e;
	int fd;

	if (mkdir(path, 0700) != 0) {
		if (errno == EEXIST)
			return ERR_OK;
		return err_set(why, ERR_IO, errno, "can't make key directory %.300s: %s", path, strerror(errno));
	}
	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	slash[slash == parent ? 1 : 0] = '\0';
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(why, ERR_IO, errno, "can't open %.300s: %s", parent, strerror(errno));
	e = atomic_file_sync_dir(fd, why);
	close(fd);
	return e;
}

static enum err make_dirs(const struct keystore *s, struct err_why *why)
{
	char part[PATH_MAX];
	enum err e = ERR_OK;

	snprintf(part, sizeof(part), "%s", s->path);
	for (char *p = part + 1; *p && e == ERR_OK; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		e = make_dir(part, why);
		*p = '/';
	}
	return e == ERR_OK ? make_dir(s->path, why) : e;
}

/* The key versions in the open directory, one call each. */
static enum err each_version(int dirfd, enum err (*fn)(int dirfd, unsigned version, void *arg), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	enum err e = ERR_OK;
	struct dirent *de;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return ERR_IO;
	}
	while (e == ERR_OK && (errno = 0, de = readdir(d)) != NULL) {
		unsigned version = key_version(de->d_name);

		if (version != 0)
			e = fn(dirfd, version, arg);
	}
	if (e == ERR_OK && errno != 0)
		e = ERR_IO;
	closedir(d);
	return e;
}

static enum err take_max(int dirfd, unsigned version, void *arg)
{
	unsigned *max = arg;

	(void)dirfd;
	if (version > *max)
		*max = version;
	return ERR_OK;
}

static enum err newest_in(int dirfd, const struct keystore *s, unsigned *version, struct err_why *why)
{
	*version = 0;
	if (each_version(dirfd, take_max, version) != ERR_OK)
		return err_set(why, ERR_IO, errno, "can't list %.300s: %s", s->path, strerror(errno));
	return ERR_OK;
}

/*
 * What a process that ended while it made a key left behind: a second name of the key file, or a key that was never
 * used.  Nobody else is at work here now, since the caller holds the volume's lock.
 */
static void sweep_temps(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(d)) != NULL)
		if (fnmatch(".v*.key.tmp", de->d_name, 0) == 0)
			(void)unlinkat(dirfd, de->d_name, 0); /* the next call tries again */
	closedir(d);
}

enum err keystore_newest(const struct keystore *s, unsigned *version, time_t *created, struct err_why *why)
{
	char name[KEY_NAME_MAX];
	struct stat st;
	int dirfd = -1;
	enum err e = open_volume_dir(s, &dirfd, why);

	if (e != ERR_OK)
		return e;
	e = newest_in(dirfd, s, version, why);
	if (e == ERR_OK && *version == 0)
		e = err_set(why, ERR_KEY_UNAVAILABLE, 0, "%.300s has no key in it; restore the key from your copy",
			s->path);
	if (e == ERR_OK) {
		key_name(*version, name);
		*created = fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mtime : 0;
	}
	close(dirfd);
	return e;
}

enum err keystore_load(
	const struct keystore *s, unsigned version, struct secret **out, time_t *created, struct err_why *why)
{
	char name[KEY_NAME_MAX], shown[PATH_MAX + KEY_NAME_MAX];
	unsigned newest;
	int dirfd = -1;
	enum err e;

	*out = NULL;
	e = open_volume_dir(s, &dirfd, why);
	if (e != ERR_OK)
		return e;
	key_name(version, name);
	snprintf(shown, sizeof(shown), "%s/%s", s->path, name);
	e = keyfile_read(dirfd, name, shown, KEYFILE_STORE, out, created, why);
	if (e == ERR_KEY_UNAVAILABLE && newest_in(dirfd, s, &newest, NULL) == ERR_OK && newest > version)
		e = err_set(why, e, 0,
			"key file %.200s was replaced by v%u.key when the key was rotated; this backing directory"
			" is an older copy: put the newest blobcryptfs.json of this volume into it",
			shown, newest);
	close(dirfd);
	return e;
}

enum err keystore_add(const struct keystore *s, const struct secret *key, unsigned *version, struct err_why *why)
{
	char name[KEY_NAME_MAX];
	unsigned newest;
	int dirfd = -1;
	enum err e = make_dirs(s, why);

	if (e == ERR_OK)
		e = open_volume_dir(s, &dirfd, why);
	if (e != ERR_OK)
		return e;
	sweep_temps(dirfd);
	e = newest_in(dirfd, s, &newest, why);
	if (e == ERR_OK && newest >= KEYSTORE_VERSION_MAX)
		e = err_set(why, ERR_RANGE, 0, "%.300s has no version numbers left", s->path);
	if (e == ERR_OK) {
		key_name(newest + 1, name);
		e = keyfile_create(dirfd, name, key, why);
	}
	if (e == ERR_OK)
		*version = newest + 1;
	close(dirfd);
	return e;
}

/*
 * Zeros over the key before the name goes, for filesystems that overwrite in place.  Best effort: on flash and on
 * copy-on-write filesystems old blocks live on whatever we do.  Not if the user linked the file as his escrow copy.
 */
static void scrub(int dirfd, const char *name)
{
	static const uint8_t zeros[2 * KEYFILE_KEY_BYTES + 1];
	struct stat st;
	int fd = openat(dirfd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size <= (off_t)sizeof(zeros) &&
		atomic_file_write_all(fd, zeros, (size_t)st.st_size) == 0)
		(void)fdatasync(fd);
	close(fd);
}

static enum err remove_version(int dirfd, unsigned version, struct err_why *why)
{
	char name[KEY_NAME_MAX];

	key_name(version, name);
	scrub(dirfd, name);
	return atomic_file_remove(dirfd, name, why);
}

enum err keystore_remove(const struct keystore *s, unsigned version, struct err_why *why)
{
	unsigned newest = 1;
	int dirfd = -1;
	enum err e = open_volume_dir(s, &dirfd, why);

	if (e == ERR_KEY_UNAVAILABLE)
		return ERR_OK; /* gone already */
	if (e != ERR_OK)
		return e;
	sweep_temps(dirfd);
	e = remove_version(dirfd, version, why);
	if (e == ERR_OK)
		e = newest_in(dirfd, s, &newest, why);
	close(dirfd);
	if (e == ERR_OK && newest == 0)
		(void)rmdir(s->path); /* fails if there is something else in it, which is then not ours to remove */
	return e;
}

struct prune {
	unsigned keep;
	struct err_why *why;
};

static enum err prune_one(int dirfd, unsigned version, void *arg)
{
	struct prune *p = arg;

	return version == p->keep ? ERR_OK : remove_version(dirfd, version, p->why);
}

enum err keystore_prune(const struct keystore *s, unsigned keep, struct err_why *why)
{
	struct prune p = {.keep = keep, .why = why};
	char name[KEY_NAME_MAX];
	struct stat st;
	int dirfd = -1;
	enum err e = open_volume_dir(s, &dirfd, why);

	if (e == ERR_KEY_UNAVAILABLE)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	sweep_temps(dirfd);
	key_name(keep, name);
	/* never the last key: if the one to keep isn't here, something is wrong and everything stays */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		e = err_set(why, ERR_KEY_UNAVAILABLE, errno, "key file %.300s/%s is missing", s->path, name);
	else
		e = each_version(dirfd, prune_one, &p);
	close(dirfd);
	return e;
}
