/* SPDX-License-Identifier: Apache-2.0 */
/* fsys - making and freeing the mounted volume, and what is agreed with the kernel.  See fsys.h. */
#include "fs/fsys_internal.h"

#include "fs/bufpool.h"
#include "fs/content.h"
#include "fs/gate_internal.h"
#include <sys/stat.h>
#include <sys/xattr.h>

#define REQUEST_BYTES (1u << 20)
#define EPOCH_MINOR   44u /* kernels that drop all names at once: 6.16 */

enum err fsys_new(const struct fsys_params *p, struct fsys **out, struct err_why *why)
{
	struct fsys *fs = calloc(1, sizeof(*fs));
	int rc;

	if (!fs)
		return err_set(why, ERR_NOMEM, ENOMEM, "out of memory");
	fs->volume = p->volume;
	fs->vk = p->vk;
	fs->opt = p->opt;
	fs->ready = p->ready;
	fs->ready_arg = p->ready_arg;
	if (p->session)
		fsys_begin(fs, p->session);
	fs->privileged = creds_init();
	/* asking for a trusted attribute that isn't there fails with EPERM only for those who may not */
	fs->trusted_xattr = geteuid() == 0;
	bufpool_init();
	fs->gate = gate_new();
	rc = fs->gate ? inode_table_init(fs) : ENOMEM;
	if (rc != 0) {
		gate_free(fs);
		free(fs);
		return err_set(why, ERR_IO, rc, "cannot open the backing directory: %s", strerror(rc));
	}
	*out = fs;
	return ERR_OK;
}

void fsys_begin(struct fsys *fs, const struct session *session)
{
	fs->session = session;
	fs->stamp = (uint16_t)session->number;
	fs->any_unclean = session_any_unclean(session);
}

bool fsys_free(struct fsys *fs)
{
	struct content *c = NULL, *tmp;
	bool sound;

	if (!fs)
		return true;
	/* a forced unmount leaves files open */
	DL_FOREACH_SAFE(fs->contents, c, tmp)
	{
		c->refs = 1;
		content_close(fs, c);
	}
	sound = !atomic_load(&fs->unsound) && atomic_load(&fs->torn) == 0;
	inode_table_free(fs);
	gate_free(fs);
	bufpool_free();
	free(fs);
	return sound;
}

const struct fsys_counters *fsys_counters(const struct fsys *fs)
{
	return &fs->count;
}

const char *fsys_transport(const struct fsys *fs)
{
	return fs->uring ? "io_uring" : "/dev/fuse";
}

int fsys_sync(struct fsys *fs)
{
	return syncfs(fs->volume->dirfd) == 0 ? 0 : errno;
}

void op_init(void *userdata, struct fuse_conn_info *conn)
{
	static const uint64_t wanted[] = {
		FUSE_CAP_ASYNC_READ,
		FUSE_CAP_ATOMIC_O_TRUNC,
		FUSE_CAP_DONT_MASK,
		FUSE_CAP_READDIRPLUS,
		FUSE_CAP_READDIRPLUS_AUTO,
		FUSE_CAP_ASYNC_DIO,
		FUSE_CAP_PARALLEL_DIROPS,
		FUSE_CAP_HANDLE_KILLPRIV_V2,
		FUSE_CAP_CACHE_SYMLINKS,
		FUSE_CAP_DIRECT_IO_ALLOW_MMAP,
		FUSE_CAP_NO_EXPORT_SUPPORT,
	};
	static const uint64_t unwanted[] = {
		FUSE_CAP_AUTO_INVAL_DATA, /* nobody else changes the files */
		FUSE_CAP_HANDLE_KILLPRIV,
		FUSE_CAP_SPLICE_READ,
		FUSE_CAP_SPLICE_WRITE,
		FUSE_CAP_SPLICE_MOVE,
		FUSE_CAP_WRITEBACK_CACHE,
	};
	struct fsys *fs = userdata;

	for (size_t k = 0; k < sizeof(wanted) / sizeof(wanted[0]); k++)
		fuse_set_feature_flag(conn, wanted[k]);
	for (size_t k = 0; k < sizeof(unwanted) / sizeof(unwanted[0]); k++)
		fuse_unset_feature_flag(conn, unwanted[k]);
	if (fs->opt.kernel_checks) /* the flag alone makes the kernel check everything */
		fuse_set_feature_flag(conn, FUSE_CAP_POSIX_ACL);
	else
		fuse_unset_feature_flag(conn, FUSE_CAP_POSIX_ACL);
	conn->max_write = REQUEST_BYTES;
	conn->max_readahead = REQUEST_BYTES;
	conn->max_background = 64;
	conn->time_gran = 1;
	if (conn->proto_minor < EPOCH_MINOR)
		fs->opt.negative_timeout = 0; /* the gate could not take it back */
	fs->uring = fuse_get_feature_flag(conn, FUSE_CAP_OVER_IO_URING);
	if (fs->ready)
		fs->ready(fs->ready_arg);
}
