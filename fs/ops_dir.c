/* SPDX-License-Identifier: Apache-2.0 */
/* ops_dir - callbacks that make, remove and find entries.  Symlinks are in ops_link.c, streams in ops_readdir.c. */
#include "fs/fsys_internal.h"

#include "fs/content.h"
#include "fs/ops_link.h"
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

void entry_fill(struct fsys *fs, struct inode *i, const struct stat *st, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = inode_nodeid(i, &fs->root);
	e->generation = 1;
	e->attr = *st;
	e->attr_timeout = fs->opt.attr_timeout;
	e->entry_timeout = fs->opt.entry_timeout;
}

int entry_reply_fill(struct fsys *fs, struct inode *dir, const char *enc, struct fuse_entry_param *e)
{
	struct inode *i;
	struct stat st;
	int rc;

	if (fstatat(dir->dirfd, enc, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno;
	i = inode_lookup(fs, &st, dir, enc, -1);
	if (!i)
		return ENOMEM;
	rc = attr_present(fs, i, &st);
	if (rc != 0) {
		inode_forget(fs, i, 1);
		return rc;
	}
	entry_fill(fs, i, &st, e);
	return 0;
}

static void answer_entry(fuse_req_t req, int rc, const struct fuse_entry_param *e)
{
	struct fsys *fs = fsys_of(req);

	if (rc != 0)
		reply_err(req, rc);
	else if (reply_entry(req, e) != 0)
		inode_forget(fs, inode_of(fs, e->ino), 1); /* interrupted: the kernel never saw it */
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, parent);
	struct fuse_entry_param e = {0};
	struct enc_name enc;
	int rc = dir_get(fs, dir);

	COUNT(fs, lookups);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	rc = entry_seal(fs, dir, name, &enc);
	if (rc == 0)
		rc = entry_reply_fill(fs, dir, enc.text, &e);
	dir_put(fs, dir);
	if (rc == ENOENT && fs->opt.negative_timeout > 0) {
		memset(&e, 0, sizeof(e));
		e.entry_timeout = fs->opt.negative_timeout;
		reply_entry(req, &e);
		return;
	}
	answer_entry(req, rc, &e);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct fsys *fs = fsys_of(req);

	inode_forget(fs, inode_of(fs, ino), nlookup);
	reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fsys *fs = fsys_of(req);

	for (size_t k = 0; k < count; k++)
		inode_forget(fs, inode_of(fs, forgets[k].ino), forgets[k].nlookup);
	reply_none(req);
}

/* ---- making ---- */

/* An owner may do things to a file or directory below that its mode forbids to us, who do it for him: lends u+rwx. True
 * if it did. */
static bool lend(int fd, const struct stat *st)
{
	char proc[PROC_FD_PATH];

	return st->st_uid == geteuid() && (st->st_mode & S_IRWXU) != S_IRWXU &&
	       chmod(proc_fd(proc, fd), (st->st_mode & 07777) | S_IRWXU) == 0;
}

static void give_back(int fd, const struct stat *st)
{
	char proc[PROC_FD_PATH];

	(void)!chmod(proc_fd(proc, fd), st->st_mode & 07777);
}

/* Opens a regular file just made, whatever its mode. */
static int open_new_file(struct inode *dir, const char *enc)
{
	int fd = openat(dir->dirfd, enc, O_RDWR | O_NOFOLLOW | O_CLOEXEC), path;
	struct stat st;

	if (fd >= 0 || errno != EACCES)
		return fd;
	path = openat(dir->dirfd, enc, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (path >= 0 && fstat(path, &st) == 0 && lend(path, &st)) {
		fd = openat(dir->dirfd, enc, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		give_back(path, &st);
	}
	if (path >= 0)
		close(path);
	return fd;
}

/* A regular file without content gets its header at once: nobody may ever open it. */
static int settle_new_file(struct fsys *fs, struct inode *dir, const char *enc)
{
	struct content *c;
	struct inode *i;
	struct stat st;
	int fd = open_new_file(dir, enc), rc;

	if (fd < 0)
		return errno;
	if (fstat(fd, &st) != 0) {
		rc = errno;
		close(fd);
		return rc;
	}
	i = inode_lookup(fs, &st, dir, enc, -1);
	if (!i) {
		close(fd);
		return ENOMEM;
	}
	rc = content_open(fs, i, true, fd, &c);
	if (rc == 0)
		content_close(fs, c); /* settles */
	inode_forget(fs, i, 1);
	return rc;
}

enum make { MAKE_NODE, MAKE_DIR };

static int make_dir(struct fsys *fs, struct inode *dir, const char *enc, mode_t mode)
{
	uint8_t id[ID_BYTES];
	int fd, rc;

	if (mkdirat(dir->dirfd, enc, mode) != 0)
		return errno;
	fd = openat(dir->dirfd, enc, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	rc = fd < 0 ? errno : dir_id_make(fs, fd, id, true);
	if (rc == EACCES && fd >= 0) {
		struct stat st;

		if (fstat(fd, &st) == 0 && lend(fd, &st)) {
			rc = dir_id_make(fs, fd, id, true);
			give_back(fd, &st);
		}
	}
	if (fd >= 0)
		close(fd);
	if (rc != 0)
		(void)unlinkat(dir->dirfd, enc, AT_REMOVEDIR);
	return rc;
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, enum make what, mode_t mode, dev_t rdev)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, parent);
	struct fuse_entry_param e = {0};
	struct enc_name enc;
	struct creds creds;
	int rc = dir_get(fs, dir);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	rc = entry_seal(fs, dir, name, &enc);
	if (rc == 0)
		rc = side_make(fs, dir, &enc);
	if (rc == 0) {
		creds_take(req, &creds);
		if (what == MAKE_DIR)
			rc = make_dir(fs, dir, enc.text, mode);
		else
			rc = mknodat(dir->dirfd, enc.text, mode, rdev) == 0 ? 0 : errno;
		creds_drop(fs, &creds);
		if (rc != 0 && rc != EEXIST)
			side_remove(fs, dir, &enc);
	}
	if (rc == 0 && what == MAKE_NODE && S_ISREG(mode)) {
		COUNT(fs, creates);
		rc = settle_new_file(fs, dir, enc.text);
	}
	if (rc == 0)
		rc = entry_reply_fill(fs, dir, enc.text, &e);
	dir_put(fs, dir);
	answer_entry(req, rc, &e);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, MAKE_NODE, mode, rdev);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, MAKE_DIR, mode, 0);
}

/* ---- removing ---- */

/* A descriptor that keeps the victim reachable, if the kernel knows it; *i referenced or NULL, *fd -1 then. */
static int hold_victim(struct fsys *fs, struct inode *dir, const char *enc, struct inode **i, int *fd)
{
	*fd = -1;
	*i = inode_by_entry(fs, dir, enc);
	if (!*i)
		return 0;
	*fd = openat(dir->dirfd, enc, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 && errno != ENOENT ? errno : 0;
}

static void drop_victim(struct fsys *fs, struct inode *dir, const char *enc, struct inode *i, int fd, bool gone)
{
	if (i && gone && fd >= 0) {
		inode_unlinked(fs, i, dir, enc, fd);
		fd = -1;
	}
	if (fd >= 0)
		close(fd);
	if (i)
		inode_unref(fs, i);
}

/* Prepares a directory for removal: it must be empty, and then its id goes (kept in id). */
static int dir_strip(struct fsys *fs, int dirfd, const char *enc, int *fd, uint8_t id[static ID_BYTES])
{
	struct stat st;
	bool lent;
	int rc;

	*fd = openat(dirfd, enc, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return errno;
	rc = fstat(*fd, &st) == 0 ? 0 : errno;
	lent = rc == 0 && !fs->privileged && lend(*fd, &st);
	if (rc == 0)
		rc = dir_is_empty(*fd);
	if (rc == 0)
		rc = dir_id_load(fs, *fd, &st, id);
	if (rc == 0 && unlinkat(*fd, DIR_ID_LINK, 0) != 0 && errno != ENOENT)
		rc = errno;
	if (rc != 0) {
		if (lent)
			give_back(*fd, &st);
		close(*fd);
		*fd = -1;
	}
	return rc;
}

/* The removal failed after all: the directory gets its id back. */
static void dir_unstrip(struct fsys *fs, int fd, uint8_t id[static ID_BYTES])
{
	(void)dir_id_make(fs, fd, id, false);
}

static int strip_leftovers(int fd)
{
	/* N. links without an entry: rubbish of a crash that keeps the backing directory from being empty */
	char names[16][NAME_ENC_MAX];
	unsigned n;
	int rc = 0;

	do {
		int dfd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		char buf[8192];
		ssize_t got;

		n = 0;
		if (dfd < 0)
			return errno;
		while (n < 16 && (got = getdents64(dfd, buf, sizeof(buf))) > 0) {
			for (ssize_t at = 0; at < got && n < 16;) {
				const struct dirent64 *d = (const void *)(buf + at);

				if (strncmp(d->d_name, "N.", 2) == 0 && strlen(d->d_name) < NAME_ENC_MAX)
					copy_text(names[n++], NAME_ENC_MAX, d->d_name);
				at += d->d_reclen;
			}
		}
		close(dfd);
		for (unsigned k = 0; k < n && rc == 0; k++)
			rc = unlinkat(fd, names[k], 0) == 0 || errno == ENOENT ? 0 : errno;
	} while (n > 0 && rc == 0);
	return rc;
}

static void remove_entry(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, parent), *i = NULL;
	char head[LINK_HEAD_MAX];
	bool has_rest = false;
	uint8_t id[ID_BYTES];
	struct enc_name enc;
	int rc = dir_get(fs, dir), fd = -1, stripped = -1;

	COUNT(fs, unlinks);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	rc = entry_seal(fs, dir, name, &enc);
	if (rc != 0)
		goto out;
	pthread_rwlock_rdlock(&fs->names);
	rc = hold_victim(fs, dir, enc.text, &i, &fd);
	if (rc == 0 && is_dir)
		rc = dir_strip(fs, dir->dirfd, enc.text, &stripped, id);
	else if (rc == 0 && (!i || i->type == S_IFLNK))
		has_rest = link_head(dir, enc.text, head);
	if (rc == 0 && unlinkat(dir->dirfd, enc.text, is_dir ? AT_REMOVEDIR : 0) != 0) {
		rc = errno;
		if (rc == ENOTEMPTY && stripped >= 0 && strip_leftovers(stripped) == 0)
			rc = unlinkat(dir->dirfd, enc.text, AT_REMOVEDIR) == 0 ? 0 : errno;
		if (rc != 0 && stripped >= 0)
			dir_unstrip(fs, stripped, id);
	}
	if (rc == 0)
		side_remove(fs, dir, &enc);
	if (rc == 0 && has_rest)
		link_rest_remove(fs, head);
	drop_victim(fs, dir, enc.text, i, fd, rc == 0);
	pthread_rwlock_unlock(&fs->names);
	if (stripped >= 0)
		close(stripped);
out:
	dir_put(fs, dir);
	reply_err(req, rc);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_entry(req, parent, name, false);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_entry(req, parent, name, true);
}

/* ---- rename ---- */

struct move {
	struct inode *from_dir, *to_dir;
	struct enc_name from, to;
	unsigned flags;
};

static int rename_side_effects(struct fsys *fs, struct move *m, struct inode *src, struct inode *dst)
{
	int rc = 0;

	if (m->flags & RENAME_EXCHANGE) {
		if (src)
			rc = inode_linked(fs, src, m->to_dir, m->to.text, true);
		if (dst && rc == 0)
			rc = inode_linked(fs, dst, m->from_dir, m->from.text, true);
		return rc;
	}
	if (src)
		rc = inode_linked(fs, src, m->to_dir, m->to.text, true);
	if (!(m->flags & RENAME_WHITEOUT))
		side_remove(fs, m->from_dir, &m->from);
	return rc;
}

/* An inode recorded under another of its names keeps that record. */
static int do_rename(struct fsys *fs, struct move *m)
{
	struct inode *src = inode_by_entry(fs, m->from_dir, m->from.text), *dst = NULL;
	bool exchange = m->flags & RENAME_EXCHANGE;
	char head[LINK_HEAD_MAX];
	bool has_rest = false;
	uint8_t id[ID_BYTES];
	int rc, fd = -1, stripped = -1;
	struct stat st;

	rc = hold_victim(fs, m->to_dir, m->to.text, &dst, &fd);
	if (rc == 0 && !exchange && !(m->flags & RENAME_NOREPLACE) && (!src || src->type == S_IFDIR) &&
		fstatat(m->to_dir->dirfd, m->to.text, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
		fstatat(m->from_dir->dirfd, m->from.text, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
		rc = dir_strip(fs, m->to_dir->dirfd, m->to.text, &stripped, id);
		if (rc == 0)
			rc = strip_leftovers(stripped);
	}
	if (rc == 0 && !exchange && dst && dst->type == S_IFLNK)
		has_rest = link_head(m->to_dir, m->to.text, head);
	if (rc == 0)
		rc = renameat2(m->from_dir->dirfd, m->from.text, m->to_dir->dirfd, m->to.text, m->flags) == 0 ? 0
													      : errno;
	if (rc != 0 && stripped >= 0)
		dir_unstrip(fs, stripped, id);
	if (rc == 0) {
		if (!src || src->type == S_IFDIR || (exchange && (!dst || dst->type == S_IFDIR)))
			atomic_fetch_add(&fs->dir_moves, 1);
		if (dst && !exchange && dst != src) {
			inode_unlinked(fs, dst, m->to_dir, m->to.text, fd);
			fd = -1;
		}
		if (has_rest)
			link_rest_remove(fs, head);
		rc = rename_side_effects(fs, m, src, dst);
	}
	if (fd >= 0)
		close(fd);
	if (stripped >= 0)
		close(stripped);
	if (src)
		inode_unref(fs, src);
	if (dst)
		inode_unref(fs, dst);
	return rc;
}

void op_rename(
	fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct fsys *fs = fsys_of(req);
	struct move m = {.from_dir = inode_of(fs, parent), .to_dir = inode_of(fs, newparent), .flags = flags};
	bool made_side = false;
	int rc;

	COUNT(fs, renames);
	rc = dir_get(fs, m.from_dir);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	rc = dir_get(fs, m.to_dir);
	if (rc == 0) {
		rc = entry_seal(fs, m.from_dir, name, &m.from);
		if (rc == 0)
			rc = entry_seal(fs, m.to_dir, newname, &m.to);
		if (rc == 0 && m.to.is_long) {
			made_side = faccessat(m.to_dir->dirfd, m.to.text, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
			rc = side_make(fs, m.to_dir, &m.to);
		}
		if (rc == 0) {
			pthread_rwlock_rdlock(&fs->names);
			rc = do_rename(fs, &m);
			pthread_rwlock_unlock(&fs->names);
			if (rc != 0 && made_side)
				side_remove(fs, m.to_dir, &m.to);
		}
		dir_put(fs, m.to_dir);
	}
	dir_put(fs, m.from_dir);
	reply_err(req, rc);
}

/* ---- link ---- */

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino), *dir = inode_of(fs, newparent);
	struct fuse_entry_param e = {0};
	struct enc_name enc;
	char proc[PROC_FD_PATH];
	int fd, rc = dir_get(fs, dir);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	fd = inode_open(fs, i, O_PATH);
	rc = fd < 0 ? -fd : entry_seal(fs, dir, newname, &enc);
	if (rc == 0)
		rc = side_make(fs, dir, &enc);
	if (rc == 0) {
		if (linkat(AT_FDCWD, proc_fd(proc, fd), dir->dirfd, enc.text, AT_SYMLINK_FOLLOW) != 0)
			rc = errno;
		if (rc != 0 && rc != EEXIST)
			side_remove(fs, dir, &enc);
	}
	if (rc == 0)
		rc = inode_linked(fs, i, dir, enc.text, false);
	if (rc == 0)
		rc = entry_reply_fill(fs, dir, enc.text, &e);
	if (fd >= 0)
		close(fd);
	dir_put(fs, dir);
	answer_entry(req, rc, &e);
}
