/* SPDX-License-Identifier: Apache-2.0 */
/* ops_attr - stat, chmod, chown, times, sizes, statfs. */
#include "fs/fsys_internal.h"

#include "fs/content.h"
#include "fs/ops_link.h"
#include "fs/xattr.h"
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* The plaintext size of a regular file: that of the open file, else the hint below, which has to be verified once after
 * an unclean session. */
static uint64_t file_size(struct fsys *fs, struct inode *i, uint64_t backing)
{
	struct content *c = content_peek(fs, i);
	uint64_t size = plain_size(backing);

	if (c && c->loaded) {
		size = content_size(c);
	} else if ((fs->any_unclean && !i->verified) || i->torn) {
		uint64_t seen;

		if (content_verify(fs, i, &seen) == 0) {
			size = seen;
			i->seen_size = fs->opt.read_only ? seen : UINT64_MAX;
		}
		i->verified = true;
	} else if (i->seen_size != UINT64_MAX) {
		size = i->seen_size;
	}
	if (c)
		content_close(fs, c);
	return size;
}

int attr_present(struct fsys *fs, struct inode *i, struct stat *st)
{
	int rc = 0;

	if (S_ISREG(st->st_mode)) {
		st->st_size = (off_t)file_size(fs, i, (uint64_t)st->st_size);
	} else if (S_ISLNK(st->st_mode)) {
		rc = link_size(fs, i, st->st_size, &st->st_size);
	}
	if (fs->opt.has_uid)
		st->st_uid = fs->opt.uid;
	if (fs->opt.has_gid)
		st->st_gid = fs->opt.gid;
	if (fs->opt.has_umask && !S_ISLNK(st->st_mode))
		st->st_mode = (st->st_mode & S_IFMT) | (0777 & ~fs->opt.umask);
	return rc;
}

int attr_get(struct fsys *fs, struct inode *i, struct stat *st)
{
	int rc = inode_stat(fs, i, st);

	return rc != 0 ? rc : attr_present(fs, i, st);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct stat st;
	int rc = attr_get(fs, inode_of(fs, ino), &st);

	(void)fi;
	COUNT(fs, getattrs);
	if (rc != 0)
		reply_err(req, rc);
	else
		reply_attr(req, &st, fs->opt.attr_timeout);
}

void op_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	struct statx stx;
	struct stat st;
	int fd, rc = 0;

	(void)fi;
	COUNT(fs, getattrs);
	fd = inode_open(fs, i, O_PATH);
	if (fd < 0) {
		reply_err(req, -fd);
		return;
	}
	if (statx(fd, "", AT_EMPTY_PATH | (flags & AT_STATX_SYNC_TYPE), (unsigned)mask | STATX_BASIC_STATS, &stx) !=
			0 ||
		fstat(fd, &st) != 0)
		rc = errno;
	close(fd);
	if (rc == 0)
		rc = attr_present(fs, i, &st);
	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	stx.stx_size = (uint64_t)st.st_size;
	stx.stx_uid = st.st_uid;
	stx.stx_gid = st.st_gid;
	stx.stx_mode = (uint16_t)st.st_mode;
	stx.stx_attributes_mask = 0; /* attributes such as immutable are not ours to promise */
	stx.stx_attributes = 0;
	reply_statx(req, &stx, fs->opt.attr_timeout);
}

/* ---- setattr ---- */

static int change_mode(int fd, mode_t mode)
{
	char proc[PROC_FD_PATH];

	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS && errno != EOPNOTSUPP && errno != EINVAL)
		return errno;
	return chmod(proc_fd(proc, fd), mode) == 0 ? 0 : errno; /* kernels before 6.6 */
}

/* Is the caller in group gid?  Asked rarely: it reads /proc. */
static bool caller_in_group(fuse_req_t req, gid_t gid)
{
	gid_t *list;
	bool found = fuse_req_ctx(req)->gid == gid;
	int n;

	if (found)
		return true;
	n = fuse_req_getgroups(req, 0, NULL);
	list = n > 0 ? calloc((size_t)n, sizeof(*list)) : NULL;
	if (!list)
		return false;
	n = fuse_req_getgroups(req, n, list);
	for (int k = 0; k < n && !found; k++)
		found = list[k] == gid;
	free(list);
	return found;
}

/* The bits that a change by this caller takes away from st: the rules of the kernel's setattr_should_drop_suidgid(). */
static mode_t bits_to_kill(fuse_req_t req, const struct stat *st)
{
	mode_t bits = st->st_mode & S_ISUID;

	if (S_ISDIR(st->st_mode))
		return 0;
	if (st->st_mode & S_ISGID &&
		(st->st_mode & S_IXGRP || (fuse_req_ctx(req)->uid != 0 && !caller_in_group(req, st->st_gid))))
		bits |= S_ISGID;
	return bits;
}

void attr_kill_priv(fuse_req_t req, struct inode *i, int fd, bool suidgid)
{
	struct fsys *fs = fsys_of(req);
	struct stat st;
	mode_t bits;

	xattr_drop_caps(fs, i, fd);
	if (!suidgid || fstat(fd, &st) != 0 || !(st.st_mode & (S_ISUID | S_ISGID)))
		return;
	bits = bits_to_kill(req, &st);
	if (bits)
		(void)change_mode(fd, st.st_mode & 07777 & ~bits);
}

static int change_size(fuse_req_t req, struct inode *i, uint64_t size, bool kill)
{
	struct fsys *fs = fsys_of(req);
	struct content *c;
	int rc = content_open(fs, i, true, -1, &c);

	if (rc != 0)
		return rc;
	rc = content_truncate(fs, c, size);
	if (rc == 0)
		attr_kill_priv(req, i, content_fd(c), kill);
	content_close(fs, c);
	return rc;
}

/*
 * A setattr of nothing is one of two things: the kernel wants the file capability gone before a write, or somebody did
 * chown(path, -1, -1), which on ext4 takes the privilege bits too.  A file with a capability is taken for the first:
 * the write that follows brings the word on the bits with it.
 */
static bool is_chown(struct inode *i, int to_set)
{
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		return true;
	return !(to_set & ~FUSE_SET_ATTR_CTIME) && atomic_load(&i->caps) != CAPS_SOME;
}

/*
 * chown.  The kernel leaves the privilege bits to us (FUSE_HANDLE_KILLPRIV_V2); if there are any, even a chown of
 * nothing is for the owner only.
 */
static int change_owner(fuse_req_t req, struct inode *i, int fd, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1, caller = fuse_req_ctx(req)->uid;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	struct stat st;
	mode_t bits;

	if (fstat(fd, &st) != 0)
		return errno;
	bits = st.st_mode & (S_ISUID | S_ISGID) ? bits_to_kill(req, &st) : 0;
	if (bits && uid == (uid_t)-1 && gid == (gid_t)-1 && caller != 0 && caller != st.st_uid)
		return EPERM;
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0)
		return errno;
	if (bits) /* the backing filesystem has done so for all but a case or two */
		(void)change_mode(fd, st.st_mode & 07777 & ~bits);
	xattr_drop_caps(fsys_of(req), i, fd);
	return 0;
}

static int change_times(int fd, const struct stat *attr, int to_set)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
	char proc[PROC_FD_PATH];

	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		ts[0] = attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		ts[1] = attr->st_mtim;
	if (utimensat(fd, "", ts, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return errno;
	return utimensat(AT_FDCWD, proc_fd(proc, fd), ts, 0) == 0 ? 0 : errno;
}

#define TIMES (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	struct stat st;
	int fd = -1, rc = 0;

	(void)fi;
	if (to_set & FUSE_SET_ATTR_SIZE)
		rc = change_size(req, i, (uint64_t)attr->st_size, to_set & FUSE_SET_ATTR_KILL_SUID);
	if (rc == 0) {
		fd = inode_open(fs, i, O_PATH);
		rc = fd < 0 ? -fd : 0;
	}
	if (rc == 0 && is_chown(i, to_set))
		rc = change_owner(req, i, fd, attr, to_set);
	else if (rc == 0 && !(to_set & ~FUSE_SET_ATTR_CTIME))
		xattr_drop_caps(fs, i, fd);
	if (rc == 0 && to_set & FUSE_SET_ATTR_MODE)
		rc = change_mode(fd, attr->st_mode & 07777);
	if (rc == 0 && to_set & TIMES)
		rc = change_times(fd, attr, to_set);
	if (rc == 0 && fstat(fd, &st) != 0)
		rc = errno;
	if (fd >= 0)
		close(fd);
	if (rc == 0)
		rc = attr_present(fs, i, &st);
	if (rc != 0)
		reply_err(req, rc);
	else
		reply_attr(req, &st, fs->opt.attr_timeout);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fsys *fs = fsys_of(req);
	struct statvfs sv;

	(void)ino;
	if (fstatvfs(fs->volume->dirfd, &sv) != 0) {
		reply_err(req, errno);
		return;
	}
	sv.f_namemax = NAME_MAX_PLAIN;
	reply_statfs(req, &sv);
}
