/* SPDX-License-Identifier: Apache-2.0 */
/* create - makes a volume, all or nothing.  The descriptor comes last: without it the directory is no volume. */
#include "keyprov/atomic_file.h"
#include "keyprov/sealed_json.h"
#include "keyprov/volume_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static enum err check_empty(int dirfd, const char *dir, struct err_why *why)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	enum err e = ERR_OK;
	struct dirent *de;
	struct stat st;

	if (!d) {
		e = err_set(why, ERR_IO, errno, "can't list %.300s: %s", dir, strerror(errno));
		if (fd >= 0)
			close(fd);
		return e;
	}
	if (fstatat(dirfd, VOLUME_DESCRIPTOR, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
		fstatat(dirfd, DESCRIPTOR_BACKUP, &st, AT_SYMLINK_NOFOLLOW) == 0)
		e = err_set(why, ERR_EXISTS, 0, "%.300s is a blobcryptfs volume already", dir);
	while (e == ERR_OK && (errno = 0, de = readdir(d)) != NULL) {
		const char *n = de->d_name;

		if (strcmp(n, ".") != 0 && strcmp(n, "..") != 0 && strcmp(n, "lost+found") != 0)
			e = err_set(why, ERR_CONFIG, 0,
				"%.300s is not empty (it has %.100s); a volume starts in an empty directory", dir, n);
	}
	if (e == ERR_OK && errno != 0)
		e = err_set(why, ERR_IO, errno, "can't list %.300s: %s", dir, strerror(errno));
	closedir(d);
	return e;
}

/* Also what keeps two inits of one directory apart. */
static enum err make_lock(int dirfd, const char *dir, int *out, struct err_why *why)
{
	int fd = openat(dirfd, VOLUME_LOCK, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	char page[ATOMIC_PAGE];
	int err;

	if (fd < 0 && errno == EEXIST)
		return err_set(why, ERR_EXISTS, errno, "another init is at work in %.300s", dir);
	if (fd < 0)
		return err_set(why, ERR_IO, errno, "can't write to %.300s: %s", dir, strerror(errno));
	memset(page, ' ', sizeof(page)); /* room for the holder's name, whatever the disk has left by then */
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || atomic_file_write_all(fd, page, sizeof(page)) != 0 || fsync(fd) != 0) {
		err = errno;
		(void)unlinkat(dirfd, VOLUME_LOCK, 0);
		close(fd);
		return err_set(why, ERR_IO, err, "can't lock %.300s: %s", dir, strerror(err));
	}
	*out = fd;
	return ERR_OK;
}

static enum err new_key(const struct fips *f, struct secret **out, struct err_why *why)
{
	if (secret_new(VOLUME_KEY_BYTES, out) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (fips_random(f, secret_bytes(*out), VOLUME_KEY_BYTES) != ERR_OK)
		return err_set(why, ERR_FIPS, 0, "the FIPS provider gave no random bytes");
	return ERR_OK;
}

/* *made: the provider made a KEK for this volume, which has to go if the rest fails. */
static enum err make_keys(const struct fips *f, const struct volume_init *in, struct keyring *k, struct descriptor *d,
	bool *made, json_t **conf, struct err_why *why)
{
	enum err e;

	if (fips_random(f, d->id, ID_BYTES) != ERR_OK)
		return err_set(why, ERR_FIPS, 0, "the FIPS provider gave no random bytes");
	e = new_key(f, &k->volume_key, why);
	if (e == ERR_OK && d->suite == SUITE_XTS_GCM)
		e = new_key(f, &k->inner_key, why);
	if (e == ERR_OK)
		e = provider_open(f, managed_ops.name, in->provider, d->id, NULL, &k->provider, why);
	if (e != ERR_OK)
		return e;
	/* The id is new, so even a KEK whose making failed half-way is nobody else's. */
	*made = true;
	e = keyprov_rotate(k->provider, &d->env.key, why);
	if (e != ERR_OK && e != ERR_UNSUPPORTED)
		return e;
	e = envelope_make(k, d->suite, &d->env, conf, why);
	if (e != ERR_OK)
		return e;
	e = volkeys_new(f, d->suite, d->id, k->volume_key, k->inner_key, &k->vk);
	return e == ERR_OK ? ERR_OK : err_set(why, e, 0, "can't derive the volume's keys: %s", err_text(e));
}

static enum err write_files(int dirfd, struct keyring *k, const struct descriptor *d, struct err_why *why)
{
	json_t *j;
	enum err e = session_create(dirfd, k->vk, why);

	if (e != ERR_OK)
		return e;
	e = descriptor_build(d, &j);
	if (e != ERR_OK)
		return err_set(why, e, 0, "out of memory");
	e = sealed_json_seal(j, k->vk, MAC_DESCRIPTOR);
	if (e != ERR_OK)
		e = err_set(why, e, 0, "can't compute the MAC of the descriptor: %s", err_text(e));
	else
		e = descriptor_write(dirfd, j, false, NULL, why);
	json_decref(j);
	return e;
}

/* Descriptor first: what is left after a crash in here is no volume. */
static void undo_files(int dirfd)
{
	static const char *const names[] = {
		VOLUME_DESCRIPTOR, DESCRIPTOR_BACKUP, VOLUME_STATE, STATE_BACKUP, VOLUME_LOCK};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlinkat(dirfd, names[i], 0); /* the first error is the one the user hears of */
	(void)fsync(dirfd);
}

static enum err create_in(
	int dirfd, const char *dir, const struct fips *f, const struct volume_init *in, struct err_why *why)
{
	struct key_ref first = {.version = 1};
	struct descriptor d;
	struct keyring k;
	bool made = false;
	json_t *conf = NULL;
	int lock_fd = -1;
	enum err e = make_lock(dirfd, dir, &lock_fd, why);

	if (e != ERR_OK)
		return e;
	memset(&d, 0, sizeof(d));
	memset(&k, 0, sizeof(k));
	d.suite = in->suite;
	d.rotate_days = in->rotate_days;
	utc_format(time(NULL), d.created);
	e = make_keys(f, in, &k, &d, &made, &conf, why);
	if (e == ERR_OK)
		e = write_files(dirfd, &k, &d, why);
	if (e != ERR_OK) {
		undo_files(dirfd);
		if (made)
			best_effort(keyprov_remove(k.provider, &first, NULL));
	}
	json_decref(conf);
	keyring_clear(&k);
	close(lock_fd);
	return e;
}

enum err volume_create(const char *dir, const struct fips *f, const struct volume_init *in, struct err_why *why)
{
	enum err e;
	int dirfd;

	if ((in->suite != SUITE_GCM && in->suite != SUITE_XTS_GCM) || !json_is_object(in->provider))
		return err_set(why, ERR_BUG, 0, "bad arguments to volume_create");
	if (in->rotate_days > ROTATE_DAYS_MAX)
		return err_set(why, ERR_CONFIG, 0, "the key can be rotated at most every %d days", ROTATE_DAYS_MAX);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 && errno == ENOENT)
		return err_set(why, ERR_NOT_FOUND, errno, "there is no directory %.300s; make it first", dir);
	if (dirfd < 0)
		return err_set(why, ERR_IO, errno, "can't open directory %.300s: %s", dir, strerror(errno));
	e = check_empty(dirfd, dir, why);
	if (e == ERR_OK)
		e = create_in(dirfd, dir, f, in, why);
	close(dirfd);
	return e;
}
