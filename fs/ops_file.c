/* SPDX-License-Identifier: Apache-2.0 */
/* ops_file - callbacks on regular files. */
#include "fs/fsys_internal.h"

#include "fs/bufpool.h"
#include "fs/content.h"
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>

static struct content *content_of(const struct fuse_file_info *fi)
{
	return (struct content *)(uintptr_t)fi->fh;
}

static void file_info(const struct fsys *fs, struct content *c, struct fuse_file_info *fi)
{
	fi->fh = (uintptr_t)c;
	fi->direct_io = fs->opt.direct_io;
	fi->keep_cache = !fs->opt.direct_io; /* nobody but us changes the file */
	fi->parallel_direct_writes = 1;	     /* ranges are locked here */
	fi->noflush = 1;		     /* writes are through when they return */
}

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	struct content *c;
	int rc;

	COUNT(fs, opens);
	if (wants_write(fi->flags) && fs->opt.read_only) {
		reply_err(req, EROFS);
		return;
	}
	rc = content_open(fs, i, wants_write(fi->flags), -1, &c);
	if (rc == 0 && fi->flags & O_TRUNC) {
		rc = content_truncate(fs, c, 0);
		if (rc == 0)
			attr_kill_priv(req, i, content_fd(c), fi->kill_suidgid);
		if (rc != 0)
			content_close(fs, c);
	}
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	file_info(fs, c, fi);
	if (reply_open(req, fi) != 0)
		content_close(fs, c);
}

/* A file just made: fd is its open descriptor (consumed).  name NULL: it has none yet. */
static int made_file(
	struct fsys *fs, struct inode *dir, const char *enc, int fd, struct fuse_entry_param *e, struct content **c)
{
	struct inode *i;
	struct stat st;
	int rc, pin = -1;

	if (fstat(fd, &st) != 0)
		goto fail;
	if (!enc) {
		char proc[PROC_FD_PATH];

		pin = open(proc_fd(proc, fd), O_PATH | O_CLOEXEC);
		if (pin < 0)
			goto fail;
	}
	i = inode_lookup(fs, &st, dir, enc, pin);
	if (!i) {
		errno = ENOMEM;
		goto fail;
	}
	atomic_store(&i->caps, CAPS_NONE); /* a new file has no attributes yet */
	rc = content_open(fs, i, true, fd, c);
	if (rc == 0)
		rc = attr_present(fs, i, &st);
	if (rc != 0) {
		inode_forget(fs, i, 1);
		return rc;
	}
	entry_fill(fs, i, &st, e);
	return 0;
fail:
	rc = errno;
	close(fd);
	return rc;
}

static void answer_create(
	fuse_req_t req, int rc, const struct fuse_entry_param *e, struct content *c, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	file_info(fs, c, fi);
	if (reply_create(req, e, fi) != 0) {
		content_close(fs, c);
		inode_forget(fs, inode_of(fs, e->ino), 1);
	}
}

/* The name turned out to exist (its negative entry was stale): opens what is there. */
static int create_existing(
	struct fsys *fs, struct inode *dir, const char *enc, int flags, struct fuse_entry_param *e, struct content **c)
{
	int rc = entry_reply_fill(fs, dir, enc, e);

	if (rc != 0)
		return rc;
	rc = content_open(fs, inode_of(fs, e->ino), wants_write(flags), -1, c);
	if (rc == 0 && flags & O_TRUNC) {
		rc = content_truncate(fs, *c, 0);
		e->attr.st_size = 0;
		if (rc != 0)
			content_close(fs, *c);
	}
	if (rc != 0)
		inode_forget(fs, inode_of(fs, e->ino), 1);
	return rc;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, parent);
	struct content *c = NULL;
	struct fuse_entry_param e = {0};
	struct enc_name enc;
	struct creds creds;
	int fd = -1, rc = dir_get(fs, dir);

	COUNT(fs, creates);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	rc = entry_seal(fs, dir, name, &enc);
	if (rc == 0)
		rc = side_make(fs, dir, &enc);
	if (rc == 0) {
		creds_take(req, &creds);
		fd = openat(dir->dirfd, enc.text, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, mode);
		rc = fd < 0 ? errno : 0;
		creds_drop(fs, &creds);
		if (rc == EEXIST && !(fi->flags & O_EXCL))
			rc = create_existing(fs, dir, enc.text, fi->flags, &e, &c);
		else if (rc != 0 && rc != EEXIST)
			side_remove(fs, dir, &enc);
		else if (rc == 0)
			rc = made_file(fs, dir, enc.text, fd, &e, &c);
	}
	dir_put(fs, dir);
	answer_create(req, rc, &e, c, fi);
}

void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, parent);
	struct content *c = NULL;
	struct fuse_entry_param e = {0};
	struct creds creds;
	int fd, rc = dir_get(fs, dir);

	COUNT(fs, creates);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	creds_take(req, &creds);
	/* O_EXCL, which forbids a later link, is the kernel's business above */
	fd = openat(dir->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	rc = fd < 0 ? errno : 0;
	creds_drop(fs, &creds);
	if (rc == 0)
		rc = made_file(fs, dir, NULL, fd, &e, &c);
	dir_put(fs, dir);
	answer_create(req, rc, &e, c, fi);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct content_read r;
	int rc = content_read(fs, content_of(fi), (uint64_t)off, size, &r);

	(void)ino;
	COUNT(fs, reads);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	COUNT_ADD(fs, read_bytes, r.len);
	if (r.len == 0)
		reply_buf(req, "", 0);
	else
		reply_iov(req, r.iov, r.n_iov);
	content_read_done(&r);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct content *c = content_of(fi);
	size_t written;
	int rc = content_write(fs, c, (uint64_t)off, (const uint8_t *)buf, size, &written);

	(void)ino;
	COUNT(fs, writes);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	COUNT_ADD(fs, write_bytes, written);
	attr_kill_priv(req, c->inode, content_fd(c), fi->kill_suidgid);
	reply_write(req, written);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	reply_err(req, 0);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	content_close(fsys_of(req), content_of(fi));
	reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);

	(void)ino;
	COUNT(fs, fsyncs);
	reply_err(req, content_sync(fs, content_of(fi), datasync != 0));
}

/* The kernel tells whether the caller has CAP_FSETID with a write, but not with these; root has it. */
static bool lacks_fsetid(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid != 0;
}

/* ---- fallocate ---- */

static int allocate(struct fsys *fs, struct content *c, int mode, uint64_t off, uint64_t len)
{
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	int rc = 0;

	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		rc = content_reserve(fs, c, off, len);
		break;
	case FALLOC_FL_PUNCH_HOLE:
		return keep ? content_zero(fs, c, off, len, true) : EOPNOTSUPP;
	case FALLOC_FL_ZERO_RANGE:
		rc = content_zero(fs, c, off, len, false);
		break;
	default:
		return EOPNOTSUPP; /* collapse and insert would move sectors, which are bound to their place */
	}
	if (rc == 0 && !keep && off + len > content_size(c))
		rc = content_truncate(fs, c, off + len);
	return rc;
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct content *c = content_of(fi);
	uint64_t end = (uint64_t)off + (uint64_t)len;
	int rc;

	(void)ino;
	if (off < 0 || len <= 0)
		rc = EINVAL;
	else if (end > CONTENT_MAX)
		rc = EFBIG;
	else
		rc = allocate(fs, c, mode, (uint64_t)off, (uint64_t)len);
	if (rc == 0)
		attr_kill_priv(req, c->inode, content_fd(c), lacks_fsetid(req));
	reply_err(req, rc);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	uint64_t found = 0;
	int rc = off < 0 ? ENXIO : content_seek(fsys_of(req), content_of(fi), (uint64_t)off, whence, &found);

	(void)ino;
	if (rc != 0)
		reply_err(req, rc);
	else
		reply_lseek(req, (off_t)found);
}

/* ---- copy_file_range ---- */

#define COPY_BYTES (128u << 10)

/* One step; buf is not locked, since the read holds a locked one; it is wiped in the end.  *n is what was copied, 0 at
 * the end of the source. */
static int copy_step(struct fsys *fs, struct content *in, uint64_t off_in, struct content *out, uint64_t off_out,
	size_t len, uint8_t *buf, size_t *n)
{
	struct content_read r;
	size_t at = 0;
	int rc = content_read(fs, in, off_in, len, &r);

	*n = 0;
	if (rc != 0)
		return rc;
	for (int k = 0; k < r.n_iov; k++) {
		memcpy(buf + at, r.iov[k].iov_base, r.iov[k].iov_len);
		at += r.iov[k].iov_len;
	}
	content_read_done(&r);
	return at == 0 ? 0 : content_write(fs, out, off_out, buf, at, n);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fsys *fs = fsys_of(req);
	struct content *in = content_of(fi_in), *out = content_of(fi_out);
	size_t done = 0, n = 1;
	uint8_t *buf;
	int rc = 0;

	(void)ino_in;
	(void)ino_out;
	if (flags != 0) {
		reply_err(req, EINVAL);
		return;
	}
	/* bounded, so that the caller can be interrupted; a short count is allowed */
	if (len > 64u << 20)
		len = 64u << 20;
	buf = buf_get(BUF_PLAIN, COPY_BYTES);
	if (!buf)
		rc = ENOMEM;
	while (rc == 0 && done < len && n > 0) {
		size_t step = len - done < COPY_BYTES ? len - done : COPY_BYTES;

		rc = copy_step(fs, in, (uint64_t)off_in + done, out, (uint64_t)off_out + done, step, buf, &n);
		done += n;
	}
	if (buf)
		secret_wipe(buf, COPY_BYTES);
	buf_put(BUF_PLAIN, buf, COPY_BYTES);
	if (done == 0 && rc != 0) {
		reply_err(req, rc);
		return;
	}
	attr_kill_priv(req, out->inode, content_fd(out), lacks_fsetid(req));
	reply_write(req, done);
}
