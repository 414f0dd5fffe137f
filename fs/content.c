/* SPDX-License-Identifier: Apache-2.0 */
/* content - opening, reading the end of a file as FORMAT.md section 4 lays down, and mending it.  See content.h. */
#include "fs/content.h"

#include "fs/bufpool.h"
#include "fs/fsys_internal.h"
#include "fs/gate.h"
#include <sys/stat.h>

/* ---- small helpers ---- */

bool is_zero(const void *p, size_t len)
{
	const unsigned char *b = p;

	return len == 0 || (b[0] == 0 && memcmp(b, b + 1, len - 1) == 0);
}

/* Bytes read; less than len only at the end of the file; -1 with errno. */
ssize_t pread_full(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Bytes written; less than len only on an error, which is in errno; -1 if nothing was. */
ssize_t pwrite_full(int fd, const void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ENOSPC;
			return done > 0 ? (ssize_t)done : -1;
		}
		done += (size_t)n;
	}
	return (ssize_t)done;
}

uint64_t plain_size(uint64_t backing)
{
	uint64_t n = backing / SECTOR_BYTES, l = backing % SECTOR_BYTES;

	if (n == 0)
		return 0;
	if (l > sector_capacity(n - 1)) /* no size of ours; open() will look into it */
		l = sector_capacity(n - 1);
	return sector_start(n - 1) + l;
}

/* ---- ranges ---- */

static bool conflicts(const struct range *a, const struct range *b)
{
	return (a->excl || b->excl) && a->first <= b->last && b->first <= a->last;
}

static bool must_wait(const struct content *c, const struct range *r)
{
	for (const struct range *o = c->ranges; o != r; o = o->next) {
		if (conflicts(o, r))
			return true;
	}
	return false;
}

void range_lock(struct content *c, struct range *r, uint64_t first, uint64_t last, bool excl)
{
	r->first = first;
	r->last = last;
	r->excl = excl;
	pthread_mutex_lock(&c->lock);
	DL_APPEND(c->ranges, r);
	while (must_wait(c, r))
		pthread_cond_wait(&c->freed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void range_unlock(struct content *c, struct range *r)
{
	bool others;

	pthread_mutex_lock(&c->lock);
	DL_DELETE(c->ranges, r);
	others = c->ranges != NULL;
	pthread_mutex_unlock(&c->lock);
	if (others)
		pthread_cond_broadcast(&c->freed);
}

uint64_t content_size(struct content *c)
{
	uint64_t size;

	pthread_mutex_lock(&c->lock);
	size = c->size;
	pthread_mutex_unlock(&c->lock);
	return size;
}

/* The descriptor, for callers that hold no range: the old one stays open when a writer replaces it. */
int content_fd(struct content *c)
{
	int fd;

	pthread_mutex_lock(&c->lock);
	fd = c->fd;
	pthread_mutex_unlock(&c->lock);
	return fd;
}

/* ---- single sectors ---- */

/* The caller holds the sector. */
void tail_set(struct content *c, uint64_t sector, const uint8_t *payload)
{
	if (!c->tail)
		c->tail = buf_page_try();
	if (!c->tail)
		return;
	atomic_store_explicit(&c->tail_sector, NO_SECTOR, memory_order_relaxed);
	memcpy(c->tail, payload, sector_capacity(sector));
	atomic_store_explicit(&c->tail_sector, sector, memory_order_release);
}

enum err content_sealer(struct fsys *fs, struct content *c, uint64_t s, struct sealer **out)
{
	enum err e = sealer_get(fs->vk, c->header.file_id, s, out);

	/* looked at with the sealer in hand: a lock takes it away before it wipes what this request works on */
	if (e == ERR_OK && !gate_is_current(fs)) {
		sealer_put(*out);
		*out = NULL;
		return ERR_KEY_UNAVAILABLE;
	}
	return e;
}

static int sector_open_raw(
	struct fsys *fs, struct content *c, uint64_t s, const uint8_t *raw, uint8_t *payload, uint32_t *meta)
{
	struct sealer *sealer;
	enum err e = content_sealer(fs, c, s, &sealer);

	if (e == ERR_OK) {
		e = sector_open(sealer, s, raw, payload, meta);
		sealer_put(sealer);
	}
	return crypt_errno(fs, e, "sector", c->inode->key.ino, s);
}

/*
 * Reads and opens one sector of the file; payload gets its whole capacity.  A hole reads as zeros (and meta 0).  The
 * cached tail serves only callers who don't want meta.
 */
int sector_read(struct fsys *fs, struct content *c, uint64_t s, uint8_t *payload, uint32_t *meta)
{
	uint32_t found = 0;
	uint8_t *raw;
	ssize_t n;
	int rc;

	if (!meta && atomic_load_explicit(&c->tail_sector, memory_order_acquire) == s) {
		memcpy(payload, c->tail, sector_capacity(s));
		return 0;
	}
	raw = buf_get(BUF_PLAIN, SECTOR_BYTES);
	if (!raw)
		return ENOMEM;
	n = pread_full(c->fd, raw, SECTOR_BYTES, s * SECTOR_BYTES);
	if (n < 0) {
		rc = errno;
	} else if ((size_t)n < SECTOR_BYTES) {
		rc = damage(fs, "sector missing", c->inode->key.ino, s);
	} else if (s != 0 && is_zero(raw, SECTOR_BYTES)) {
		memset(payload, 0, sector_capacity(s));
		rc = (c->header.incompat & HEADER_HOLES) || c->suspect
			     ? 0
			     : damage(fs, "sector zeroed", c->inode->key.ino, s);
	} else {
		rc = sector_open_raw(fs, c, s, raw, payload, &found);
	}
	if (meta)
		*meta = found;
	buf_put(BUF_PLAIN, raw, SECTOR_BYTES);
	return rc;
}

int sector_write(struct fsys *fs, struct content *c, uint64_t s, const uint8_t *payload, uint32_t len, bool final)
{
	uint8_t head[HEADER_BYTES], *raw = buf_get(BUF_PLAIN, SECTOR_BYTES);
	struct sealer *sealer;
	enum err e;
	int rc = 0;

	if (!raw)
		return ENOMEM;
	if (s == 0)
		header_encode(&c->header, head);
	e = content_sealer(fs, c, s, &sealer);
	if (e == ERR_OK) {
		e = sector_seal(sealer, s, META(fs->stamp, final, len), s == 0 ? head : NULL, payload, raw);
		sealer_put(sealer);
	}
	if (e != ERR_OK)
		rc = err_to_errno(e);
	else if (pwrite_full(c->fd, raw, SECTOR_BYTES, s * SECTOR_BYTES) != SECTOR_BYTES)
		rc = errno;
	buf_put(BUF_PLAIN, raw, SECTOR_BYTES);
	return rc;
}

/* ---- loading ---- */

void content_tear(struct fsys *fs, struct content *c)
{
	struct inode *i = c->inode;

	atomic_store(&c->tail_sector, NO_SECTOR);
	c->loaded = false;
	if (atomic_exchange(&i->torn, true))
		return;
	inode_ref(fs, i); /* remembered until it is mended */
	atomic_fetch_add(&fs->torn, 1);
}

static void torn_mended(struct fsys *fs, struct inode *i)
{
	if (!atomic_exchange(&i->torn, false))
		return;
	atomic_fetch_sub(&fs->torn, 1);
	inode_unref(fs, i); /* not the last one: c has one too */
}

/* May the file be in the middle of a change?  After an unclean session, or if a lock cut the change short. */
static bool may_be_cut(const struct fsys *fs, const struct content *c)
{
	return fs->any_unclean || c->inode->torn;
}

static bool stamp_cut(struct fsys *fs, const struct content *c, uint16_t stamp)
{
	return stamp_unclean(fs, stamp) || c->inode->torn;
}

static int tolerate(struct fsys *fs, struct content *c, bool evidence, const char *what, uint64_t sector)
{
	if (!evidence)
		return damage(fs, what, c->inode->key.ino, sector);
	accepted(fs, what, c->inode->key.ino, sector);
	c->mend = true;
	return 0;
}

static int load_empty(struct fsys *fs, struct content *c, const char *what)
{
	int rc = tolerate(fs, c, may_be_cut(fs, c), what, 0);

	if (rc != 0)
		return rc;
	/* never synced, so nothing of it is worth keeping: begins anew with a new id */
	c->fresh = true;
	c->size = 0;
	return 0;
}

/* Sector 0: fills c->header.  raw: at least SECTOR_BYTES as read. */
static int load_first(struct fsys *fs, struct content *c, const uint8_t *raw, uint8_t *payload, uint32_t *meta)
{
	uint64_t ino = c->inode->key.ino;
	struct sealer *sealer;
	enum err e = header_decode(raw + SECTOR_META_BYTES, &c->header);

	if (e == ERR_UNSUPPORTED)
		return crypt_errno(fs, e, "header of a newer version", ino, 0);
	if (e != ERR_OK || c->header.suite != (uint16_t)volkeys_suite(fs->vk))
		return damage(fs, "header", ino, 0);
	e = content_sealer(fs, c, 0, &sealer);
	if (e == ERR_OK) {
		e = sector_open(sealer, 0, raw, payload, meta);
		sealer_put(sealer);
	}
	return crypt_errno(fs, e, "header", ino, 0);
}

/* The last sector before n that is not all zero; n itself is known to be more than 1. */
static int find_last(struct fsys *fs, struct content *c, uint64_t n, uint8_t *page, uint64_t *out)
{
	(void)fs;
	for (uint64_t s = n; s-- > 1;) {
		off_t data = lseek(c->fd, (off_t)(s * SECTOR_BYTES), SEEK_DATA);

		if (data < 0 && errno == ENXIO) {
			/* nothing from here on: jump over the hole by bisection */
			uint64_t lo = 1, hi = s;

			while (lo < hi) {
				uint64_t mid = lo + (hi - lo) / 2;

				if (lseek(c->fd, (off_t)(mid * SECTOR_BYTES), SEEK_DATA) < 0)
					hi = mid;
				else
					lo = mid + 1;
			}
			s = lo;
			continue;
		}
		if (pread_full(c->fd, page, SECTOR_BYTES, s * SECTOR_BYTES) != SECTOR_BYTES)
			return EIO;
		if (!is_zero(page, SECTOR_BYTES)) {
			*out = s;
			return 0;
		}
	}
	*out = 0;
	return 0;
}

/* A file of n > 1 sectors whose first is not final: finds the end.  payload: room for one sector. */
static int load_end(struct fsys *fs, struct content *c, uint64_t n, uint64_t rest, uint8_t *payload, uint8_t *raw)
{
	uint64_t e = n - 1;
	uint32_t meta = 0;
	int rc = find_last(fs, c, n, raw, &e);

	if (rc != 0)
		return rc;
	if (e != n - 1) {
		rc = tolerate(fs, c, may_be_cut(fs, c), "size ahead of data", n - 1);
		if (rc != 0)
			return rc;
		rest = UINT64_MAX;
	}
	rc = sector_read(fs, c, e, payload, &meta);
	if (rc != 0)
		return rc;
	if (!(meta & META_FINAL)) {
		rc = tolerate(fs, c, stamp_cut(fs, c, META_STAMP(meta)), "end missing", e);
		if (rc != 0)
			return rc;
	} else if (META_LENGTH(meta) != rest && rest != UINT64_MAX) {
		rc = tolerate(fs, c, may_be_cut(fs, c), "size differs", e);
		if (rc != 0)
			return rc;
	}
	c->size = sector_start(e) + META_LENGTH(meta);
	c->suspect = e > 1 && !(c->header.incompat & HEADER_HOLES) && stamp_unclean(fs, META_STAMP(meta));
	if (c->suspect)
		c->mend = true;
	tail_set(c, e, payload);
	return 0;
}

static int load_sectors(struct fsys *fs, struct content *c, uint64_t size, uint8_t *raw, uint8_t *payload)
{
	uint64_t n = size / SECTOR_BYTES, rest = size % SECTOR_BYTES, ino = c->inode->key.ino;
	size_t want = n == 1 ? SECTOR_BYTES + rest : SECTOR_BYTES;
	ssize_t got = pread_full(c->fd, raw, want, 0);
	uint32_t meta = 0;
	int rc;

	if (got < 0)
		return errno;
	if ((size_t)got < want)
		return damage(fs, "cut short while open", ino, 0);
	if (is_zero(raw, SECTOR_BYTES))
		return load_empty(fs, c, "first sector never synced");
	rc = load_first(fs, c, raw, payload, &meta);
	if (rc != 0)
		return rc;
	if (n > 1 && rest > 0) {
		got = pread_full(c->fd, raw, rest, n * SECTOR_BYTES);
		if (got < 0)
			return errno;
	}
	/* bytes of the size hint are a hole */
	if (rest > 0 && !is_zero(n > 1 ? raw : raw + SECTOR_BYTES, rest)) {
		rc = tolerate(fs, c, may_be_cut(fs, c), "bytes behind the last sector", n);
		if (rc != 0)
			return rc;
	}
	if (c->header.incompat & HEADER_TRUNC) {
		if (last_sector(c->header.trunc_length) >= n)
			return damage(fs, "truncation beyond the end", ino, 0);
		c->size = c->header.trunc_length;
		c->mend = true;
		accepted(fs, "truncation not finished", ino, 0);
		return 0;
	}
	if (!(meta & META_FINAL) && n > 1)
		return load_end(fs, c, n, rest, payload, raw);

	if (!(meta & META_FINAL))
		rc = tolerate(fs, c, stamp_cut(fs, c, META_STAMP(meta)), "end missing", 0);
	else if (n > 1)
		rc = tolerate(fs, c, may_be_cut(fs, c), "sectors behind the end", 1);
	else if (META_LENGTH(meta) != rest)
		rc = tolerate(fs, c, may_be_cut(fs, c), "size differs", 0);
	if (rc != 0)
		return rc;
	c->size = META_LENGTH(meta);
	tail_set(c, 0, payload);
	return 0;
}

/* Reads header and end; the caller holds all sectors, or nobody else has c yet. */
int content_load(struct fsys *fs, struct content *c)
{
	uint8_t *raw, *payload;
	struct stat st;
	int rc;

	if (c->loaded)
		return c->damaged ? EIO : 0;
	if (fstat(c->fd, &st) != 0)
		return errno;
	if ((uint64_t)st.st_size < SECTOR_BYTES) {
		rc = load_empty(fs, c, "never written");
	} else {
		raw = buf_get(BUF_PLAIN, (size_t)2 * SECTOR_BYTES);
		payload = buf_page();
		rc = raw && payload ? load_sectors(fs, c, (uint64_t)st.st_size, raw, payload) : ENOMEM;
		buf_page_put(payload);
		buf_put(BUF_PLAIN, raw, (size_t)2 * SECTOR_BYTES);
	}
	if (rc == 0 && c->fresh) {
		memset(&c->header, 0, sizeof(c->header));
		c->header.version = 1;
		c->header.suite = (uint16_t)volkeys_suite(fs->vk);
		rc = err_to_errno(volkeys_random_id(fs->vk, c->header.file_id));
	}
	if (rc != 0 && rc != EIO)
		return rc; /* not the file's fault: try again next time */
	c->loaded = true;
	c->damaged = rc != 0;
	if (rc == 0 && !c->mend && !c->fresh)
		torn_mended(fs, c->inode);
	return rc;
}

int content_ready(struct fsys *fs, struct content *c)
{
	struct range all;
	int rc;

	if (c->loaded)
		return 0;
	range_lock(c, &all, 0, SECTORS_ALL, true);
	rc = content_load(fs, c);
	range_unlock(c, &all);
	return rc;
}

/*
 * Sets the backing size of a file that gets shorter.  What is left of a sector cut in half must not show up in the
 * (zero) bytes of the size hint, and no page may be changed for that, since the old size may come back in a crash: so
 * first to the edge of the sector, then up to the hint.
 */
int cut_below(struct content *c, uint64_t size)
{
	off_t edge = (off_t)((last_sector(size) + 1) * SECTOR_BYTES);
	struct stat st;

	if (fstat(c->fd, &st) != 0 || (st.st_size > edge && ftruncate(c->fd, edge) != 0) ||
		ftruncate(c->fd, (off_t)backing_size(size)) != 0)
		return errno;
	return 0;
}

/* ---- mending; the caller holds all sectors exclusively ---- */

int header_rewrite(struct fsys *fs, struct content *c)
{
	uint8_t *payload = buf_page();
	uint64_t size = c->size;
	int rc;

	if (!payload)
		return ENOMEM;
	rc = sector_read(fs, c, 0, payload, NULL);
	if (rc == 0)
		rc = sector_write(
			fs, c, 0, payload, (uint32_t)(size < PAYLOAD0 ? size : PAYLOAD0), last_sector(size) == 0);
	buf_page_put(payload);
	return rc;
}

int holes_allow(struct fsys *fs, struct content *c)
{
	int rc;

	if (c->header.incompat & HEADER_HOLES)
		return 0;
	c->header.incompat |= HEADER_HOLES;
	if (c->fresh)
		rc = content_settle(fs, c);
	else
		rc = header_rewrite(fs, c);
	if (rc == 0 && fdatasync(c->fd) != 0)
		rc = errno;
	if (rc != 0)
		c->header.incompat &= (uint16_t)~HEADER_HOLES;
	return rc;
}

/* Brings the last sector and the size in line with c->size. */
static int end_rewrite(struct fsys *fs, struct content *c)
{
	uint64_t e = last_sector(c->size);
	uint32_t len = (uint32_t)(c->size - sector_start(e));
	uint8_t *payload = buf_page();
	int rc;

	if (!payload)
		return ENOMEM;
	rc = sector_read(fs, c, e, payload, NULL);
	if (rc == 0) {
		memset(payload + len, 0, sector_capacity(e) - len);
		rc = sector_write(fs, c, e, payload, len, true);
	}
	if (rc == 0) {
		tail_set(c, e, payload);
		rc = cut_below(c, c->size);
	}
	buf_page_put(payload);
	return rc;
}

static int mend(struct fsys *fs, struct content *c)
{
	int rc = 0;

	if (c->fresh)
		return content_settle(fs, c);
	if (c->suspect)
		rc = holes_allow(fs, c);
	if (rc == 0)
		rc = end_rewrite(fs, c);
	if (rc == 0 && c->header.incompat & HEADER_TRUNC) {
		if (fdatasync(c->fd) != 0)
			return errno;
		c->header.incompat &= (uint16_t)~HEADER_TRUNC;
		c->header.trunc_length = 0;
		rc = header_rewrite(fs, c);
	}
	if (rc == 0) {
		c->mend = c->suspect = false;
		torn_mended(fs, c->inode);
	}
	return rc;
}

int content_mend(struct fsys *fs, struct content *c)
{
	struct timespec keep[2] = {{.tv_nsec = UTIME_OMIT}};
	struct stat st;
	int rc;

	if (!c->mend)
		return 0;
	if (fstat(c->fd, &st) != 0)
		return errno;
	rc = mend(fs, c);
	keep[1] = st.st_mtim;
	if (rc == 0)
		(void)futimens(c->fd, keep);
	return rc;
}

int content_verify(struct fsys *fs, struct inode *i, uint64_t *size)
{
	struct content *c;
	struct range all;
	int rc = content_open(fs, i, false, -1, &c);

	if (rc != 0)
		return rc;
	if (c->mend && !fs->opt.read_only) {
		struct content *w;

		rc = content_open(fs, i, true, -1, &w); /* the same, made writable */
		if (rc == 0) {
			range_lock(w, &all, 0, SECTORS_ALL, true);
			rc = content_mend(fs, w);
			range_unlock(w, &all);
			content_close(fs, w);
		}
	}
	*size = content_size(c);
	content_close(fs, c);
	return rc;
}

int content_settle(struct fsys *fs, struct content *c)
{
	struct timespec keep[2] = {{.tv_nsec = UTIME_OMIT}};
	uint8_t *payload;
	struct stat st;
	int rc;

	if (!c->fresh || !c->writable)
		return 0;
	payload = buf_page();
	if (!payload)
		return ENOMEM;
	memset(payload, 0, PAYLOAD0);
	/* nobody wrote anything: times that were set (cp -p of an empty file) stay */
	rc = fstat(c->fd, &st) != 0 || (c->mend && ftruncate(c->fd, 0) != 0) ? errno : 0;
	if (rc == 0)
		rc = sector_write(fs, c, 0, payload, 0, true);
	if (rc == 0) {
		keep[1] = st.st_mtim;
		(void)futimens(c->fd, keep);
		c->fresh = c->mend = false;
		torn_mended(fs, c->inode);
		tail_set(c, 0, payload);
	}
	buf_page_put(payload);
	return rc;
}

/* ---- opening and closing ---- */

/* O_RDWR even for a write-only open, since sectors are read to be changed.  The owner may lack a permission that
 * writing needs and ext4 would not ask for (a file of mode 0200): lend it to ourselves for the moment of the open. */
static int open_backing(struct fsys *fs, struct inode *i, bool write)
{
	int flags = (write ? O_RDWR : O_RDONLY) | O_NONBLOCK; /* should somebody have put a FIFO there */
	int fd = inode_open(fs, i, flags), path;
	char proc[PROC_FD_PATH];
	struct stat st;

	if (fd != -EACCES)
		return fd;
	path = inode_open(fs, i, O_PATH);
	if (path < 0)
		return path;
	if (fstat(path, &st) == 0 && st.st_uid == geteuid() && chmod(proc_fd(proc, path), st.st_mode | 0600) == 0) {
		fd = inode_open(fs, i, flags);
		(void)!chmod(proc_fd(proc, path), st.st_mode & 07777);
	}
	close(path);
	return fd;
}

static struct content *content_new(struct fsys *fs, struct inode *i)
{
	struct content *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->freed, NULL);
	c->fd = c->fd_old = -1;
	c->refs = 1;
	c->tail_sector = NO_SECTOR;
	c->inode = i;
	(void)fs;
	return c;
}

static void content_free(struct content *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->fd_old >= 0)
		close(c->fd_old);
	buf_page_put(c->tail);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->freed);
	free(c);
}

struct content *content_peek(struct fsys *fs, struct inode *i)
{
	struct content *c;

	pthread_mutex_lock(&fs->table);
	c = i->content;
	if (c)
		c->refs++;
	pthread_mutex_unlock(&fs->table);
	return c;
}

void content_close(struct fsys *fs, struct content *c)
{
	struct inode *i = c->inode;
	struct range all;
	bool last;

	/* The last one out writes the header, while the content can still be found: whoever opens the file now must not
	 * load it halfway. */
	pthread_mutex_lock(&fs->table);
	last = c->refs == 1 && c->fresh && c->writable;
	pthread_mutex_unlock(&fs->table);
	if (last) {
		int rc;

		range_lock(c, &all, 0, SECTORS_ALL, true);
		rc = content_settle(fs, c);
		if (rc == ENOKEY) {
			content_tear(fs, c);
		} else if (rc != 0) {
			/* disk full: the empty file stays without a header, as after a crash, and is told to be all
			 * right as then */
			atomic_store(&fs->unsound, true);
			fs->any_unclean = true;
		}
		range_unlock(c, &all);
	}
	pthread_mutex_lock(&fs->table);
	last = --c->refs == 0;
	if (last) {
		i->content = NULL;
		DL_DELETE(fs->contents, c);
	}
	pthread_mutex_unlock(&fs->table);
	if (!last)
		return;
	COUNT_SUB(fs, open_files, 1);
	content_free(c);
	inode_unref(fs, i);
}

/* Gets the descriptor a new opener needs; the caller holds all sectors exclusively. */
static int upgrade(struct fsys *fs, struct content *c, bool write, int fd)
{
	if (fd < 0 && c->fd >= 0 && (c->writable || !write))
		return 0;
	if (fd < 0) {
		fd = open_backing(fs, c->inode, write);
		if (fd < 0)
			return -fd;
	}
	pthread_mutex_lock(&c->lock);
	if (c->fd_old >= 0)
		close(c->fd_old);
	c->fd_old = c->fd; /* a reader may be about to use it */
	c->fd = fd;
	c->writable = write;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

int content_open(struct fsys *fs, struct inode *i, bool write, int fd, struct content **out)
{
	struct content *c, *made = content_new(fs, i);
	bool fresh = fd >= 0;
	struct range all;
	int rc = 0;

	if (!made) {
		if (fd >= 0)
			close(fd);
		return ENOMEM;
	}
	pthread_mutex_lock(&fs->table);
	c = i->content;
	if (c) {
		c->refs++;
	} else {
		c = i->content = made;
		if (i != &fs->root)
			i->refs++;
		DL_APPEND(fs->contents, c);
		COUNT_ADD(fs, open_files, 1);
		made = NULL;
	}
	pthread_mutex_unlock(&fs->table);
	if (made)
		content_free(made);

	range_lock(c, &all, 0, SECTORS_ALL, true);
	rc = upgrade(fs, c, write, fd);
	if (rc == 0 && fresh && !c->loaded) {
		c->loaded = c->fresh = true;
		c->header.version = 1;
		c->header.suite = (uint16_t)volkeys_suite(fs->vk);
		rc = err_to_errno(volkeys_random_id(fs->vk, c->header.file_id));
	}
	if (rc == 0)
		rc = content_load(fs, c);
	if (rc == 0 && write && c->header.ro_compat != 0)
		rc = EROFS; /* a newer version keeps something in this file that we would not */
	range_unlock(c, &all);
	if (rc != 0) {
		content_close(fs, c);
		return rc;
	}
	*out = c;
	return 0;
}

int content_file_id(struct fsys *fs, struct content *c, uint8_t id[static ID_BYTES])
{
	struct range all;
	int rc;

	range_lock(c, &all, 0, SECTORS_ALL, true);
	rc = content_load(fs, c);
	if (rc == 0)
		rc = content_settle(fs, c);
	if (rc == 0 && c->fresh)
		rc = EROFS; /* nothing on disk to bind to, and we may not write */
	if (rc == 0)
		memcpy(id, c->header.file_id, ID_BYTES);
	range_unlock(c, &all);
	return rc;
}

int content_sync(struct fsys *fs, struct content *c, bool datasync)
{
	struct range all;
	int rc = 0;

	if (c->fresh && c->writable) {
		range_lock(c, &all, 0, SECTORS_ALL, true);
		rc = content_settle(fs, c);
		range_unlock(c, &all);
	}
	if (rc == 0 && (datasync ? fdatasync(content_fd(c)) : fsync(content_fd(c))) != 0)
		rc = errno;
	return rc;
}
