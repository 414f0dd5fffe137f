/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply - answers to the kernel.  The callbacks answer through these, never through libfuse itself: a request that a
 * lock has given up meanwhile is answered with the gate's errno, whatever it found out (gate.h).  Not 0: the kernel has
 * not heard, so what was made for it is taken back.
 */
#pragma once
#include "fs/fsys.h"

int reply_err(fuse_req_t req, int err);
void reply_none(fuse_req_t req);
int reply_entry(fuse_req_t req, const struct fuse_entry_param *e);
int reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi);
int reply_attr(fuse_req_t req, const struct stat *st, double timeout);
int reply_statx(fuse_req_t req, struct statx *stx, double timeout);
int reply_readlink(fuse_req_t req, const char *target);
int reply_open(fuse_req_t req, const struct fuse_file_info *fi);
int reply_write(fuse_req_t req, size_t count);
int reply_buf(fuse_req_t req, const char *buf, size_t size);
int reply_iov(fuse_req_t req, const struct iovec *iov, int count);
int reply_statfs(fuse_req_t req, const struct statvfs *sv);
int reply_xattr(fuse_req_t req, size_t count);
int reply_lseek(fuse_req_t req, off_t off);
