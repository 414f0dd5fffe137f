/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volkeys, inside crypto/ - the bounded sets of keyed contexts that volkeys.c owns and name.c and sector.c borrow.
 *
 * Whoever uses key material holds a slot: a bench (names, blobs, MACs, derivation) or a sealer (sectors).  A slot is
 * taken by setting busy, then looking at open; volkeys_wipe() clears open, then takes every slot in turn and wipes
 * it.  One of the two sees the other, so no key is used after volkeys_wipe() has returned.
 * Order: a thread that holds a sealer may take a bench, not the other way round.
 */
#pragma once
#include "crypto/volkeys.h"
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include <stdatomic.h>

#define FORMAT_VERSION 1
#define KEY_BYTES      32
#define XTS_KEY_BYTES  64
#define IV_BYTES       16 /* synthetic IV, which is the tag as well */
#define MAC_BYTES      32

#define BENCHES	    8u
#define SEALER_SETS 8u
#define SEALER_WAYS 8u
#define SEALERS	    ((size_t)SEALER_SETS * SEALER_WAYS)

struct slot {
	atomic_bool busy;
};

/* Where threads wait for a slot of a set. */
struct waitq {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	atomic_uint waiters;
};

/* One key pair of synthetic-IV encryption, as contexts. */
struct siv {
	EVP_MAC_CTX *mac;
	EVP_CIPHER_CTX *enc, *inner; /* inner: suite 2 only */
};

struct bench {
	struct slot slot;
	struct volkeys *vk;
	struct siv name, blob;
	EVP_KDF_CTX *content, *inner_content;
} __attribute__((aligned(64)));

struct sealer_keys { /* locked memory */
	uint8_t gcm[KEY_BYTES];
	uint8_t xts[XTS_KEY_BYTES]; /* suite 2 only */
};

struct sealer {
	struct slot slot;
	atomic_uint_least64_t tag; /* hash of file id and segment, 0 if none; a hint to be checked with the slot held */
	atomic_uint_least64_t used; /* set->clock at the last use */
	struct volkeys *vk;
	struct sealer_keys *keys;
	uint8_t *scratch;	     /* locked, one sector; suite 2 only */
	EVP_CIPHER_CTX *seal, *open; /* GCM; apart, because opening sets the IV that sealing counts on */
	EVP_CIPHER_CTX *xts_enc, *xts_dec;
	uint64_t segment;
	uint8_t file_id[ID_BYTES];
	bool seal_ready, open_ready, enc_ready, dec_ready;
} __attribute__((aligned(64)));

struct fixed_keys { /* locked memory */
	uint8_t descriptor[KEY_BYTES], state[KEY_BYTES], audit[KEY_BYTES], dirid[KEY_BYTES];
};

struct volkeys {
	const struct fips *fips;
	enum suite suite;
	uint8_t volume_id[ID_BYTES];
	atomic_bool open;
	pthread_mutex_t admin; /* volkeys_wipe, volkeys_load */

	struct fixed_keys *fixed; /* borrowed with any bench */
	struct waitq bench_wait;
	struct bench bench[BENCHES];

	struct waitq sealer_wait;
	struct sealer_keys *sealer_keys;
	uint8_t *scratch;
	atomic_uint_least64_t clock[SEALER_SETS];
	struct sealer sealer[SEALERS];

	pthread_mutex_t ids_mutex;
	uint8_t *ids; /* random bytes not handed out yet */
	size_t ids_left;
};

static inline bool slot_try(struct slot *s)
{
	return !atomic_load_explicit(&s->busy, memory_order_relaxed) && !atomic_exchange(&s->busy, true);
}

void slot_release(struct slot *s, struct waitq *q);
void waitq_init(struct waitq *q);
void waitq_clear(struct waitq *q);
void waitq_wake(struct waitq *q);

/* ERR_KEY_UNAVAILABLE once the volume is closed. */
enum err bench_get(struct volkeys *vk, struct bench **out) MUST_CHECK;
void bench_put(struct bench *b);

/* Content key of one (file id, segment), and in suite 2 the XTS keys. */
enum err volkeys_content(struct volkeys *vk, const uint8_t file_id[static ID_BYTES], uint64_t segment,
	struct sealer_keys *out) MUST_CHECK;

/* As volkeys_random_id(), also while the volume is being closed: for those who hold a slot. */
enum err volkeys_draw(struct volkeys *vk, uint8_t out[static ID_BYTES]) MUST_CHECK;

/* Waits for the sealer to come back, then wipes key, contexts and scratch. */
void sealer_wipe(struct sealer *s);

/* Waits until the slot is ours. */
void slot_wait(struct slot *s, struct waitq *q);
