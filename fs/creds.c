/* SPDX-License-Identifier: Apache-2.0 */
/*
 * creds - new entries belong to the caller.  A privileged daemon takes on the caller's fsuid, fsgid and umask for the
 * moment of the call, with its capabilities kept (SECBIT_NO_SETUID_FIXUP): the kernel above has checked permission,
 * including supplementary groups that we don't know.  Credentials and (after unshare(CLONE_FS)) the umask are per
 * thread.
 */
#include "fs/fsys_internal.h"

#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static _Thread_local struct {
	bool ready, keeps_caps;
	mode_t umask;
} self;

/* Once per process: may we act as others at all? */
bool creds_init(void)
{
	return geteuid() == 0 && prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0;
}

static void thread_init(void)
{
	self.ready = true;
	(void)unshare(CLONE_FS);
	/* threads that libfuse makes inherit this from the main one; a second call does no harm */
	self.keeps_caps = geteuid() == 0 && prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0;
	self.umask = umask(0);
	umask(self.umask);
}

void creds_take(fuse_req_t req, struct creds *c)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (!self.ready)
		thread_init();
	c->uid = c->gid = false;
	if (ctx->umask != self.umask) {
		umask(ctx->umask);
		self.umask = ctx->umask;
	}
	if (!self.keeps_caps)
		return;
	if (ctx->gid != getegid()) {
		setfsgid(ctx->gid);
		c->gid = true;
	}
	if (ctx->uid != geteuid()) {
		setfsuid(ctx->uid);
		c->uid = true;
	}
}

void creds_drop(struct fsys *fs, const struct creds *c)
{
	(void)fs;
	if (c->uid)
		setfsuid(geteuid());
	if (c->gid)
		setfsgid(getegid());
}
