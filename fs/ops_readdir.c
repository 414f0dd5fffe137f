/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_readdir - directory streams.  Offsets are the backing filesystem's own cookies, so a stream stays right while
 * entries come and go, and telldir/seekdir work.  An entry that can't be opened is left out, audited, and reported as
 * EIO after the good ones.
 */
#include "fs/fsys_internal.h"

#include <dirent.h>
#include <sys/stat.h>

#define CHUNK 32768u

struct stream {
	pthread_mutex_t lock;
	struct inode *dir;
	int fd;
	off_t at; /* cookie of the next entry to give out */
	bool damaged, told;
	size_t pos, len;
	char buf[CHUNK];
};

static struct stream *stream_of(const struct fuse_file_info *fi)
{
	return (struct stream *)(uintptr_t)fi->fh;
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, ino);
	struct stream *s;
	int rc = dir_get(fs, dir);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	s = malloc(sizeof(*s));
	if (s) {
		pthread_mutex_init(&s->lock, NULL);
		s->dir = dir;
		s->at = 0;
		s->pos = s->len = 0;
		s->damaged = s->told = false;
		s->fd = openat(dir->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = s->fd < 0 ? errno : 0;
	} else {
		rc = ENOMEM;
	}
	dir_put(fs, dir);
	if (rc != 0) {
		free(s);
		reply_err(req, rc);
		return;
	}
	fi->fh = (uintptr_t)s;
	if (reply_open(req, fi) != 0) {
		close(s->fd);
		free(s);
	}
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stream *s = stream_of(fi);

	(void)ino;
	close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
	reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct stream *s = stream_of(fi);

	(void)ino;
	(void)datasync;
	COUNT(fsys_of(req), fsyncs);
	/* always the whole of it: the entries are metadata */
	reply_err(req, fsync(s->fd) == 0 ? 0 : errno);
}

/* Moves the stream to a cookie. */
static int stream_seek(struct stream *s, off_t off)
{
	if (off == s->at)
		return 0;
	if (lseek(s->fd, off, SEEK_SET) < 0)
		return errno;
	s->pos = s->len = 0;
	s->at = off;
	if (off ==
		0) /* from the start; else the kernel only goes back over what we passed over behind its last entry */
		s->damaged = s->told = false;
	return 0;
}

/* The next backing entry, NULL at the end or on error (*rc).  It stays current until stream_step. */
static const struct dirent64 *stream_peek(struct stream *s, int *rc)
{
	ssize_t n;

	*rc = 0;
	if (s->pos >= s->len) {
		n = getdents64(s->fd, s->buf, CHUNK);
		if (n <= 0) {
			*rc = n < 0 ? errno : 0;
			return NULL;
		}
		s->pos = 0;
		s->len = (size_t)n;
	}
	return (const struct dirent64 *)(const void *)(s->buf + s->pos);
}

static void stream_step(struct stream *s, const struct dirent64 *d)
{
	s->at = d->d_off;
	s->pos += d->d_reclen;
}

/* The plaintext name of a backing entry; ENOENT: none of ours. */
static int plain_name(struct fsys *fs, struct inode *dir, int fd, const struct dirent64 *d, char out[static 256])
{
	char side[NAME_ENC_MAX], target[NAME_LONG_TARGET_MAX];
	size_t len = strlen(d->d_name), out_len;
	ssize_t n;
	enum err e;

	out[0] = '\0';
	if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) {
		copy_text(out, 256, d->d_name);
		return 0;
	}
	if (name_is_internal(d->d_name, dir == &fs->root))
		return ENOENT;
	if (strncmp(d->d_name, "L.", 2) == 0 && len < NAME_ENC_MAX) {
		copy_text(side, sizeof(side), d->d_name);
		side[0] = 'N';
		n = readlinkat(fd, side, target, sizeof(target) - 1);
		if (n < 0)
			return damage(fs, "long name missing", d->d_ino, UINT64_MAX);
		target[n] = '\0';
		e = name_long_matches(fs->vk, d->d_name, target, (size_t)n);
		if (e == ERR_OK)
			e = name_open(fs->vk, dir->id, target, (size_t)n, out, &out_len);
	} else {
		e = name_open(fs->vk, dir->id, d->d_name, len, out, &out_len);
	}
	return crypt_errno(fs, e, "name", d->d_ino, UINT64_MAX);
}

/* Adds one entry; false if it doesn't fit.  *skip: it has gone meanwhile. */
static bool add_entry(fuse_req_t req, struct fsys *fs, struct stream *s, const struct dirent64 *d, const char *name,
	bool plus, char *out, size_t room, size_t *used)
{
	struct fuse_entry_param e;
	struct stat st = {.st_ino = d->d_ino, .st_mode = (mode_t)DTTOIF(d->d_type)};
	bool dots = name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
	int rc;

	if (!plus) {
		*used = fuse_add_direntry(req, out, room, name, &st, d->d_off);
		return *used <= room;
	}
	memset(&e, 0, sizeof(e));
	e.attr = st;
	if (!dots) {
		/* room is checked first: a lookup that the kernel never sees would have to be taken back */
		if (fuse_add_direntry_plus(req, NULL, 0, name, NULL, 0) > room)
			return false;
		rc = entry_reply_fill(fs, s->dir, d->d_name, &e);
		if (rc == ENOENT) {
			*used = 0;
			return true;
		}
		if (rc != 0) { /* the kernel will look it up by itself, and report */
			memset(&e, 0, sizeof(e));
			e.attr = st;
		}
	}
	*used = fuse_add_direntry_plus(req, out, room, name, &e, d->d_off);
	return *used <= room;
}

static void read_entries(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct fsys *fs = fsys_of(req);
	struct stream *s = stream_of(fi);
	const struct dirent64 *d = NULL;
	char name[256], *out = malloc(size);
	size_t len = 0, used;
	int rc, err;

	(void)ino;
	COUNT(fs, readdirs);
	if (!out) {
		reply_err(req, ENOMEM);
		return;
	}
	rc = dir_get(fs, s->dir);
	if (rc != 0) {
		free(out);
		reply_err(req, rc);
		return;
	}
	pthread_mutex_lock(&s->lock);
	rc = stream_seek(s, off);
	while (rc == 0 && (d = stream_peek(s, &rc))) {
		err = plain_name(fs, s->dir, s->fd, d, name);
		used = 0;
		if (err == 0 && !add_entry(req, fs, s, d, name, plus, out + len, size - len, &used))
			break;
		if (err == EIO)
			s->damaged = true;
		else if (err != 0 && err != ENOENT)
			rc = err;
		len += used;
		stream_step(s, d);
	}
	if (rc == 0 && len == 0 && !d && s->damaged && !s->told) {
		s->told = true;
		rc = EIO;
	}
	pthread_mutex_unlock(&s->lock);
	dir_put(fs, s->dir);
	if (len > 0)
		reply_buf(req, out, len);
	else if (rc != 0)
		reply_err(req, rc);
	else
		reply_buf(req, "", 0);
	secret_wipe(out, len);
	secret_wipe(name, sizeof(name));
	free(out);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_entries(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_entries(req, ino, size, off, fi, true);
}
