/* SPDX-License-Identifier: Apache-2.0 */
/* reply - see reply.h. */
#include "fs/reply.h"

#include "fs/fsys_internal.h"
#include "fs/gate.h"
#include <sys/statvfs.h>

int reply_err(fuse_req_t req, int err)
{
	/* keys that were taken away under a request's hands: for the reason that the gate knows */
	return fuse_reply_err(req, err == ENOKEY ? gate_errno(fsys_of(req)) : err);
}

void reply_none(fuse_req_t req)
{
	fuse_reply_none(req);
}

static int given_up(fuse_req_t req)
{
	int code = gate_errno(fsys_of(req));

	fuse_reply_err(req, code);
	return -code;
}

/* call: the answer itself, which waits for nothing. */
#define ANSWER(req, call)                                                                                              \
	do {                                                                                                           \
		struct fsys *fs = fsys_of(req);                                                                        \
		int rc;                                                                                                \
                                                                                                                       \
		if (!gate_reply_begin(fs))                                                                             \
			return given_up(req);                                                                          \
		rc = call;                                                                                             \
		gate_reply_end(fs);                                                                                    \
		return rc;                                                                                             \
	} while (0)

int reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	ANSWER(req, fuse_reply_entry(req, e));
}

int reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
	ANSWER(req, fuse_reply_create(req, e, fi));
}

int reply_attr(fuse_req_t req, const struct stat *st, double timeout)
{
	ANSWER(req, fuse_reply_attr(req, st, timeout));
}

int reply_statx(fuse_req_t req, struct statx *stx, double timeout)
{
	ANSWER(req, fuse_reply_statx(req, 0, stx, timeout));
}

int reply_readlink(fuse_req_t req, const char *target)
{
	ANSWER(req, fuse_reply_readlink(req, target));
}

int reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	ANSWER(req, fuse_reply_open(req, fi));
}

int reply_write(fuse_req_t req, size_t count)
{
	ANSWER(req, fuse_reply_write(req, count));
}

int reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	ANSWER(req, fuse_reply_buf(req, buf, size));
}

int reply_iov(fuse_req_t req, const struct iovec *iov, int count)
{
	ANSWER(req, fuse_reply_iov(req, iov, count));
}

int reply_statfs(fuse_req_t req, const struct statvfs *sv)
{
	ANSWER(req, fuse_reply_statfs(req, sv));
}

int reply_xattr(fuse_req_t req, size_t count)
{
	ANSWER(req, fuse_reply_xattr(req, count));
}

int reply_lseek(fuse_req_t req, off_t off)
{
	ANSWER(req, fuse_reply_lseek(req, off));
}
