/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auditlog - the log of a volume's key events: JSON lines, each chained to the one before by SHA-256 and sealed by
 * HMAC-SHA-256, so that a changed, removed, inserted or cut line is found.  AUDIT.md is the format.
 *
 * Any number of processes may append to one log.  A process that has the volume's keys becomes a writer: it takes a key
 * of its own from the audit key, and replaces it by its KBKDF after every line, so that whoever takes the process over
 * can't forge what it wrote before, and can still seal lines while the volume is locked.  A process without the keys
 * (a mount that was refused) appends lines that are chained but not sealed; the next writer's line covers them.
 *
 * Threads: any; calls on one log are serialized inside.
 */
#pragma once
#include "crypto/fips.h"
#include "crypto/volkeys.h"
#include <jansson.h>
#include <stdbool.h>

struct auditlog;

struct auditlog_config {
	const char *dir; /* absolute; made with its parents, 0700, if missing */
	uint8_t volume[ID_BYTES];
	size_t segment_bytes;  /* 0: 8 MiB; a full segment becomes NAME.1, NAME.2, ... */
	unsigned segments_max; /* 0: 16; the oldest goes, and a sealed line says so */
};
/* Makes the directory and the lock; the log itself comes with the first line.  f is borrowed until auditlog_close.
 * ERR_IO, ERR_CONFIG: others can write to the directory. */
enum err auditlog_open(
	const struct fips *f, const struct auditlog_config *cfg, struct auditlog **out, struct err_why *why) MUST_CHECK;
/* From here on lines are sealed.  vk is only used during the call.  Calling it again changes nothing. */
enum err auditlog_key(struct auditlog *a, struct volkeys *vk) MUST_CHECK;
/* Appends event, an object with a string "event" (time, seq, chain and seal are added; steals nothing), durably if
 * sync. May wait for the disk and for other processes.  ERR_RANGE: a member of a name that is ours, a line of more than
 * 16 KiB, or without keys: too many segments. */
enum err auditlog_append(struct auditlog *a, const json_t *event, bool sync, struct err_why *why) MUST_CHECK;
/* Makes durable what was appended without sync, and moves the head. */
enum err auditlog_sync(struct auditlog *a, struct err_why *why) MUST_CHECK;
void auditlog_close(struct auditlog *a); /* syncs, wipes; NULL is fine */

struct auditlog_verdict {
	bool sound;
	bool seals_checked;		   /* vk was given */
	unsigned long lines, unsealed_end; /* lines looked at; lines at the end that nothing seals yet */
	unsigned long torn_end;		   /* bytes behind them that a crash left; the next process cuts them off */
	unsigned long first_seq, last_seq;
	char file[280];	    /* not sound: where */
	unsigned long line; /* from 1; 0: the file as a whole */
	char what[256];	    /* begins with "changed", "removed", "inserted" or "cut off"; and what tells */
};
/* vk NULL: chain only, no seals (the volume is locked); then sound means no more than that.  ERR_OK if verdict says;
 * ERR_NOT_FOUND: there is no log. */
enum err auditlog_verify(const struct fips *f, const char *dir, const uint8_t volume[static ID_BYTES],
	struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why) MUST_CHECK;
/* The same by a writer, who knows its own last line: an older log put back with its head is found. */
enum err auditlog_verify_own(
	struct auditlog *a, struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why) MUST_CHECK;
/* Calls fn with each line (without newline) of the last lines; ULONG_MAX: all.  Nothing is checked. fn returning false
 * ends it.  ERR_NOT_FOUND: there is no log. */
enum err auditlog_read(const char *dir, const uint8_t volume[static ID_BYTES], unsigned long last,
	bool (*fn)(void *arg, const char *line, size_t len), void *arg, struct err_why *why) MUST_CHECK;
