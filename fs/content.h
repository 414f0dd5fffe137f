/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content - the bytes of one regular file in use: plaintext offsets above, sectors of crypto/FORMAT.md section 4 below.
 *
 * One struct content per inode while anyone has it open, shared by all of them.  All offsets and lengths are plaintext
 * bytes unless they are called sectors.  Functions return 0 or an errno.
 *
 * Concurrency: ranges of sectors are locked, shared for reading, exclusive for writing, in order of arrival; whoever
 * changes the length holds everything from the last sector on.  No other lock is held over I/O.  content.lock guards
 * the list of ranges and `size`.
 */
#pragma once
#include "crypto/volkeys.h"
#include "fs/inode.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct range {
	struct range *prev, *next;
	uint64_t first, last; /* sectors */
	bool excl;
};

struct content {
	struct content *prev, *next; /* fsys.contents; under fsys.table */
	struct inode *inode;	     /* referenced */
	uint32_t refs;		     /* under fsys.table */
	pthread_mutex_t lock;
	pthread_cond_t freed;
	struct range *ranges; /* in order of arrival */
	int fd;		      /* O_RDWR, or O_RDONLY while nobody needs more; -1 not open yet */
	int fd_old;	      /* the read-only one that a writer replaced, kept since a reader may be in it */
	_Atomic bool writable;
	_Atomic bool loaded;  /* the following is known */
	_Atomic bool fresh;   /* no sector is on disk yet */
	_Atomic bool damaged; /* header or end of the file: nothing can be read */
	_Atomic bool mend;    /* a state FORMAT.md accepts after an unclean session: mend before the first write */
	_Atomic bool suspect; /* zero sectors may be unsynced losses */
	uint64_t size;
	struct file_header header;
	_Atomic uint64_t tail_sector; /* sector whose payload is in tail; UINT64_MAX none */
	uint8_t *tail;		      /* buf_page, or NULL; used by holders of that sector's range */
};

#define NO_SECTOR   UINT64_MAX
#define SECTORS_ALL UINT64_MAX

static inline uint64_t sector_of(uint64_t off)
{
	return off < PAYLOAD0 ? 0 : 1 + (off - PAYLOAD0) / PAYLOAD;
}
static inline uint64_t sector_start(uint64_t s)
{
	return s == 0 ? 0 : PAYLOAD0 + (s - 1) * PAYLOAD;
}
/* The sector the last byte of a file of this size is in. */
static inline uint64_t last_sector(uint64_t size)
{
	return size == 0 ? 0 : sector_of(size - 1);
}
/* Backing size of a file that has its sectors (not of a fresh one). */
static inline uint64_t backing_size(uint64_t size)
{
	uint64_t e = last_sector(size);

	return (e + 1) * SECTOR_BYTES + (size - sector_start(e));
}
/* What stat shows for a backing size. */
uint64_t plain_size(uint64_t backing);
/* Files end here: the backing size must fit off_t. */
#define CONTENT_MAX ((uint64_t)INT64_MAX / SECTOR_BYTES * PAYLOAD - (1u << 20))

/* Opens i's content, for writing too if asked; shared with whoever has it.  fd: an open O_RDWR descriptor of a just
 * made file (consumed), or -1. */
int content_open(struct fsys *fs, struct inode *i, bool write, int fd, struct content **out);
void content_close(struct fsys *fs, struct content *c);
/* The content of i if somebody has it open, referenced (content_close it); NULL if not. */
struct content *content_peek(struct fsys *fs, struct inode *i);

/* A read: the bytes stay in buf until content_read_done. */
struct content_read {
	void *buf;
	size_t buf_len;
	struct iovec *iov;
	int n_iov;
	size_t len; /* bytes found; less than asked for only at the end of the file */
	struct iovec iov_few[4];
};
int content_read(struct fsys *fs, struct content *c, uint64_t off, size_t len, struct content_read *r);
void content_read_done(struct content_read *r);

int content_write(struct fsys *fs, struct content *c, uint64_t off, const uint8_t *buf, size_t len, size_t *written);
int content_truncate(struct fsys *fs, struct content *c, uint64_t size);
/* Makes [off, off + len) read as zeros, inside the file. */
int content_zero(struct fsys *fs, struct content *c, uint64_t off, uint64_t len, bool punch);
/* Reserves space below for [off, off + len). */
int content_reserve(struct fsys *fs, struct content *c, uint64_t off, uint64_t len);
/* SEEK_DATA or SEEK_HOLE. */
int content_seek(struct fsys *fs, struct content *c, uint64_t off, int whence, uint64_t *out);
int content_sync(struct fsys *fs, struct content *c, bool datasync);
/* Writes the header of a file that has none yet, so that it is sound. */
int content_settle(struct fsys *fs, struct content *c);
uint64_t content_size(struct content *c);
/* After an unclean session the size hint may be old.  Looks at the file's end, mends it if the mount may, and tells the
 * true size. */
int content_verify(struct fsys *fs, struct inode *i, uint64_t *size);
int content_fd(struct content *c);
/* The file id, loading the header if need be; for xattr values. */
int content_file_id(struct fsys *fs, struct content *c, uint8_t id[static ID_BYTES]);

/* ---- between content.c and content_io.c ---- */
void range_lock(struct content *c, struct range *r, uint64_t first, uint64_t last, bool excl);
void range_unlock(struct content *c, struct range *r);
int content_load(struct fsys *fs, struct content *c);
int content_mend(struct fsys *fs, struct content *c);
void tail_set(struct content *c, uint64_t sector, const uint8_t *payload);
/* Rewrites sector 0 with the header as it now is; the caller holds it exclusively. */
int header_rewrite(struct fsys *fs, struct content *c);
int cut_below(struct content *c, uint64_t size);
/* Sets HOLES, durably. */
int holes_allow(struct fsys *fs, struct content *c);
struct sealer;
/* sealer_get for c, unless the request was given up by a lock.  Never held over I/O: wiping the keys waits for it. */
enum err content_sealer(struct fsys *fs, struct content *c, uint64_t s, struct sealer **out) MUST_CHECK;
/* The keys went in the middle of a change: what is on disk is looked at anew, with the tolerance for a crash, when they
 * are back. */
void content_tear(struct fsys *fs, struct content *c);
/* Loads c if it was torn. */
int content_ready(struct fsys *fs, struct content *c);
int sector_read(struct fsys *fs, struct content *c, uint64_t s, uint8_t *payload, uint32_t *meta);
int sector_write(struct fsys *fs, struct content *c, uint64_t s, const uint8_t *payload, uint32_t len, bool final);
bool is_zero(const void *p, size_t len);
ssize_t pread_full(int fd, void *buf, size_t len, uint64_t off);
ssize_t pwrite_full(int fd, const void *buf, size_t len, uint64_t off);
