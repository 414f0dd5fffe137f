/* SPDX-License-Identifier: Apache-2.0 */
/* auditlog_internal - what the parts of the audit log share.  AUDIT.md is the format. */
#pragma once
#include "keyprov/auditlog.h"
#include <pthread.h>
#include <sys/types.h>

#define AUDIT_HASH	 32u
#define AUDIT_HASH_TEXT	 44u	    /* base64url, with NUL */
#define AUDIT_LINE_MAX	 16384u	    /* with its newline */
#define AUDIT_EPOCH	 1024u	    /* lines */
#define AUDIT_N_MAX	 (1u << 30) /* lines of one writer */
#define AUDIT_HEX	 (2 * ID_BYTES + 1)
#define AUDIT_NAME	 64u  /* VOLUME.log.N */
#define AUDIT_HEAD_BYTES 512u /* one sector of any disk: old or new, never a mixture */

/* ---- auditlog_line.c: texts and keys; no files ---- */

/* The keys of one writer at its line n; in locked memory. */
struct audit_keys {
	uint8_t epoch[32], line[32]; /* of the next epoch, of the next line */
	uint8_t seal[32], head[32];  /* of line n */
	uint64_t n;
};
enum err audit_keys_start(
	const struct fips *f, struct volkeys *vk, const uint8_t w[static ID_BYTES], struct audit_keys *k) MUST_CHECK;
enum err audit_keys_step(const struct fips *f, struct audit_keys *k) MUST_CHECK;
/* Forward only: n at or behind k->n. */
enum err audit_keys_jump(const struct fips *f, struct audit_keys *k, uint64_t n) MUST_CHECK;

/* A parsed line. */
struct audit_line {
	json_t *o; /* owned; audit_line_clear */
	uint64_t seq, n;
	uint8_t prev[AUDIT_HASH], w[ID_BYTES], mac[32];
	bool sealed;
	size_t covered; /* bytes in front of the MAC */
	const char *event;
};
/* text without its newline.  ERR_CORRUPT: no line of this volume.  ERR_NOMEM. */
enum err audit_line_parse(const char *text, size_t len, const char *volume, struct audit_line *out) MUST_CHECK;
void audit_line_clear(struct audit_line *l);
/* ERR_CORRUPT if the MAC is wrong. */
enum err audit_mac_check(const struct fips *f, const uint8_t key[static 32], const char *text, size_t covered,
	const uint8_t mac[static 32]) MUST_CHECK;
/* o as compact text with a newline, from malloc; key: with a MAC; NULL: without.  ERR_RANGE: longer than cap. */
enum err audit_dump(
	const struct fips *f, const json_t *o, const uint8_t *key, size_t cap, char **text, size_t *len) MUST_CHECK;
/* Of a whole line with its newline. */
enum err audit_hash(const struct fips *f, const char *line, size_t len, uint8_t out[static AUDIT_HASH]) MUST_CHECK;
/* What stands for the line before the first. */
enum err audit_genesis(
	const struct fips *f, const uint8_t volume[static ID_BYTES], uint8_t out[static AUDIT_HASH]) MUST_CHECK;
int audit_set_b64(json_t *o, const char *name, const void *bytes, size_t len);
enum err audit_get_b64(const json_t *o, const char *name, uint8_t *out, size_t len) MUST_CHECK;
/* An integer from 0 to 2^62. */
enum err audit_get_number(const json_t *o, const char *name, uint64_t *out) MUST_CHECK;

struct audit_head {
	uint64_t seq, segment, offset, n;
	uint8_t hash[AUDIT_HASH], w[ID_BYTES], mac[32];
	char text[AUDIT_HEAD_BYTES];
	size_t covered;
};
/* ERR_NOT_FOUND, ERR_IO; ERR_CORRUPT: no head of this volume.  Its MAC is not checked. */
enum err audit_head_read(int dirfd, const char *volume, struct audit_head *out, struct err_why *why) MUST_CHECK;
/* Checks the MAC; jumps with vk.  ERR_CORRUPT. */
enum err audit_head_check(const struct fips *f, struct volkeys *vk, const struct audit_head *h) MUST_CHECK;
/* first: makes it; else in place. */
enum err audit_head_write(const struct fips *f, int dirfd, const char *volume, const struct audit_head *h,
	const uint8_t key[static 32], bool first, struct err_why *why) MUST_CHECK;

/* ---- auditlog_dir.c: names and segments ---- */

struct audit_segments {
	uint64_t first, last; /* closed ones; 0: none */
	uint64_t count;
};
void audit_volume_hex(const uint8_t volume[static ID_BYTES], char out[static AUDIT_HEX]);
void audit_name_closed(const char *volume, uint64_t segment, char out[static AUDIT_NAME]);
void audit_name(const char *volume, const char *ending, char out[static AUDIT_NAME]);
enum err audit_list(int dirfd, const char *volume, struct audit_segments *out, struct err_why *why) MUST_CHECK;
/* make: with parents, 0700.  ERR_NOT_FOUND without make. */
enum err audit_dir_open(const char *dir, bool make, int *out, struct err_why *why) MUST_CHECK;
/* A regular file of this directory; flags without O_CREAT.  ERR_NOT_FOUND, ERR_IO, ERR_CONFIG. */
enum err audit_file_open(int dirfd, const char *name, int flags, int *fd, struct err_why *why) MUST_CHECK;

/* The line that ends at end (behind its newline) of fd; start: where it begins.  buf: AUDIT_LINE_MAX bytes.
 * ERR_CORRUPT: there is no newline, or no start within AUDIT_LINE_MAX; ERR_IO. */
enum err audit_line_before(int fd, off_t end, char *buf, off_t *start) MUST_CHECK;
/* Reads a file line by line, up to end. */
struct audit_reader {
	int fd;
	off_t at, end; /* the next line starts at at */
	char *buf;     /* owned */
	size_t start, have;
};
enum err audit_reader_start(struct audit_reader *r, int fd, off_t at, off_t end) MUST_CHECK;
/* The next line, with its newline.  whole: false: no newline till the end of the file or within AUDIT_LINE_MAX; then
 * len is what is there.  *line NULL at the end.  at moves behind the line only if it is whole. */
enum err audit_reader_next(struct audit_reader *r, const char **line, size_t *len, bool *whole) MUST_CHECK;
void audit_reader_end(struct audit_reader *r);

/* ---- auditlog.c and auditlog_end.c: the end that lines are appended to ---- */

struct audit_end { /* where the chain stands */
	uint64_t segment, seq;
	off_t size; /* of that segment */
	uint8_t hash[AUDIT_HASH];
};

struct audit_writer {
	struct audit_keys next, spare; /* of the next line; of the one after it while that one is written */
	uint8_t head[32];	       /* of the own last line */
};

struct auditlog {
	pthread_mutex_t lock; /* protects all of it */
	const struct fips *f;
	uint8_t id[ID_BYTES];
	char volume[AUDIT_HEX], log_name[AUDIT_NAME];
	uint64_t segment_bytes, segments_max;
	int dirfd, lockfd, fd; /* fd: VOLUME.log; -1: not there or not open */
	struct audit_end end;
	bool end_known;
	char note_event[24], note[256]; /* to be said before the next line; empty: nothing */

	struct secret *keys; /* struct audit_writer; NULL: no writer */
	uint8_t w[ID_BYTES];
	struct audit_end own; /* of the own last line; seq 0: none */
	uint64_t own_n;
	bool own_synced;
};
/* Under both locks: a->end is where the next line goes, and what a crash left is cut off. */
enum err audit_end_find(struct auditlog *a, struct err_why *why) MUST_CHECK;
/* Is the line that h points to there?  ERR_CORRUPT if not.  ERR_OK also for seq 0. */
enum err audit_head_line(struct auditlog *a, const struct audit_head *h) MUST_CHECK;
/* To be said before the next line; the first damage wins. */
void audit_note(struct auditlog *a, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define AUDIT_REPAIRED "audit_repaired"
#define AUDIT_DAMAGED  "audit_damaged"
#define AUDIT_TRIMMED  "audit_trimmed"

/* ---- auditlog_view.c: what was there at one moment ---- */

struct audit_file {
	char name[AUDIT_NAME];
	uint64_t segment;
	int fd;
	off_t size;
};
struct audit_view {
	char volume[AUDIT_HEX];
	int dirfd, lockfd; /* lockfd: -1: there is none, or it was let go */
	struct audit_file *files;
	size_t count;
	struct audit_head head;
	enum err head_err; /* of reading it */
};
/* hold: keeps writers out until audit_view_close.  ERR_NOT_FOUND: no log. */
enum err audit_view_open(const char *dir, const uint8_t volume[static ID_BYTES], bool hold, struct audit_view *out,
	struct err_why *why) MUST_CHECK;
void audit_view_close(struct audit_view *v);
