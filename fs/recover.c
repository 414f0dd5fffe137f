/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover - after an unclean session, a thread of idle priority looks at every file once and mends what FORMAT.md
 * section 4 accepts, so that the tolerance for unsynced ends does not outlive the crash: then the unclean sessions are
 * struck off, and such a state is damage again.
 *
 * Users may work meanwhile: what they look at is mended first (attr_present).  A directory that is moved during the
 * walk may have been missed, so then the walk is repeated.  A file that can't be looked at keeps the sessions on the
 * list, until the next mount tries again.
 */
#include "fs/fsys_internal.h"

#include "fs/content.h"
#include "fs/gate.h"
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define WALKS		   3
#define IOPRIO_CLASS_IDLE  3
#define IOPRIO_WHO_PROCESS 1

struct pending { /* a directory still to be read; its inode holds one lookup */
	struct pending *next;
	struct inode *dir;
};

struct recovery {
	struct fsys *fs;
	pthread_t thread;
	_Atomic bool stop;
	bool (*resolved)(void *arg);
	void *arg;
	struct pending *todo;
	uint64_t files;
	bool incomplete;
};

static void push(struct recovery *r, struct inode *dir)
{
	struct pending *p = malloc(sizeof(*p));

	if (!p) {
		inode_forget(r->fs, dir, 1);
		r->incomplete = true;
		return;
	}
	p->dir = dir;
	p->next = r->todo;
	r->todo = p;
}

/* While the volume is locked nothing is looked at; false: the end of the mount came first. */
static bool enter(struct recovery *r)
{
	const struct timespec step = {0, 200000000};

	while (!atomic_load(&r->stop)) {
		if (gate_enter_quietly(r->fs))
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

/* One file; ENOKEY: once more, when the keys that were taken away meanwhile are back. */
static int verify(struct recovery *r, struct inode *i)
{
	uint64_t size;
	int rc = ENOKEY;

	while (rc == ENOKEY && enter(r)) {
		rc = content_verify(r->fs, i, &size);
		gate_leave(r->fs);
	}
	return rc;
}

static void look_at(struct recovery *r, struct inode *dir, const char *name)
{
	struct fsys *fs = r->fs;
	struct inode *i;
	struct stat st;

	if (fstatat(dir->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno != ENOENT)
			r->incomplete = true;
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return;
	i = inode_lookup(fs, &st, dir, name, -1);
	if (!i) {
		r->incomplete = true;
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		push(r, i);
		return;
	}
	r->files++;
	if (!i->verified) {
		int rc = verify(r, i);

		if (rc == 0)
			i->verified = true;
		else if (rc != EIO && rc != ESTALE &&
			 rc != ENOENT) /* EIO: damage stays damage; the others: gone meanwhile */
			r->incomplete = true;
	}
	inode_forget(fs, i, 1);
}

static void read_dir(struct recovery *r, struct inode *dir)
{
	struct fsys *fs = r->fs;
	struct dirent *e;
	DIR *d = NULL;
	int fd, rc = ENOKEY;

	while (rc == ENOKEY && enter(r)) {
		rc = dir_get(fs, dir);
		gate_leave(fs);
	}
	if (rc != 0)
		return; /* gone meanwhile, or its id is damaged: nobody can reach the files in it */
	fd = openat(dir->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		d = fdopendir(fd);
		if (!d)
			close(fd);
	}
	if (!d)
		r->incomplete = true;
	while (d && !atomic_load(&r->stop) && (e = readdir(d))) {
		if (e->d_name[0] != '.' && !name_is_internal(e->d_name, dir == &fs->root))
			look_at(r, dir, e->d_name);
	}
	if (d)
		closedir(d);
	dir_put(fs, dir);
}

/* One walk over everything; true if nothing can have been missed. */
static bool walk(struct recovery *r)
{
	uint64_t moves = atomic_load(&r->fs->dir_moves);

	r->incomplete = false;
	r->files = 0;
	read_dir(r, &r->fs->root);
	while (r->todo) {
		struct pending *p = r->todo;

		r->todo = p->next;
		if (!atomic_load(&r->stop))
			read_dir(r, p->dir);
		inode_forget(r->fs, p->dir, 1);
		free(p);
	}
	return !atomic_load(&r->stop) && atomic_load(&r->fs->dir_moves) == moves;
}

static void *recover(void *arg)
{
	struct recovery *r = arg;
	struct fsys *fs = r->fs;
	bool all = false;

	/* of this thread only: "process" 0 is the calling thread */
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << 13);
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19);
	for (unsigned n = 0; n < WALKS && !all && !atomic_load(&r->stop); n++)
		all = walk(r);
	if (all && !r->incomplete && syncfs(fs->volume->dirfd) == 0 && r->resolved(r->arg)) {
		fs->any_unclean = false;
		audit_event("recovered", "every file looked at after an unclean session", 0, UINT64_MAX);
	}
	return NULL;
}

int fsys_recover_start(struct fsys *fs, bool (*resolved)(void *arg), void *arg)
{
	struct recovery *r;
	int rc;

	if (!fs->any_unclean || fs->opt.read_only)
		return 0;
	r = calloc(1, sizeof(*r));
	if (!r)
		return ENOMEM;
	r->fs = fs;
	r->resolved = resolved;
	r->arg = arg;
	rc = pthread_create(&r->thread, NULL, recover, r);
	if (rc != 0) {
		free(r);
		return rc;
	}
	fs->recovery = r;
	return 0;
}

void fsys_recover_stop(struct fsys *fs)
{
	struct recovery *r = fs->recovery;

	if (!r)
		return;
	atomic_store(&r->stop, true);
	pthread_join(r->thread, NULL);
	free(r);
	fs->recovery = NULL;
}
