/* SPDX-License-Identifier: Apache-2.0 */
/* gate_ops - the callbacks as libfuse calls them: each behind the gate.  See gate_ops.h. */
#include "fs/gate_ops.h"

#include "fs/gate_internal.h"

static void gated_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	int rc = ino == FUSE_ROOT_ID ? 0 : gate_enter(fs);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	op_getattr(req, ino, fi);
	if (ino != FUSE_ROOT_ID)
		gate_leave(fs);
}

static void gated_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	int rc = ino == FUSE_ROOT_ID ? 0 : gate_enter(fs);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	op_statx(req, ino, flags, mask, fi);
	if (ino != FUSE_ROOT_ID)
		gate_leave(fs);
}

static void gated_write(
	fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fsys *fs = fsys_of(req);
	bool back = fi->writepage;
	int rc = back ? gate_enter_writeback(fs, inode_of(fs, ino)->key.ino) : gate_enter(fs);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	op_write(req, ino, buf, size, off, fi);
	if (back)
		gate_leave_writeback(fs);
	else
		gate_leave(fs);
}

#define WRAP_FREE(name, parameters, arguments)
#define WRAP_OWN(name, parameters, arguments)
#define WRAP_GATED(name, parameters, arguments)                                                                        \
	static void gated_##name parameters                                                                            \
	{                                                                                                              \
		struct fsys *fs = fsys_of(req);                                                                        \
		int rc = gate_enter(fs);                                                                               \
                                                                                                                       \
		if (rc != 0) {                                                                                         \
			reply_err(req, rc);                                                                            \
			return;                                                                                        \
		}                                                                                                      \
		op_##name arguments;                                                                                   \
		gate_leave(fs);                                                                                        \
	}
#define WRAP(class, name, parameters, arguments) WRAP_##class(name, parameters, arguments)
GATE_OPS(WRAP)

#define MEMBER_FREE(name)			   .name = op_##name,
#define MEMBER_OWN(name)			   .name = gated_##name,
#define MEMBER_GATED(name)			   .name = gated_##name,
#define MEMBER(class, name, parameters, arguments) MEMBER_##class(name)

const struct fuse_lowlevel_ops fsys_ops = {.init = op_init, GATE_OPS(MEMBER)};
