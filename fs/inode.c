/* SPDX-License-Identifier: Apache-2.0 */
/* inode - see inode.h. */
#include "fs/inode.h"
#include "fs/fsys_internal.h"

#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>

#define DEFAULT_DIRFDS 4096u

struct inode *inode_of(struct fsys *fs, fuse_ino_t nodeid)
{
	return nodeid == FUSE_ROOT_ID ? &fs->root : (struct inode *)(uintptr_t)nodeid;
}

/* ---- entries; all under fs->table ---- */

static struct entry *entry_new(struct inode *parent, const char *name)
{
	size_t len = strlen(name);
	struct entry *e = malloc(sizeof(*e) + len + 1);

	if (!e)
		return NULL;
	e->parent = parent;
	memcpy(e->name, name, len + 1);
	return e;
}

/* The hash key of an entry: the parent's address and the name, as they lie in memory. */
#define KEY_HEAD offsetof(struct entry, name)

_Static_assert(offsetof(struct entry, parent) == 0 && KEY_HEAD == sizeof(void *), "no gap in the key");

static size_t entry_key_len(const struct entry *e)
{
	return KEY_HEAD + strlen(e->name);
}

static struct inode *find_entry(struct fsys *fs, struct inode *parent, const char *name)
{
	char key[KEY_HEAD + NAME_ENC_MAX];
	size_t len = strlen(name);
	struct inode *i = NULL;

	if (len >= NAME_ENC_MAX)
		return NULL;
	memcpy(key, &parent, KEY_HEAD);
	memcpy(key + KEY_HEAD, name, len);
	HASH_FIND(hh_entry, fs->by_entry, key, KEY_HEAD + len, i);
	return i;
}

/* Takes i's entry out of the hash; the caller drops the parent's reference (returned). */
static struct inode *entry_remove(struct fsys *fs, struct inode *i)
{
	struct inode *parent;

	if (!i->entry)
		return NULL;
	parent = i->entry->parent;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): i has an entry, so uthash's table is there */
	HASH_DELETE(hh_entry, fs->by_entry, i);
	free(i->entry);
	i->entry = NULL;
	return parent;
}

static int entry_set(struct fsys *fs, struct inode *i, struct inode *parent, const char *name)
{
	struct entry *e = entry_new(parent, name);
	struct inode *other;

	if (!e)
		return ENOMEM;
	/* Whoever was recorded here before is gone from below, or moved without us knowing: his entry is worthless. */
	other = find_entry(fs, parent, name);
	if (other && other != i) {
		struct inode *p = entry_remove(fs, other);

		if (p != &fs->root)
			p->refs--; /* parent itself: the caller holds it, so this can't be its last reference */
	}
	i->entry = e;
	if (parent != &fs->root)
		parent->refs++;
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): uthash reads the key as bytes */
	HASH_ADD_KEYPTR(hh_entry, fs->by_entry, e, entry_key_len(e), i);
	return 0;
}

/* ---- life ---- */

#define MAX_DROPPED 8

/*
 * Drops one reference; an inode without references of either kind goes, and with it its reference on its parent, and so
 * on up. Descriptors to close are collected, since nothing is closed under the lock.
 */
static void drop_locked(struct fsys *fs, struct inode *i, int *fds, unsigned *n_fds)
{
	while (i && i != &fs->root && i->refs == 0 && i->nlookup == 0 && *n_fds + 2 <= MAX_DROPPED) {
		struct inode *parent = entry_remove(fs, i);

		if (i->dirfd >= 0) {
			DL_DELETE(fs->dir_lru, i);
			fs->n_dirfds--;
			fds[(*n_fds)++] = i->dirfd;
			COUNT_SUB(fs, dirfds, 1);
		}
		if (i->pin_fd >= 0)
			fds[(*n_fds)++] = i->pin_fd;
		HASH_DELETE(hh_key, fs->by_key, i);
		COUNT_SUB(fs, inodes, 1);
		free(i);
		i = parent;
		if (i && i != &fs->root)
			i->refs--;
	}
}

static void unref_locked(struct fsys *fs, struct inode *i, int *fds, unsigned *n_fds)
{
	if (i == &fs->root)
		return;
	i->refs--;
	drop_locked(fs, i, fds, n_fds);
}

static void close_all(const int *fds, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		close(fds[k]);
}

void inode_ref(struct fsys *fs, struct inode *i)
{
	if (i == &fs->root)
		return;
	pthread_mutex_lock(&fs->table);
	i->refs++;
	pthread_mutex_unlock(&fs->table);
}

void inode_unref(struct fsys *fs, struct inode *i)
{
	int fds[MAX_DROPPED];
	unsigned n = 0;

	if (i == &fs->root)
		return;
	pthread_mutex_lock(&fs->table);
	unref_locked(fs, i, fds, &n);
	pthread_mutex_unlock(&fs->table);
	close_all(fds, n);
}

void inode_forget(struct fsys *fs, struct inode *i, uint64_t nlookup)
{
	int fds[MAX_DROPPED];
	unsigned n = 0;

	if (i == &fs->root)
		return;
	pthread_mutex_lock(&fs->table);
	i->nlookup -= nlookup < i->nlookup ? nlookup : i->nlookup;
	drop_locked(fs, i, fds, &n);
	pthread_mutex_unlock(&fs->table);
	close_all(fds, n);
}

struct inode *inode_lookup(struct fsys *fs, const struct stat *st, struct inode *parent, const char *name, int pin_fd)
{
	struct inode_key key = {.dev = st->st_dev, .ino = st->st_ino};
	struct inode *i = NULL;
	int unused = -1;

	pthread_mutex_lock(&fs->table);
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): uthash reads the key as bytes */
	HASH_FIND(hh_key, fs->by_key, &key, sizeof(key), i);
	if (!i) {
		i = calloc(1, sizeof(*i));
		if (!i) {
			unused = pin_fd;
			goto out;
		}
		i->key = key;
		i->type = st->st_mode & S_IFMT;
		i->pin_fd = pin_fd;
		i->dirfd = -1;
		i->seen_size = UINT64_MAX;
		if (name && entry_set(fs, i, parent, name) != 0) {
			free(i);
			i = NULL;
			goto out;
		}
		HASH_ADD(hh_key, fs->by_key, key, sizeof(i->key), i);
		COUNT_ADD(fs, inodes, 1);
	} else {
		/* A pin stays, even if there is a name again: somebody may be using it right now. */
		unused = pin_fd;
		if (name && !i->entry)
			(void)entry_set(fs, i, parent, name);
	}
	i->nlookup++;
out:
	pthread_mutex_unlock(&fs->table);
	if (unused >= 0)
		close(unused);
	return i;
}

struct inode *inode_by_entry(struct fsys *fs, struct inode *parent, const char *name)
{
	struct inode *i;

	pthread_mutex_lock(&fs->table);
	i = find_entry(fs, parent, name);
	if (i)
		i->refs++;
	pthread_mutex_unlock(&fs->table);
	return i;
}

void inode_unlinked(struct fsys *fs, struct inode *i, struct inode *parent, const char *name, int fd)
{
	int fds[MAX_DROPPED];
	unsigned n = 0;

	pthread_mutex_lock(&fs->table);
	if (i->entry && i->entry->parent == parent && strcmp(i->entry->name, name) == 0) {
		struct inode *p = entry_remove(fs, i);

		if (i->pin_fd < 0) {
			i->pin_fd = fd;
			fd = -1;
		}
		unref_locked(fs, p, fds, &n);
	}
	pthread_mutex_unlock(&fs->table);
	close_all(fds, n);
	if (fd >= 0)
		close(fd);
}

int inode_linked(struct fsys *fs, struct inode *i, struct inode *parent, const char *name, bool force)
{
	int fds[MAX_DROPPED], rc = 0;
	unsigned n = 0;

	pthread_mutex_lock(&fs->table);
	if (force || !i->entry) {
		struct inode *old = entry_remove(fs, i);

		rc = entry_set(fs, i, parent, name);
		if (old)
			unref_locked(fs, old, fds, &n);
	}
	pthread_mutex_unlock(&fs->table);
	close_all(fds, n);
	return rc;
}

/* ---- places ---- */

static int dir_get_now(struct fsys *fs, struct inode *i);

int place_get(struct fsys *fs, struct inode *i, struct place *p)
{
	struct inode *dir;
	int rc;

	p->dir = NULL;
	p->name[0] = '\0';
	if (i == &fs->root) {
		p->fd = i->dirfd;
		return 0;
	}
	pthread_mutex_lock(&fs->table);
	if (i->pin_fd >= 0) {
		p->fd = i->pin_fd; /* lives as long as the inode, which the caller's callback keeps */
		pthread_mutex_unlock(&fs->table);
		return 0;
	}
	if (!i->entry) {
		pthread_mutex_unlock(&fs->table);
		return ESTALE;
	}
	dir = i->entry->parent;
	if (dir != &fs->root)
		dir->refs++;
	copy_text(p->name, sizeof(p->name),
		i->entry->name); /* entry names are bounded by NAME_ENC_MAX: see find_entry and enc_name */
	pthread_mutex_unlock(&fs->table);

	rc = dir_get_now(fs, dir);
	if (rc != 0) {
		inode_unref(fs, dir);
		return rc;
	}
	p->dir = dir;
	p->fd = dir->dirfd;
	return 0;
}

void place_put(struct fsys *fs, struct place *p)
{
	if (!p->dir)
		return;
	dir_put(fs, p->dir);
	inode_unref(fs, p->dir);
	p->dir = NULL;
}

static bool is_this(const struct inode *i, const struct stat *st)
{
	return i->key.dev == st->st_dev && i->key.ino == st->st_ino;
}

/* One try at stat or open by place: fd_out NULL is stat. */
static int reach(struct fsys *fs, struct inode *i, int flags, int *fd_out, struct stat *st)
{
	struct place p;
	int fd = -1, rc = place_get(fs, i, &p);

	if (rc != 0)
		return rc;
	if (!fd_out) {
		rc = fstatat(p.fd, p.name, st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 ? 0 : errno;
	} else {
		if (p.name[0]) {
			fd = openat(p.fd, p.name, flags | O_NOFOLLOW | O_CLOEXEC);
		} else if (flags & O_PATH) {
			fd = fcntl(p.fd, F_DUPFD_CLOEXEC, 3);
		} else {
			char path[PROC_FD_PATH];

			fd = open(proc_fd(path, p.fd), (flags & ~O_NOFOLLOW) | O_CLOEXEC);
		}
		rc = fd < 0 ? errno : fstat(fd, st) == 0 ? 0 : errno;
	}
	place_put(fs, &p);
	if (rc == 0 && !is_this(i, st))
		rc = ESTALE;
	if (rc != 0 && fd >= 0)
		close(fd);
	else if (fd_out)
		*fd_out = fd;
	return rc;
}

/* A rename may be halfway between the system call and our table: then wait for it and try once more. */
static bool met_a_rename(int rc)
{
	return rc == ENOENT || rc == ESTALE || rc == ENOTDIR || rc == ELOOP || rc == ENXIO;
}

int inode_stat(struct fsys *fs, struct inode *i, struct stat *st)
{
	int rc = reach(fs, i, 0, NULL, st);

	if (met_a_rename(rc)) {
		pthread_rwlock_wrlock(&fs->names);
		rc = reach(fs, i, 0, NULL, st);
		pthread_rwlock_unlock(&fs->names);
	}
	return rc == ENOENT ? ESTALE : rc;
}

int inode_open(struct fsys *fs, struct inode *i, int flags)
{
	struct stat st = {0};
	int fd = -1, rc = reach(fs, i, flags, &fd, &st);

	if (met_a_rename(rc)) {
		pthread_rwlock_wrlock(&fs->names);
		rc = reach(fs, i, flags, &fd, &st);
		pthread_rwlock_unlock(&fs->names);
	}
	if (rc == ENOENT)
		rc = ESTALE;
	return rc == 0 ? fd : -rc;
}

/* ---- directories ---- */

/* Closes the least recently used directory nobody is using.  Returns its fd or -1; under fs->table. */
static int evict_dirfd(struct fsys *fs)
{
	struct inode *d = NULL, *tmp;

	DL_FOREACH_SAFE(fs->dir_lru, d, tmp)
	{
		if (d->dir_pins == 0 && (d->entry || d->pin_fd >= 0)) {
			int fd = d->dirfd;

			DL_DELETE(fs->dir_lru, d);
			d->dirfd = -1;
			fs->n_dirfds--;
			COUNT_SUB(fs, dirfds, 1);
			return fd;
		}
	}
	return -1;
}

/* dir_get without the slow path: for callers that may hold fs->names. */
static int dir_get_now(struct fsys *fs, struct inode *i)
{
	uint8_t id[ID_BYTES];
	struct stat st = {0};
	int fd, spare = -1, rc = 0;
	bool has_id;

	if (i == &fs->root)
		return 0;
	if (i->type != S_IFDIR)
		return ENOTDIR;
	pthread_mutex_lock(&fs->table);
	if (i->dirfd >= 0) {
		i->dir_pins++;
		if (i->next) { /* not the most recent one already */
			DL_DELETE(fs->dir_lru, i);
			DL_APPEND(fs->dir_lru, i);
		}
		pthread_mutex_unlock(&fs->table);
		return 0;
	}
	has_id = i->has_id;
	pthread_mutex_unlock(&fs->table);

	rc = reach(fs, i, O_PATH | O_DIRECTORY, &fd, &st);
	if (rc != 0)
		return rc;
	if (!has_id) {
		rc = dir_id_load(fs, fd, &st, id);
		if (rc != 0) {
			close(fd);
			return rc;
		}
	}
	pthread_mutex_lock(&fs->table);
	if (!i->has_id) {
		memcpy(i->id, id, ID_BYTES);
		i->has_id = true;
	}
	if (i->dirfd < 0) {
		i->dirfd = fd;
		fd = -1;
		DL_APPEND(fs->dir_lru, i);
		COUNT_ADD(fs, dirfds, 1);
		i->dir_pins++; /* before eviction, so that it isn't ours that goes */
		if (++fs->n_dirfds > fs->max_dirfds)
			spare = evict_dirfd(fs);
	} else {
		i->dir_pins++;
	}
	pthread_mutex_unlock(&fs->table);
	if (fd >= 0)
		close(fd);
	if (spare >= 0)
		close(spare);
	return 0;
}

int dir_get(struct fsys *fs, struct inode *i)
{
	int rc = dir_get_now(fs, i);

	if (met_a_rename(rc)) {
		pthread_rwlock_wrlock(&fs->names);
		rc = dir_get_now(fs, i);
		pthread_rwlock_unlock(&fs->names);
	}
	return rc == ENOENT ? ESTALE : rc;
}

void dir_put(struct fsys *fs, struct inode *i)
{
	if (i == &fs->root)
		return;
	pthread_mutex_lock(&fs->table);
	i->dir_pins--;
	pthread_mutex_unlock(&fs->table);
}

/* ---- table ---- */

int inode_table_init(struct fsys *fs)
{
	pthread_rwlockattr_t attr;
	struct rlimit rl;
	struct stat st;

	pthread_mutex_init(&fs->table, NULL);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&fs->names, &attr);
	pthread_rwlockattr_destroy(&attr);

	fs->max_dirfds = fs->opt.max_dirfds;
	if (fs->max_dirfds == 0) {
		fs->max_dirfds = DEFAULT_DIRFDS;
		/* leave most of a small limit to open files */
		if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
			rl.rlim_cur = rl.rlim_max;
			(void)setrlimit(RLIMIT_NOFILE, &rl);
			if (rl.rlim_cur / 8 < fs->max_dirfds)
				fs->max_dirfds = (unsigned)(rl.rlim_cur / 8);
		}
	}
	fs->root.pin_fd = -1;
	fs->root.type = S_IFDIR;
	fs->root.has_id = true; /* sixteen zero bytes */
	fs->root.dirfd = openat(fs->volume->dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fs->root.dirfd < 0 || fstat(fs->root.dirfd, &st) != 0)
		return errno;
	fs->root.key.dev = st.st_dev;
	fs->root.key.ino = st.st_ino;
	return 0;
}

void inode_table_free(struct fsys *fs)
{
	struct inode *i, *tmp;

	HASH_CLEAR(hh_entry, fs->by_entry);
	HASH_ITER(hh_key, fs->by_key, i, tmp)
	{
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): uthash frees its table with the last element only */
		HASH_DELETE(hh_key, fs->by_key, i);
		if (i->dirfd >= 0)
			close(i->dirfd);
		if (i->pin_fd >= 0)
			close(i->pin_fd);
		free(i->entry);
		free(i);
	}
	if (fs->root.dirfd >= 0)
		close(fs->root.dirfd);
	pthread_mutex_destroy(&fs->table);
	pthread_rwlock_destroy(&fs->names);
}
