/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume - the descriptor (blobcryptfs.json), the session state (blobcryptfs.state) and the lock of a backing
 * directory. crypto/FORMAT.md sections 2, 7 and 8 are the specification.
 *
 * Threads: one struct volume belongs to one thread at a time.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/fips.h"
#include "crypto/volkeys.h"
#include "keyprov/keyprov.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define VOLUME_DESCRIPTOR "blobcryptfs.json"
#define VOLUME_STATE	  "blobcryptfs.state"
#define VOLUME_LOCK	  "blobcryptfs.lock"

struct volume {
	int dirfd;	    /* backing directory; owned */
	json_t *descriptor; /* as read; not authenticated before volume_unlock */
	uint8_t id[ID_BYTES];
	enum suite suite;
	char created[32];
	char provider[32];  /* of the envelope: "managed", or "azure-key-vault": a customer's key is on */
	char source[32];    /* of it: "store", "file", "credential", "passphrase"; "vault", "managed-hsm" */
	struct key_ref key; /* KEK and version the envelope is wrapped under; with a customer's key that one */
	bool inner_known;   /* with a customer's key: the next two are known (after volume_unlock) */
	char inner_source[32];
	struct key_ref inner_key; /* the managed KEK below */
	time_t wrapped_at;
	unsigned rotate_days;	      /* policy: re-wrap under a new KEK version after so many days; 0 never */
	int lock_fd;		      /* -1, or the held lock */
	bool lock_shared;	      /* the lock is the shared one of a read-only backing directory: never write */
	bool second_copy_bad;	      /* seen while loading: a copy is missing, damaged or different; mended by
				       * volume_unlock while the lock is held exclusively */
	char *path;		      /* as given to volume_open, for messages; owned */
	json_t *second;		      /* the other copy if it parses and differs from descriptor; owned */
	bool from_backup;	      /* descriptor is the second copy */
	struct keyprov_detail detail; /* see volume_detail */
	const json_t *identity; /* asks the vault instead of the one in the descriptor; borrowed, NULL: that one */
	bool printed;		/* print is of the keys that opened the volume first */
	uint8_t print[32];	/* so that volume_reload loads no others */
	/* Set by the caller or NULL: told of the volume's keys each time they were had from their keepers and have
	 * authenticated the descriptor, also inside of the calls that change a key.  vk: for the call only. */
	void (*keyed)(void *arg, struct volkeys *vk);
	void *keyed_arg;
};

struct volume_init {
	enum suite suite;
	json_t *provider;     /* from managed_conf; borrowed */
	unsigned rotate_days; /* default 90 */
	bool force_nonempty;  /* never set today: init refuses a directory with anything in it */
};

/* Makes a volume in an empty directory: keys, first KEK if the store has none, state, lock file, descriptor (last, both
 * copies), all synced.  On any failure everything made is removed again. */
enum err volume_create(
	const char *dir, const struct fips *f, const struct volume_init *in, struct err_why *why) MUST_CHECK;

/* Opens the directory and parses the descriptor.  ERR_NOT_FOUND: not a volume.  ERR_UNSUPPORTED: newer.  ERR_CORRUPT:
 * both copies damaged. */
enum err volume_open(const char *dir, struct volume **out, struct err_why *why) MUST_CHECK;
void volume_close(struct volume *v); /* releases the lock too; NULL is fine */

/* Call volume_lock first if the volume will be written (it reads the descriptor again, for it may have been replaced
 * meanwhile); unequal copies of the descriptor are made equal only under the lock.
 * Unwraps the key(s) with the provider (override: a provider object given at mount, e.g. where the key file is now; may
 * be NULL), derives, and authenticates the descriptor.  ERR_KEY_* as the provider says; ERR_CORRUPT: descriptor fails
 * its MAC. */
enum err volume_unlock(struct volume *v, const struct fips *f, const json_t *override, struct volkeys **out,
	struct err_why *why) MUST_CHECK;

/* Is the KEK older than policy?  (by the created time of the version the envelope is under) */
bool volume_rotation_due(const struct volume *v, time_t now);
/* Makes a new KEK version if the source can, re-wraps the key(s) under it, and replaces the descriptor atomically:
 * after a crash at any point exactly one valid envelope opens the volume; the old KEK version is kept until the new
 * descriptor is durable in both copies, then (store only) removed if no other volume uses it (per-volume keys make that
 * certain).  No data is touched. */
enum err volume_rotate(struct volume *v, const struct fips *f, const json_t *override, struct err_why *why) MUST_CHECK;
/* The general form.  now: where the present key is, if not where the descriptor says.  next: the provider object of the
 * new KEK (volume_rotate's override); NULL: the same source.  Takes the lock for its duration if it isn't held. */
enum err volume_rekey(
	struct volume *v, const struct fips *f, const json_t *now, const json_t *next, struct err_why *why) MUST_CHECK;

/* ---- customer's key (PROVIDERS.md sections 3 and 8) ---- */

/* Is a customer's key on?  As the descriptor says. */
bool volume_has_customer(const struct volume *v);
/* The "provider" object of the customer's key, borrowed; NULL if none is on. */
const json_t *volume_customer_conf(const struct volume *v);

/*
 * volume_customer_set - puts the volume under the customer's key that conf (from vault_examine) names: turns it on,
 * follows to a new version, or changes to another key.  Both layers are opened with the present keys first.  Managed to
 * customer also replaces the managed KEK where its keeper can make a new one, so that an old bare envelope on some
 * backup or freed block opens nothing.  Atomic and durable as volume_rekey; old copies are overwritten before they are
 * given back to the filesystem.  now: where the managed key is, or NULL.  Takes the lock if it isn't held.
 */
enum err volume_customer_set(
	struct volume *v, const struct fips *f, const json_t *now, const json_t *conf, struct err_why *why) MUST_CHECK;
/* Wraps under the newest version of the key in the descriptor, if there is a newer one.  *changed tells. */
enum err volume_customer_rotate(
	struct volume *v, const struct fips *f, const json_t *now, bool *changed, struct err_why *why) MUST_CHECK;
/* Back to managed: needs the customer's key once more, so it is refused (ERR_KEY_REVOKED) while access is revoked. */
enum err volume_customer_off(struct volume *v, const struct fips *f, const json_t *now, struct err_why *why) MUST_CHECK;
/* What the keeper said in the last call on v that asked it; never NULL. */
const struct keyprov_detail *volume_detail(const struct volume *v);

/* Unlocks again into vk, which volkeys_wipe emptied: reads the descriptor anew, unwraps, loads, checks the MAC. */
enum err volume_reload(
	struct volume *v, const struct fips *f, const json_t *now, struct volkeys *vk, struct err_why *why) MUST_CHECK;

/* A copy of what the prober needs, for use on another thread while v changes hands. */
struct keeper {
	struct keyprov *provider;
	struct wrapped layer_key;
	struct key_ref ref;
	unsigned probe_seconds, lease_seconds;
	bool expired_revokes;
	struct keyprov_detail detail; /* of the last probe; reason also "KeyDisabled", "KeyExpired", "KeyNotFound" */
};
/* ERR_NOT_FOUND: no customer's key is on.  No I/O. */
enum err volume_keeper_open(
	const struct volume *v, const struct fips *f, struct keeper *out, struct err_why *why) MUST_CHECK;
void volume_keeper_close(struct keeper *k);
/* One real unwrap of the layer key, thrown away at once; then the key's state (disabled and, if the policy says so,
 * expired count as revoked).  fresh: on a new connection. */
enum err volume_keeper_probe(struct keeper *k, bool fresh, struct err_why *why) MUST_CHECK;

/* ---- lock ---- */
struct lock_holder {
	long pid;
	char host[65], mountpoint[4097];
};
/* Takes blobcryptfs.lock (flock, exclusive).  ERR_EXISTS: held; holder tells by whom, as far as the file says.
 * The text written names pid, host and mount point.  A read-only backing directory is locked shared through a read-only
 * descriptor. */
enum err volume_lock(
	struct volume *v, const char *mountpoint, struct lock_holder *holder, struct err_why *why) MUST_CHECK;
/* Rewrites the holder (the daemon's pid after the fork). */
enum err volume_lock_update(struct volume *v, const char *mountpoint) MUST_CHECK;
/* Who holds it now?  ERR_NOT_FOUND: nobody. */
enum err volume_lock_holder(const struct volume *v, struct lock_holder *holder) MUST_CHECK;

/* ---- sessions ---- */
struct session_range {
	uint32_t first, last;
};
struct session {
	uint32_t number;	       /* ours; stamps are its low 16 bits */
	struct session_range *unclean; /* sessions that did not end cleanly, sorted, disjoint */
	size_t n_unclean;
	_Atomic bool resolved; /* by session_resolve: none of unclean is on disk any more */
};
/* Reads and authenticates the state.  read_only: nothing is written, number is the last session's.  Else the next
 * session is begun and durable before this returns; if the last one was left open it joins unclean.  ERR_CORRUPT: both
 * copies bad (why: remedy). */
enum err session_begin(
	struct volume *v, struct volkeys *vk, bool read_only, struct session **out, struct err_why *why) MUST_CHECK;
/* Marks the session as cleanly ended, durably.  Call after everything has been synced. */
enum err session_end(struct volume *v, struct volkeys *vk, struct session *s, struct err_why *why) MUST_CHECK;
/* session_reset - for a lost state file: counts every earlier session as unclean.  Only on the user's explicit word (-o
 * reset_state). */
enum err session_reset(struct volume *v, struct volkeys *vk, struct err_why *why) MUST_CHECK;
/* Strikes the unclean sessions off, durably: every file has been mended.  s itself stays as it is, since others are
 * reading it; session_end writes none from then on. */
enum err session_resolve(struct volume *v, struct volkeys *vk, struct session *s, struct err_why *why) MUST_CHECK;
void session_free(struct session *s);
/* Is the sector stamp that of an unclean session?  Any unclean session at all? */
bool session_stamp_unclean(const struct session *s, uint16_t stamp);
bool session_any_unclean(const struct session *s);
