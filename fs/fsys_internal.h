/* SPDX-License-Identifier: Apache-2.0 */
/* fsys_internal - shared by the FUSE callbacks (ops_*.c), inode.c, dirent.c and content*.c. */
#pragma once
#include "fs/audit.h"
#include "fs/fsys.h"
#include "fs/inode.h"
#include "fs/log.h"
#include "fs/reply.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR_ID_LINK  "bcfs.id"
#define PROC_FD_PATH 64 /* room for /proc/self/fd/N */

struct gate;

struct fsys {
	const struct volume *volume;
	struct volkeys *vk;
	const struct session *session;
	struct fsys_options opt;
	void (*ready)(void *arg);
	void *ready_arg;
	struct fsys_counters count;

	bool privileged;    /* we may act as other users: CAP_SETUID, CAP_SETGID, CAP_SETPCAP */
	bool trusted_xattr; /* we may use trusted.* below */
	bool uring;
	_Atomic bool unsound;	    /* a file could not be brought back into a sound state */
	uint16_t stamp;		    /* of this session */
	_Atomic bool any_unclean;   /* is there an unclean session that has not been recovered from */
	_Atomic unsigned torn;	    /* inodes that are: see inode.h */
	_Atomic uint64_t dir_moves; /* renames of directories */
	struct recovery *recovery;
	struct gate *gate; /* see gate_internal.h */

	pthread_rwlock_t names;		 /* see inode.h */
	pthread_mutex_t table;		 /* all of the following, and what inode.h says */
	struct inode *by_key, *by_entry; /* uthash heads */
	struct inode root;
	struct inode *dir_lru; /* head: least recently used */
	unsigned n_dirfds, max_dirfds;
	struct content *contents; /* open ones */
};

/* Is a sector with this stamp of an unclean session? */
static inline bool stamp_unclean(struct fsys *fs, uint16_t stamp)
{
	return fs->any_unclean && session_stamp_unclean(fs->session, stamp);
}

/* Copies text into room bytes, the terminating zero included; what doesn't fit is cut off. */
static inline void copy_text(char *out, size_t room, const char *text)
{
	size_t n = strnlen(text, room - 1);

	memcpy(out, text, n);
	out[n] = '\0';
}

/* ---- errmap.c ---- */
int err_to_errno(enum err e);
/* Audits damage and returns EIO. */
int damage(struct fsys *fs, const char *detail, uint64_t ino, uint64_t sector);
/* Audits an accepted loss of unsynced data. */
void accepted(struct fsys *fs, const char *detail, uint64_t ino, uint64_t sector);
/* e from crypto, met at (ino, sector): ERR_CORRUPT is damage. */
int crypt_errno(struct fsys *fs, enum err e, const char *detail, uint64_t ino, uint64_t sector);

static inline struct fsys *fsys_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- attr (ops_attr.c) ---- */
/* Turns a backing stat into what users see: plaintext size, -o uid/gid/umask.  dirfd and name locate a symlink's rest
 * if needed. */
int attr_present(struct fsys *fs, struct inode *i, struct stat *st);
int attr_get(struct fsys *fs, struct inode *i, struct stat *st);
/* After a change of i's bytes: takes away its file capability, and if suidgid (the caller lacks CAP_FSETID) setuid and
 * setgid as ext4 would. fd: any descriptor of i. */
void attr_kill_priv(fuse_req_t req, struct inode *i, int fd, bool suidgid);

/* ---- dirent.c: entries of a directory by plaintext name; dir must be pinned by dir_get ---- */
int entry_seal(struct fsys *fs, struct inode *dir, const char *name, struct enc_name *out);
/* Long names: makes the N. link before an entry, removes it after.  0 or errno. */
int side_make(struct fsys *fs, struct inode *dir, const struct enc_name *n);
void side_remove(struct fsys *fs, struct inode *dir, const struct enc_name *n);
/* Reads and authenticates, or (empty directory) makes the id of an open directory. */
int dir_id_load(struct fsys *fs, int dirfd, const struct stat *st, uint8_t id[static ID_BYTES]);
int dir_id_make(struct fsys *fs, int dirfd, uint8_t id[static ID_BYTES], bool fresh);
/* 0 if the directory has no entries of ours, ENOTEMPTY if it has, or errno. */
int dir_is_empty(int dirfd);
/* Is this a backing name that no plaintext name has? */
bool name_is_internal(const char *name, bool in_root);

/* ---- creds.c: making entries as the caller ---- */
struct creds {
	bool uid, gid;
};
/* Takes on the caller's fsuid, fsgid and umask for this thread; creds_drop gives them back. */
void creds_take(fuse_req_t req, struct creds *c);
void creds_drop(struct fsys *fs, const struct creds *c);
bool creds_init(void);

/* ---- locate files through /proc for calls that can't take an O_PATH descriptor ---- */
static inline const char *proc_fd(char buf[static PROC_FD_PATH], int fd)
{
	snprintf(buf, PROC_FD_PATH, "/proc/self/fd/%d", fd);
	return buf;
}

/* ---- entry replies (ops_dir.c) ---- */
/* Looks (dir, enc) up below and fills e, counting a lookup; 0 or errno. */
int entry_reply_fill(struct fsys *fs, struct inode *dir, const char *enc, struct fuse_entry_param *e);
void entry_fill(struct fsys *fs, struct inode *i, const struct stat *st, struct fuse_entry_param *e);

#define COUNT(fs, what)	       atomic_fetch_add_explicit(&(fs)->count.what, 1, memory_order_relaxed)
#define COUNT_ADD(fs, what, n) atomic_fetch_add_explicit(&(fs)->count.what, (n), memory_order_relaxed)
#define COUNT_SUB(fs, what, n) atomic_fetch_sub_explicit(&(fs)->count.what, (n), memory_order_relaxed)

/* ---- callbacks ---- */
void op_init(void *userdata, struct fuse_conn_info *conn);
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void op_rename(
	fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
