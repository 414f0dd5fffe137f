/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyprov - where key encryption keys (KEKs) come from.  The contract is in PROVIDERS.md.
 *
 * A provider wraps and unwraps volume keys under a KEK it keeps.  Calls may block (a network round trip, up to the
 * provider's deadline) and are therefore never made under a filesystem lock or from a FUSE handler.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/fips.h"
#include "crypto/secret.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define VOLUME_KEY_LEN 32 /* bytes; what providers wrap */
#define WRAPPED_MAX    1024
#define KEY_ID_MAX     512

struct wrapped { /* one wrapped key */
	uint8_t bytes[WRAPPED_MAX];
	size_t len;
};

struct key_ref {	     /* which KEK, in which version, did or shall do it */
	char id[KEY_ID_MAX]; /* the provider's name of the key; for a vault the versioned kid */
	unsigned version;    /* 0: the newest */
	time_t created;	     /* of that version; 0 unknown */
};

/* What a remote keeper said at the last call, for audit, status and the prober.  No secrets. */
struct keyprov_detail {
	char reason[64]; /* "KeyDisabled", "ForbiddenByRbac", "timeout", "http 503"; empty: none */
	bool network;	 /* denied by the keeper's firewall */
	int http_status; /* 0: no answer */
	char request_id[64], client_request_id[40];
	char tenant[40], oid[40], appid[40], region[64];
	char kid[KEY_ID_MAX];
};

enum key_state { KEY_USABLE, KEY_DISABLED, KEY_EXPIRED, KEY_MISSING, KEY_UNREACHABLE };

/* An opened provider.  Each implementation has a struct of its own that starts with this one. */
struct keyprov {
	const struct keyprov_ops *ops;
};

/* All members but the last three are required.  PROVIDERS.md section 2 tells for each when it is called and what it may
 * answer. */
struct keyprov_ops {
	const char *name; /* "managed"; the "kind" of the envelope */
	/* conf: the "provider" object of the envelope or of init's options, with "volume": hex id added; borrowed.
	 * like: NULL, or an opened provider of the same kind whose answers (a typed passphrase) may serve again. */
	enum err (*open)(const struct fips *f, const json_t *conf, const struct keyprov *like, struct keyprov **out,
		struct err_why *why);
	/* wraps under the newest version; tells in ref which that was */
	enum err (*wrap)(struct keyprov *p, const struct secret *key, struct wrapped *out, struct key_ref *ref,
		struct err_why *why);
	/* ERR_KEY_DENIED, ERR_KEY_REVOKED, ERR_KEY_UNAVAILABLE, ERR_CONFIG, ERR_CORRUPT are told apart */
	enum err (*unwrap)(struct keyprov *p, const struct wrapped *in, const struct key_ref *ref, struct secret **key,
		struct err_why *why);
	enum err (*state)(struct keyprov *p, const struct key_ref *ref, enum key_state *out, struct key_ref *newest,
		struct err_why *why);
	/* makes a new KEK version (and the place for it), which wrap uses from then on; durable on return;
	 * ERR_UNSUPPORTED where the source can't (file, credential) */
	enum err (*rotate)(struct keyprov *p, struct key_ref *newest, struct err_why *why);
	/* forgets exactly this version, for good; one that is gone already is no error */
	enum err (*remove)(struct keyprov *p, const struct key_ref *ref, struct err_why *why);
	/* forgets every version of this volume's key but keep */
	enum err (*prune)(struct keyprov *p, const struct key_ref *keep, struct err_why *why);
	/* the "provider" object to store in the envelope after wrap; new reference, NULL if out of memory */
	json_t *(*conf)(const struct keyprov *p);
	void (*close)(struct keyprov *p);
	/* of the last call; NULL where nothing is remote */
	const struct keyprov_detail *(*detail)(const struct keyprov *p);
	/* from any thread: a call under way ends soon; NULL where calls don't wait for a network */
	void (*abort)(struct keyprov *p);
	/* the next unwrap goes out on a new connection; NULL where calls don't wait for a network */
	void (*fresh)(struct keyprov *p);
};

/* The provider called name, or NULL. */
const struct keyprov_ops *keyprov_find(const char *name);
extern const struct keyprov_ops managed_ops;
extern const struct keyprov_ops vault_ops; /* "azure-key-vault" */

/* The same calls with their arguments checked and their results zeroed on failure.  Use these. */
enum err keyprov_open(const char *name, const struct fips *f, const json_t *conf, const struct keyprov *like,
	struct keyprov **out, struct err_why *why) MUST_CHECK;
enum err keyprov_wrap(struct keyprov *p, const struct secret *key, struct wrapped *out, struct key_ref *ref,
	struct err_why *why) MUST_CHECK;
enum err keyprov_unwrap(struct keyprov *p, const struct wrapped *in, const struct key_ref *ref, struct secret **key,
	struct err_why *why) MUST_CHECK;
enum err keyprov_state(struct keyprov *p, const struct key_ref *ref, enum key_state *out, struct key_ref *newest,
	struct err_why *why) MUST_CHECK;
enum err keyprov_rotate(struct keyprov *p, struct key_ref *newest, struct err_why *why) MUST_CHECK;
enum err keyprov_remove(struct keyprov *p, const struct key_ref *ref, struct err_why *why) MUST_CHECK;
enum err keyprov_prune(struct keyprov *p, const struct key_ref *keep, struct err_why *why) MUST_CHECK;
void keyprov_close(struct keyprov *p); /* NULL is fine */
/* Never NULL: empty if there is nothing to tell. */
const struct keyprov_detail *keyprov_detail_get(const struct keyprov *p);
void keyprov_abort(struct keyprov *p);
void keyprov_fresh(struct keyprov *p);

/*
 * managed_conf - parses the SPEC of --managed-key / -o managed_key= into a provider object:
 *   store            the host's key store: /var/lib/blobcryptfs/keys for root, else $XDG_DATA_HOME/blobcryptfs/keys
 * (default) store:DIR        the same, elsewhere file:PATH        one key file: 32 raw bytes, or 64 hexadecimal digits
 * and a newline; mode 0600 or stricter, ours or root's credential:NAME  a systemd credential,
 * $CREDENTIALS_DIRECTORY/NAME, same contents as a key file passphrase       asked on the terminal (or read from
 * standard input if that is no terminal) passphrase:FILE  first line of a file (mode 0600 or stricter) New reference;
 * NULL with why on bad input.
 */
json_t *managed_conf(const char *spec, struct err_why *why);

/*
 * managed_conf_now - the provider object to open a volume with, when its key is said to be elsewhere now: what the
 * envelope says (stored), with the place taken from what the user says (given).  Key store, file and credential can
 * stand in for each other, since they hold the same key; a passphrase can't.  New reference; NULL with why.
 */
json_t *managed_conf_now(const json_t *stored, const json_t *given, struct err_why *why);
