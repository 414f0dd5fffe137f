/* SPDX-License-Identifier: Apache-2.0 */
/* content_io - reading and changing the bytes of a file.  See content.h; the order of writes is that of
 * crypto/FORMAT.md section 4. */
#include "fs/content.h"

#include "fs/bufpool.h"
#include "fs/fsys_internal.h"
#include <linux/falloc.h>
#include <sys/stat.h>

#define CHUNK_SECTORS 256u /* sealed and written at once */
#define GAP_SECTORS   16u  /* a gap of up to this many is filled with sealed zeros: 64 KiB */

static const uint8_t zeros[SECTOR_BYTES];

/* ---- reading ---- */

/* Opens raw sector s where it lies; the payload is then at raw + its offset.  Holes become zeros. */
static int open_in_place(struct fsys *fs, struct content *c, struct sealer *sealer, uint64_t s, uint8_t *raw)
{
	size_t skip = SECTOR_META_BYTES + (s == 0 ? HEADER_BYTES : 0);
	uint32_t meta;

	/* A sealed sector starts with a nonce; twelve zero bytes are the reason to look closer. */
	if (s != 0 && is_zero(raw, SECTOR_META_BYTES) && is_zero(raw, SECTOR_BYTES)) {
		if (c->header.incompat & HEADER_HOLES)
			return 0;
		if (!c->suspect)
			return damage(fs, "sector zeroed", c->inode->key.ino, s);
		accepted(fs, "sector never synced", c->inode->key.ino, s);
		return 0;
	}
	return crypt_errno(fs, sector_open(sealer, s, raw, raw + skip, &meta), "sector", c->inode->key.ino, s);
}

static int open_run(struct fsys *fs, struct content *c, uint64_t first, uint64_t last, uint8_t *raw)
{
	struct sealer *sealer = NULL;
	int rc = 0;

	for (uint64_t s = first; s <= last && rc == 0; s++, raw += SECTOR_BYTES) {
		if (!sealer || (s & ((1u << SEGMENT_SHIFT) - 1)) == 0) {
			enum err e;

			sealer_put(sealer);
			e = content_sealer(fs, c, s, &sealer);
			if (e != ERR_OK)
				return err_to_errno(e);
		}
		rc = open_in_place(fs, c, sealer, s, raw);
	}
	sealer_put(sealer);
	return rc;
}

static int read_cached_tail(struct content *c, uint64_t off, size_t len, struct content_read *r)
{
	r->buf_len = len;
	r->buf = buf_get(BUF_LOCKED, len);
	if (!r->buf)
		return ENOMEM;
	memcpy(r->buf, c->tail + (off - sector_start(sector_of(off))), len);
	r->iov = r->iov_few;
	r->iov[0] = (struct iovec){r->buf, len};
	r->n_iov = 1;
	r->len = len;
	return 0;
}

static int read_sectors(struct fsys *fs, struct content *c, uint64_t off, size_t len, struct content_read *r)
{
	uint64_t first = sector_of(off), last = sector_of(off + len - 1);
	size_t n = (size_t)(last - first + 1), bytes = n * SECTOR_BYTES;
	uint8_t *raw;
	ssize_t got;
	int rc;

	/* the list of pieces lies behind the sectors */
	r->buf_len = bytes + n * sizeof(struct iovec);
	raw = r->buf = buf_get(BUF_LOCKED, r->buf_len);
	if (!raw)
		return ENOMEM;
	got = pread_full(c->fd, raw, bytes, first * SECTOR_BYTES);
	if (got < 0)
		return errno;
	if ((size_t)got < bytes)
		return damage(fs, "sector missing", c->inode->key.ino, first + (size_t)got / SECTOR_BYTES);
	rc = open_run(fs, c, first, last, raw);
	if (rc != 0)
		return rc;
	r->iov = n <= 4 ? r->iov_few : (struct iovec *)(void *)(raw + bytes);
	for (size_t k = 0; k < n; k++) {
		uint64_t s = first + k, start = sector_start(s), from = k == 0 ? off - start : 0;
		uint64_t to = off + len - start < sector_capacity(s) ? off + len - start : sector_capacity(s);
		size_t skip = SECTOR_META_BYTES + (s == 0 ? HEADER_BYTES : 0);

		r->iov[k] = (struct iovec){raw + k * SECTOR_BYTES + skip + from, (size_t)(to - from)};
	}
	r->n_iov = (int)n;
	r->len = len;
	return 0;
}

int content_read(struct fsys *fs, struct content *c, uint64_t off, size_t len, struct content_read *r)
{
	struct range range;
	uint64_t size;
	int rc = 0;

	r->buf = NULL;
	r->n_iov = 0;
	r->len = 0;
	if (len == 0 || off >= CONTENT_MAX)
		return 0;
	rc = content_ready(fs, c);
	if (rc != 0)
		return rc;
	range_lock(c, &range, sector_of(off), sector_of(off + len - 1), false);
	size = content_size(c);
	if (off < size) {
		if (len > size - off)
			len = (size_t)(size - off);
		if (atomic_load_explicit(&c->tail_sector, memory_order_acquire) == sector_of(off) &&
			sector_of(off) == sector_of(off + len - 1))
			rc = read_cached_tail(c, off, len, r);
		else
			rc = read_sectors(fs, c, off, len, r);
	}
	range_unlock(c, &range);
	if (rc != 0)
		content_read_done(r);
	return rc;
}

void content_read_done(struct content_read *r)
{
	if (r->buf)
		buf_put(BUF_LOCKED, r->buf, r->buf_len);
	r->buf = NULL;
}

/* ---- writing ---- */

/* A write as the sectors see it. */
struct job {
	uint64_t off; /* of the data */
	const uint8_t *data;
	uint64_t len;
	uint64_t old_size, new_size;
	uint64_t end_sector; /* last one of new_size */
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Bytes sector s uses of a file of this size. */
static uint32_t used_in(uint64_t s, uint64_t size)
{
	uint64_t start = sector_start(s);

	return size <= start ? 0 : (uint32_t)min_u64(size - start, sector_capacity(s));
}

/* What of sector s the job has the data for: [from, to) of its payload. */
static void new_part(const struct job *j, uint64_t s, uint64_t *from, uint64_t *to)
{
	uint64_t start = sector_start(s);

	*from = j->off > start ? j->off - start : 0;
	*to = j->off + j->len > start ? min_u64(j->off + j->len - start, sector_capacity(s)) : 0;
	if (*from >= *to)
		*from = *to = 0;
}

static bool all_new(const struct job *j, uint64_t s)
{
	uint64_t from, to;

	new_part(j, s, &from, &to);
	return from == 0 && to >= used_in(s, j->new_size) && to > 0;
}

/* Puts what sector s is going to hold together in page, which reads the old one if only a part is new. */
static int merge_one(struct fsys *fs, struct content *c, const struct job *j, uint64_t s, uint8_t *page)
{
	uint64_t start = sector_start(s), from, to;
	uint32_t had = used_in(s, j->old_size);
	int rc;

	new_part(j, s, &from, &to);
	if (had > 0 && !c->fresh) {
		rc = sector_read(fs, c, s, page, NULL);
		if (rc != 0)
			return rc;
		memset(page + had, 0, sector_capacity(s) - had);
	} else {
		memset(page, 0, sector_capacity(s));
	}
	if (to > from)
		memcpy(page + from, j->data + (start + from - j->off), to - from);
	return 0;
}

/* Seals sector s of the job into raw; page: the merged one, or scratch space if all of it is new. */
static int seal_one(struct fsys *fs, struct content *c, const struct job *j, struct sealer *sealer, uint64_t s,
	uint8_t *page, uint8_t *raw)
{
	uint32_t has = used_in(s, j->new_size);
	/* all new: straight from the caller's buffer */
	const uint8_t *payload = all_new(j, s) ? j->data + (sector_start(s) - j->off) : page;
	uint8_t head[HEADER_BYTES];
	int rc;

	if (s == 0)
		header_encode(&c->header, head);
	rc = err_to_errno(
		sector_seal(sealer, s, META(fs->stamp, s == j->end_sector, has), s == 0 ? head : NULL, payload, raw));
	if (rc == 0 && s == j->end_sector) {
		if (payload != page) {
			memcpy(page, payload, has);
			memset(page + has, 0, sector_capacity(s) - has);
		}
		tail_set(c, s, page);
	} else if (rc == 0 && atomic_load_explicit(&c->tail_sector, memory_order_relaxed) == s) {
		atomic_store_explicit(&c->tail_sector, NO_SECTOR, memory_order_relaxed);
	}
	return rc;
}

/*
 * Space ran out (or worse) after sector last_done of a job that makes the file longer: what is on disk must end
 * soundly. raw: last_done as sealed.  Sets c->size to what the file now has; the caller reports a short write.
 */
static int cut_back(
	struct fsys *fs, struct content *c, const struct job *j, uint64_t last_done, const uint8_t *raw, uint8_t *page)
{
	uint64_t size = min_u64(j->new_size, sector_start(last_done) + sector_capacity(last_done));
	struct sealer *sealer;
	uint32_t meta;
	enum err e = content_sealer(fs, c, last_done, &sealer);
	int rc;

	if (e == ERR_OK) {
		e = sector_open(sealer, last_done, raw, page, &meta);
		sealer_put(sealer);
	}
	rc = err_to_errno(e);
	if (rc == 0)
		rc = sector_write(fs, c, last_done, page, used_in(last_done, size), true);
	if (rc == ENOKEY) {
		content_tear(fs, c);
		return rc;
	}
	if (rc != 0 || cut_below(c, size) != 0) {
		atomic_store(&fs->unsound, true);
		atomic_store(&c->tail_sector, NO_SECTOR);
		c->damaged = true;
		return EIO;
	}
	tail_set(c, last_done, page);
	pthread_mutex_lock(&c->lock);
	c->size = size;
	pthread_mutex_unlock(&c->lock);
	c->fresh = false;
	return 0;
}

/* Seals and writes sectors first..last (at most CHUNK_SECTORS).  *done: how many reached the disk whole. */
static int write_chunk(struct fsys *fs, struct content *c, const struct job *j, uint64_t first, uint64_t last,
	uint8_t *raw, uint8_t *page, uint64_t *done)
{
	size_t n = (size_t)(last - first + 1);
	struct sealer *sealer = NULL;
	ssize_t put;
	int rc = 0;

	*done = 0;
	for (size_t k = 0; k < n && rc == 0; k++) {
		uint64_t s = first + k;

		if (!all_new(j, s)) {
			sealer_put(sealer); /* the disk may be asked */
			sealer = NULL;
			rc = merge_one(fs, c, j, s, page);
		}
		if (rc == 0 && (!sealer || (s & ((1u << SEGMENT_SHIFT) - 1)) == 0)) {
			sealer_put(sealer);
			sealer = NULL;
			rc = err_to_errno(content_sealer(fs, c, s, &sealer));
		}
		if (rc == 0)
			rc = seal_one(fs, c, j, sealer, s, page, raw + k * SECTOR_BYTES);
	}
	sealer_put(sealer);
	if (rc != 0)
		return rc;
	put = pwrite_full(c->fd, raw, n * SECTOR_BYTES, first * SECTOR_BYTES);
	if (put == (ssize_t)(n * SECTOR_BYTES)) {
		*done = n;
		return 0;
	}
	rc = errno;
	*done = put < 0 ? 0 : (uint64_t)put / SECTOR_BYTES;
	return rc;
}

/* Nothing or not all of a job got to disk: ok_sectors from first on did.  Leaves the file ending soundly. */
static uint64_t after_failure(struct fsys *fs, struct content *c, const struct job *j, uint64_t first,
	uint64_t ok_sectors, uint8_t *raw, uint8_t *page)
{
	bool grows = j->new_size > j->old_size;
	uint64_t last_ok, reach;

	atomic_store(&c->tail_sector, NO_SECTOR);
	if (ok_sectors == 0) {
		if (grows && !c->fresh && cut_below(c, j->old_size) != 0)
			atomic_store(&fs->unsound, true);
		return 0;
	}
	last_ok = first + ok_sectors - 1;
	reach = sector_start(last_ok) + sector_capacity(last_ok);
	if (grows && (pread_full(c->fd, raw, SECTOR_BYTES, last_ok * SECTOR_BYTES) != SECTOR_BYTES ||
			     cut_back(fs, c, j, last_ok, raw, page) != 0))
		return 0;
	return reach > j->off ? min_u64(j->len, reach - j->off) : 0;
}

/*
 * Writes the job's sectors from first on; the caller holds them exclusively, and everything behind the old end if the
 * job makes the file longer.  *written: bytes of data that are on disk, also on failure.
 */
static int run_job(struct fsys *fs, struct content *c, const struct job *j, uint64_t first, uint64_t *written)
{
	bool grows = j->new_size > j->old_size;
	uint64_t last = grows ? j->end_sector : sector_of(j->off + j->len - 1), s = first, done = 0;
	size_t raw_len = (size_t)min_u64(last - first + 1, CHUNK_SECTORS) * SECTOR_BYTES;
	uint8_t *raw = buf_get(BUF_PLAIN, raw_len), *page = buf_page();
	int rc = raw && page ? 0 : ENOMEM;

	*written = 0;
	while (rc == 0 && s <= last) {
		rc = write_chunk(fs, c, j, s, min_u64(last, s + CHUNK_SECTORS - 1), raw, page, &done);
		s += done;
	}
	if (rc == 0 && grows && ftruncate(c->fd, (off_t)backing_size(j->new_size)) != 0)
		rc = errno;
	if (rc == 0) {
		*written = j->len;
		c->fresh = false;
		if (grows) {
			pthread_mutex_lock(&c->lock);
			c->size = j->new_size;
			pthread_mutex_unlock(&c->lock);
		}
	} else if (raw && page) {
		*written = after_failure(fs, c, j, first, s - first, raw, page);
	}
	buf_page_put(page);
	buf_put(BUF_PLAIN, raw, raw_len);
	return rc;
}

/* Rewrites sector t so that the file ends in it at size. */
static int end_at(struct fsys *fs, struct content *c, uint64_t t, uint64_t size)
{
	uint32_t len = (uint32_t)(size - sector_start(t));
	uint8_t *page = buf_page();
	int rc = 0;

	if (!page)
		return ENOMEM;
	if (len > 0)
		rc = sector_read(fs, c, t, page, NULL);
	if (rc == 0) {
		memset(page + len, 0, sector_capacity(t) - len);
		rc = sector_write(fs, c, t, page, len, true);
	}
	if (rc == 0)
		tail_set(c, t, page);
	else
		atomic_store(&c->tail_sector, NO_SECTOR);
	buf_page_put(page);
	return rc;
}

/* Makes the file longer, writing data (may be empty) at off >= old size or across the old end. */
static int grow(struct fsys *fs, struct content *c, uint64_t off, const uint8_t *buf, uint64_t len, uint64_t *written)
{
	struct job j = {.off = off, .data = buf, .len = len, .old_size = c->size, .new_size = off + len};
	uint64_t old_end = last_sector(j.old_size), first = old_end;
	uint64_t data_first = len > 0 ? sector_of(off) : last_sector(j.new_size);
	int rc;

	j.end_sector = last_sector(j.new_size);
	if (data_first <= old_end + GAP_SECTORS) {
		/* an old last sector that is full and was never short still has to lose its "final" */
		if (data_first < first)
			first = data_first;
		return run_job(fs, c, &j, first, written);
	}
	/* A real hole.  The flag first, then the old last sector filled up, then what lies behind the hole. */
	rc = holes_allow(fs, c);
	if (rc == 0) {
		struct job fill = {.off = j.old_size,
			.old_size = j.old_size,
			.new_size = sector_start(old_end) + sector_capacity(old_end)};

		/* keeps "final" until the new end is there: a short file is sound, an open end is not */
		fill.end_sector = old_end;
		if (fill.new_size > fill.old_size)
			rc = run_job(fs, c, &fill, old_end, written);
	}
	if (rc == 0) {
		uint64_t was = j.old_size;

		j.old_size = c->size;
		rc = run_job(fs, c, &j, data_first, written);
		if (rc != 0 && c->size == j.old_size && c->size != was && end_at(fs, c, old_end, was) == 0 &&
			cut_below(c, was) == 0) {
			/* nothing of it got to disk: as before */
			pthread_mutex_lock(&c->lock);
			c->size = was;
			pthread_mutex_unlock(&c->lock);
			return rc;
		}
	}
	/* Now the old end is in the middle; "final" there is allowed by the format except in sector 0. */
	if (c->size > sector_start(old_end) + sector_capacity(old_end)) {
		uint8_t *page = buf_page();
		int fin = !page ? ENOMEM : sector_read(fs, c, old_end, page, NULL);

		if (fin == 0)
			fin = sector_write(fs, c, old_end, page, sector_capacity(old_end), false);
		if (fin != 0) {
			if (fin == ENOKEY)
				content_tear(fs, c);
			else
				atomic_store(&fs->unsound, true);
			rc = fin;
		}
		buf_page_put(page);
	}
	return rc;
}

static int write_locked(
	struct fsys *fs, struct content *c, uint64_t off, const uint8_t *buf, uint64_t len, uint64_t *written)
{
	uint64_t size = content_size(c);
	struct job j = {.off = off, .data = buf, .len = len, .old_size = size, .new_size = size};

	if (c->damaged)
		return EIO;
	if (off + len > size)
		return grow(fs, c, off, buf, len, written);
	j.end_sector = last_sector(size);
	return run_job(fs, c, &j, sector_of(off), written);
}

/* The sectors a write to [off, off + len) of a file of that size has to hold: all of them if it has to touch the
 * header. */
static void sectors_needed(
	struct content *c, uint64_t size, uint64_t off, uint64_t len, uint64_t *first, uint64_t *last)
{
	uint64_t end = last_sector(size);

	*first = sector_of(off);
	*last = sector_of(off + len - 1);
	if (off + len > size) {
		*last = SECTORS_ALL;
		if (c->mend || c->fresh || *first > end + GAP_SECTORS)
			*first = 0;
		else if (*first > end)
			*first = end;
	} else if (c->mend) {
		*first = 0;
		*last = SECTORS_ALL;
	}
}

static int lock_for_write(struct fsys *fs, struct content *c, struct range *range, uint64_t off, uint64_t len)
{
	uint64_t first, last;

	for (;;) {
		sectors_needed(c, content_size(c), off, len, &first, &last);
		range_lock(c, range, first, last, true);
		/* the end may have moved while we waited */
		sectors_needed(c, content_size(c), off, len, &first, &last);
		if (range->first <= first && range->last >= last)
			return content_mend(fs, c);
		range_unlock(c, range);
	}
}

int content_write(struct fsys *fs, struct content *c, uint64_t off, const uint8_t *buf, size_t len, size_t *written)
{
	struct range range;
	uint64_t done = 0;
	int rc;

	*written = 0;
	if (len == 0)
		return 0;
	if (off + len > CONTENT_MAX || off + len < off)
		return EFBIG;
	rc = content_ready(fs, c);
	if (rc != 0)
		return rc;
	rc = lock_for_write(fs, c, &range, off, len);
	if (rc == 0)
		rc = write_locked(fs, c, off, buf, len, &done);
	range_unlock(c, &range);
	*written = (size_t)done;
	return done > 0 ? 0 : rc;
}

/* ---- changing the length ---- */

static int touch(struct content *c)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};

	return futimens(c->fd, now) == 0 ? 0 : errno;
}

static int header_flag_trunc(struct fsys *fs, struct content *c, bool on, uint64_t length)
{
	int rc;

	if (on)
		c->header.incompat |= HEADER_TRUNC;
	else
		c->header.incompat &= (uint16_t)~HEADER_TRUNC;
	c->header.trunc_length = on ? length : 0;
	rc = header_rewrite(fs, c);
	if (rc == 0 && on && fdatasync(c->fd) != 0)
		rc = errno;
	return rc;
}

/* FORMAT.md section 4, "Truncate down". */
static int shrink(struct fsys *fs, struct content *c, uint64_t size)
{
	uint64_t t = last_sector(size), e = last_sector(c->size);
	int rc = 0;

	if (t > 0 && t < e)
		rc = header_flag_trunc(fs, c, true, size);
	if (rc == 0)
		rc = end_at(fs, c, t, size);
	if (rc == 0 && t == 0 && e > 0 && fdatasync(c->fd) != 0)
		rc = errno;
	if (rc == 0)
		rc = cut_below(c, size);
	if (rc == 0) {
		pthread_mutex_lock(&c->lock);
		c->size = size;
		pthread_mutex_unlock(&c->lock);
		if (t > 0 && t < e) {
			rc = fdatasync(c->fd) != 0 ? errno : 0;
			if (rc == 0)
				rc = header_flag_trunc(fs, c, false, 0);
		}
	}
	if (rc == ENOKEY) {
		content_tear(fs, c);
	} else if (rc != 0) { /* what is on disk is for the next load to find out */
		c->damaged = true;
		atomic_store(&fs->unsound, true);
	}
	return rc;
}

int content_truncate(struct fsys *fs, struct content *c, uint64_t size)
{
	struct range all;
	uint64_t written;
	int rc;

	if (size > CONTENT_MAX)
		return EFBIG;
	range_lock(c, &all, 0, SECTORS_ALL, true);
	rc = content_load(fs, c);
	if (rc == 0)
		rc = content_mend(fs, c);
	if (rc == 0) {
		if (size == c->size)
			rc = touch(c);
		else if (size > c->size)
			rc = grow(fs, c, size, zeros, 0, &written);
		else
			rc = shrink(fs, c, size);
	}
	range_unlock(c, &all);
	return rc;
}

/* ---- zeros, space and holes ---- */

static int zero_bytes(struct fsys *fs, struct content *c, uint64_t off, uint64_t len)
{
	uint64_t written;
	int rc = 0;

	while (len > 0 && rc == 0) {
		uint64_t n = min_u64(len, sizeof(zeros));

		rc = write_locked(fs, c, off, zeros, n, &written);
		off += n;
		len -= n;
	}
	return rc;
}

int content_zero(struct fsys *fs, struct content *c, uint64_t off, uint64_t len, bool punch)
{
	struct range all;
	uint64_t end, first, behind;
	int rc;

	range_lock(c, &all, 0, SECTORS_ALL, true);
	rc = content_load(fs, c);
	if (rc == 0)
		rc = content_mend(fs, c);
	end = min_u64(off + len, c->size);
	if (rc != 0 || off >= end)
		goto out;
	/* whole sectors [first, behind) other than the first and the last one of the file can become holes */
	first = sector_start(sector_of(off)) == off ? sector_of(off) : sector_of(off) + 1;
	behind = sector_of(end);
	if (first == 0)
		first = 1;
	if (behind > last_sector(c->size))
		behind = last_sector(c->size);
	if (first >= behind || (!punch && behind - first <= GAP_SECTORS)) {
		rc = zero_bytes(fs, c, off, end - off);
		goto out;
	}
	rc = holes_allow(fs, c);
	if (rc == 0 && off < sector_start(first))
		rc = zero_bytes(fs, c, off, sector_start(first) - off);
	if (rc == 0 && fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(first * SECTOR_BYTES),
			       (off_t)((behind - first) * SECTOR_BYTES)) != 0) {
		rc = errno;
		for (uint64_t s = first; s < behind && (rc == EOPNOTSUPP || rc == 0); s++)
			rc = pwrite_full(c->fd, zeros, SECTOR_BYTES, s * SECTOR_BYTES) == SECTOR_BYTES ? 0 : errno;
	}
	if (rc == 0 && end > sector_start(behind))
		rc = zero_bytes(fs, c, sector_start(behind), end - sector_start(behind));
out:
	range_unlock(c, &all);
	return rc;
}

int content_reserve(struct fsys *fs, struct content *c, uint64_t off, uint64_t len)
{
	uint64_t first = sector_of(off), last = sector_of(off + len - 1);
	struct range all;
	int rc;

	range_lock(c, &all, 0, SECTORS_ALL, true);
	rc = content_load(fs, c);
	if (rc == 0)
		rc = content_mend(fs, c);
	if (rc == 0)
		rc = content_settle(fs, c);
	if (rc == 0 && fallocate(c->fd, FALLOC_FL_KEEP_SIZE, (off_t)(first * SECTOR_BYTES),
			       (off_t)((last - first + 1) * SECTOR_BYTES)) != 0)
		rc = errno;
	range_unlock(c, &all);
	return rc;
}

int content_seek(struct fsys *fs, struct content *c, uint64_t off, int whence, uint64_t *out)
{
	uint64_t size, s, end;
	struct range all;
	off_t at;
	int rc = 0;

	rc = content_ready(fs, c);
	if (rc != 0)
		return rc;
	range_lock(c, &all, 0, SECTORS_ALL, false);
	size = content_size(c);
	s = sector_of(off);
	end = last_sector(size);
	if (off >= size) {
		rc = ENXIO;
	} else if (!(c->header.incompat & HEADER_HOLES)) {
		*out = whence == SEEK_DATA ? off : size;
	} else {
		at = lseek(c->fd, (off_t)(s * SECTOR_BYTES), whence);
		if (at < 0) {
			rc = errno;
		} else {
			s = (uint64_t)at / SECTOR_BYTES;
			if (s > end)
				*out = size;
			else
				*out = sector_start(s) > off ? sector_start(s) : off;
			if (whence == SEEK_DATA && s > end)
				rc = ENXIO;
		}
	}
	range_unlock(c, &all);
	return rc;
}
