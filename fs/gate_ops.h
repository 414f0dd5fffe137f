/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate_ops - every FUSE callback, and whether it passes the gate.  gate_ops.c makes the table for libfuse from this
 * list, so none can be forgotten; tests/unit/test_gate.c goes through it.
 *
 * GATED: refused while locked.  FREE: needs no key and tells nothing, or must not be refused.
 *
 *   getattr, statx   of the root only (gate_ops.c): stat and umount of the mount point
 *   write            of dirty pages by the kernel itself: until they are drained (gate_ops.c)
 *   fsync, fsyncdir  writes are in the backing file when they return, so a sync needs no key, and what was acknowledged
 *                    can still be made durable
 *   flush, release, releasedir, forget   must not fail; files without a header get theirs before keys are wiped
 */
#pragma once

/* X(class, name, parameters behind req, the same as arguments) */
#define GATE_OPS(X)                                                                                                    \
	X(GATED, lookup, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))                   \
	X(FREE, forget, (fuse_req_t req, fuse_ino_t ino, uint64_t nlookup), (req, ino, nlookup))                       \
	X(FREE, forget_multi, (fuse_req_t req, size_t count, struct fuse_forget_data * forgets),                       \
		(req, count, forgets))                                                                                 \
	X(OWN, getattr, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info * fi), (req, ino, fi))                  \
	X(GATED, setattr, (fuse_req_t req, fuse_ino_t ino, struct stat * attr, int to_set, struct fuse_file_info *fi), \
		(req, ino, attr, to_set, fi))                                                                          \
	X(OWN, statx, (fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi),                \
		(req, ino, flags, mask, fi))                                                                           \
	X(GATED, readlink, (fuse_req_t req, fuse_ino_t ino), (req, ino))                                               \
	X(GATED, mknod, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev),                \
		(req, parent, name, mode, rdev))                                                                       \
	X(GATED, mkdir, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode), (req, parent, name, mode)) \
	X(GATED, unlink, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))                   \
	X(GATED, rmdir, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))                    \
	X(GATED, symlink, (fuse_req_t req, const char *link, fuse_ino_t parent, const char *name),                     \
		(req, link, parent, name))                                                                             \
	X(GATED, rename,                                                                                               \
		(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,       \
			unsigned flags),                                                                               \
		(req, parent, name, newparent, newname, flags))                                                        \
	X(GATED, link, (fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname),                    \
		(req, ino, newparent, newname))                                                                        \
	X(GATED, open, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info * fi), (req, ino, fi))                   \
	X(GATED, create,                                                                                               \
		(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi),         \
		(req, parent, name, mode, fi))                                                                         \
	X(GATED, tmpfile, (fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info * fi),                \
		(req, parent, mode, fi))                                                                               \
	X(GATED, read, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info * fi),           \
		(req, ino, size, off, fi))                                                                             \
	X(OWN, write,                                                                                                  \
		(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi),  \
		(req, ino, buf, size, off, fi))                                                                        \
	X(FREE, flush, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info * fi), (req, ino, fi))                   \
	X(FREE, release, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info * fi), (req, ino, fi))                 \
	X(FREE, fsync, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),                      \
		(req, ino, datasync, fi))                                                                              \
	X(GATED, fallocate,                                                                                            \
		(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi),           \
		(req, ino, mode, off, len, fi))                                                                        \
	X(GATED, lseek, (fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi),            \
		(req, ino, off, whence, fi))                                                                           \
	X(GATED, copy_file_range,                                                                                      \
		(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info * fi_in, fuse_ino_t out,           \
			off_t off_out, struct fuse_file_info * fi_out, size_t len, int flags),                         \
		(req, in, off_in, fi_in, out, off_out, fi_out, len, flags))                                            \
	X(GATED, opendir, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info * fi), (req, ino, fi))                \
	X(GATED, readdir, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info * fi),        \
		(req, ino, size, off, fi))                                                                             \
	X(GATED, readdirplus, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info * fi),    \
		(req, ino, size, off, fi))                                                                             \
	X(FREE, releasedir, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info * fi), (req, ino, fi))              \
	X(FREE, fsyncdir, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),                   \
		(req, ino, datasync, fi))                                                                              \
	X(FREE, statfs, (fuse_req_t req, fuse_ino_t ino), (req, ino))                                                  \
	X(GATED, setxattr,                                                                                             \
		(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags),         \
		(req, ino, name, value, size, flags))                                                                  \
	X(GATED, getxattr, (fuse_req_t req, fuse_ino_t ino, const char *name, size_t size), (req, ino, name, size))    \
	X(GATED, listxattr, (fuse_req_t req, fuse_ino_t ino, size_t size), (req, ino, size))                           \
	X(GATED, removexattr, (fuse_req_t req, fuse_ino_t ino, const char *name), (req, ino, name))
