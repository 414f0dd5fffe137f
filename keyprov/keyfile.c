/* SPDX-License-Identifier: Apache-2.0 */
/* keyfile - see keyfile.h. */
#include "keyprov/keyfile.h"
#include "keyprov/atomic_file.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX_DIGITS ((size_t)2 * KEYFILE_KEY_BYTES)

static enum err open_failed(const char *shown, int err, struct err_why *why)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return err_set(
			why, ERR_KEY_UNAVAILABLE, err, "key file %.300s is missing; restore it from your copy", shown);
	case ELOOP:
		return err_set(why, ERR_CONFIG, err, "key file %.300s is a symbolic link; name the file itself", shown);
	case EACCES:
	case EPERM:
		return err_set(why, ERR_CONFIG, err, "no permission to read key file %.300s; run as its owner", shown);
	default:
		return err_set(why, ERR_IO, err, "can't open key file %.300s: %s", shown, strerror(err));
	}
}

static enum err check_stat(const struct stat *st, const char *shown, enum keyfile_kind kind, struct err_why *why)
{
	mode_t barred = kind == KEYFILE_CREDENTIAL ? 0027 : 0077;

	if (!S_ISREG(st->st_mode))
		return err_set(why, ERR_CONFIG, 0, "key file %.300s is not a regular file", shown);
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(why, ERR_CONFIG, 0, "key file %.300s belongs to user %u, neither to you nor to root",
			shown, (unsigned)st->st_uid);
	if (st->st_mode & barred)
		return err_set(why, ERR_CONFIG, 0,
			"key file %.300s is open to others (mode %04o); chmod 600 it, and think"
			" about whether its key is still a secret",
			shown, (unsigned)st->st_mode & 07777);
	return ERR_OK;
}

enum err keyfile_open(int dirfd, const char *name, const char *shown, enum keyfile_kind kind, int *out, time_t *created,
	struct err_why *why)
{
	struct stat st;
	enum err e;
	/* O_NONBLOCK: a FIFO must not hang us */
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return open_failed(shown, errno, why);
	if (fstat(fd, &st) != 0)
		e = open_failed(shown, errno, why);
	else
		e = check_stat(&st, shown, kind, why);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	*out = fd;
	if (created)
		*created = st.st_mtime;
	return ERR_OK;
}

/* raw: len bytes of text; key: room for the 32 bytes */
static enum err decode(
	const uint8_t *raw, size_t len, enum keyfile_kind kind, const char *shown, uint8_t *key, struct err_why *why)
{
	size_t got = 0;

	if (kind != KEYFILE_STORE && len == KEYFILE_KEY_BYTES) {
		memcpy(key, raw, KEYFILE_KEY_BYTES);
	} else if (len != HEX_DIGITS && !(len == HEX_DIGITS + 1 && raw[HEX_DIGITS] == '\n')) {
		return err_set(why, ERR_CORRUPT, 0,
			"key file %.300s has the wrong length: a key is 64 hexadecimal digits%s", shown,
			kind == KEYFILE_STORE ? "" : ", or 32 raw bytes");
	} else if (sodium_hex2bin(key, KEYFILE_KEY_BYTES, (const char *)raw, HEX_DIGITS, NULL, &got, NULL) != 0 ||
		   got != KEYFILE_KEY_BYTES) {
		return err_set(why, ERR_CORRUPT, 0, "key file %.300s is damaged: not 64 hexadecimal digits", shown);
	}
	if (sodium_is_zero(key, KEYFILE_KEY_BYTES))
		return err_set(why, ERR_CORRUPT, 0, "key file %.300s is damaged: it is all zeros", shown);
	return ERR_OK;
}

static enum err slurp(int fd, struct secret *buf, size_t *len, const char *shown, struct err_why *why)
{
	size_t got = 0;

	while (got < secret_len(buf)) {
		ssize_t n = read(fd, secret_bytes(buf) + got, secret_len(buf) - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(why, ERR_IO, errno, "can't read key file %.300s: %s", shown, strerror(errno));
		if (n == 0)
			break;
		got += (size_t)n;
	}
	*len = got;
	return ERR_OK;
}

enum err keyfile_read(int dirfd, const char *name, const char *shown, enum keyfile_kind kind, struct secret **out,
	time_t *created, struct err_why *why)
{
	struct secret *text = NULL, *key = NULL;
	size_t len = 0;
	int fd = -1;
	enum err e;

	*out = NULL;
	e = keyfile_open(dirfd, name, shown, kind, &fd, created, why);
	if (e != ERR_OK)
		return e;
	/* one byte more than the longest form, so that longer files are noticed */
	if (secret_new(HEX_DIGITS + 2, &text) != ERR_OK || secret_new(KEYFILE_KEY_BYTES, &key) != ERR_OK)
		e = err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (e == ERR_OK)
		e = slurp(fd, text, &len, shown, why);
	if (e == ERR_OK)
		e = decode(secret_view(text), len, kind, shown, secret_bytes(key), why);
	close(fd);
	secret_free(text);
	if (e != ERR_OK) {
		secret_free(key);
		return e;
	}
	*out = key;
	return ERR_OK;
}

enum err keyfile_create(int dirfd, const char *name, const struct secret *key, struct err_why *why)
{
	struct secret *text;
	enum err e;

	if (secret_len(key) != KEYFILE_KEY_BYTES)
		return err_set(why, ERR_BUG, 0, "bad key length");
	if (secret_new(HEX_DIGITS + 1, &text) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	sodium_bin2hex((char *)secret_bytes(text), HEX_DIGITS + 1, secret_view(key), KEYFILE_KEY_BYTES);
	secret_bytes(text)[HEX_DIGITS] = '\n';
	e = atomic_file_create(dirfd, name, secret_view(text), HEX_DIGITS + 1, why);
	secret_free(text);
	return e;
}
