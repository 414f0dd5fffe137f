/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volkeys - everything derived from a volume's key(s): name, blob, descriptor and content keys, and a bounded set of
 * cipher contexts.  FORMAT.md sections 3 to 6 say what each function computes.
 *
 * Threads: any number may use one struct volkeys at once.  volkeys_wipe() waits for calls in flight, wipes every key
 * and cipher context and makes all later calls fail with ERR_KEY_UNAVAILABLE; volkeys_load() brings it back. Memory:
 * bounded, whatever the number of files; all of it locked.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/fips.h"
#include "crypto/secret.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_BYTES	     16
#define VOLUME_KEY_BYTES     32
#define NAME_MAX_PLAIN	     255
#define NAME_ENC_MAX	     256 /* encoded component with its NUL */
#define NAME_LONG_TARGET_MAX 512 /* text of an N. link with its NUL */

enum suite { SUITE_GCM = 1, SUITE_XTS_GCM = 2 };

struct volkeys;

/* inner is NULL for SUITE_GCM.  Keys are borrowed and copied. */
enum err volkeys_new(const struct fips *f, enum suite suite, const uint8_t volume_id[static ID_BYTES],
	const struct secret *volume_key, const struct secret *inner, struct volkeys **out) MUST_CHECK;
/* The same without keys, as after volkeys_wipe: for a mount that waits for its keeper. */
enum err volkeys_new_empty(const struct fips *f, enum suite suite, const uint8_t volume_id[static ID_BYTES],
	struct volkeys **out) MUST_CHECK;
void volkeys_wipe(struct volkeys *vk);
enum err volkeys_load(struct volkeys *vk, const struct secret *volume_key, const struct secret *inner) MUST_CHECK;
void volkeys_free(struct volkeys *vk); /* wipes; NULL is fine */
const struct fips *volkeys_fips(const struct volkeys *vk);
enum suite volkeys_suite(const struct volkeys *vk);
const uint8_t *volkeys_volume_id(const struct volkeys *vk);

/* A fresh random id (file, directory, salt) from the DRBG; drawn in bulk, so cheap. */
enum err volkeys_random_id(struct volkeys *vk, uint8_t out[static ID_BYTES]) MUST_CHECK;

/* MACs over descriptor, state and audit records; out is 32 bytes of HMAC-SHA-256. */
enum mac_use { MAC_DESCRIPTOR, MAC_STATE, MAC_AUDIT };
enum err volkeys_mac(
	struct volkeys *vk, enum mac_use use, const void *in, size_t len, uint8_t out[static 32]) MUST_CHECK;

/* ---- names (section 5) ---- */

struct enc_name {
	char text[NAME_ENC_MAX]; /* the backing component, NUL-terminated: short name or "L.<hash>" */
	bool is_long;
	char side[NAME_ENC_MAX];		/* is_long: "N.<hash>" */
	char side_target[NAME_LONG_TARGET_MAX]; /* is_long: what the N. link holds */
};
/* name: 1..255 bytes, any but NUL and '/'; ERR_RANGE otherwise.  Fields beyond text are set only if is_long. */
enum err name_seal(struct volkeys *vk, const uint8_t dir_id[static ID_BYTES], const char *name, size_t len,
	struct enc_name *out) MUST_CHECK;
/* enc: a short component, or the target of an N. link (then the caller checks with name_long_matches that it belongs to
 * the entry). out: at least 256 bytes, NUL-terminated.  ERR_CORRUPT: not a name of this directory. */
enum err name_open(struct volkeys *vk, const uint8_t dir_id[static ID_BYTES], const char *enc, size_t enc_len,
	char *out, size_t *out_len) MUST_CHECK;
/* Does "L.<hash>" belong to this N. target text?  ERR_CORRUPT if not. */
enum err name_long_matches(struct volkeys *vk, const char *entry, const char *side_target, size_t len) MUST_CHECK;

#define DIRID_TEXT 44 /* base64url of 32 bytes, with NUL */
enum err dirid_encode(struct volkeys *vk, const uint8_t id[static ID_BYTES], char out[static DIRID_TEXT]) MUST_CHECK;
enum err dirid_decode(struct volkeys *vk, const char *text, size_t len, uint8_t id[static ID_BYTES]) MUST_CHECK;

/* ---- blobs (section 6) ---- */

#define BLOB_OVERHEAD 32
enum blob_purpose { BLOB_SYMLINK = 2, BLOB_XATTR_VALUE = 4 };
/* out needs len + BLOB_OVERHEAD bytes.  ctx: bound, not stored (owner id and xattr name; empty for symlinks). */
enum err blob_seal(struct volkeys *vk, enum blob_purpose purpose, const void *ctx, size_t ctx_len, const void *in,
	size_t len, uint8_t *out) MUST_CHECK;
/* out needs len - BLOB_OVERHEAD bytes; zeroed on failure.  ERR_CORRUPT if it does not belong here. */
enum err blob_open(struct volkeys *vk, enum blob_purpose purpose, const void *ctx, size_t ctx_len, const uint8_t *in,
	size_t len, void *out) MUST_CHECK;
/* xattr names: deterministic.  text: the part behind "user.bcfs.", base64url or "L.<hash>", NUL-terminated. */
enum err xattr_name_seal(struct volkeys *vk, const char *name, char text[static NAME_ENC_MAX]) MUST_CHECK;
/* Opens the base64url form only (for "L." the name is in the value).  out at least 256 bytes, NUL-terminated. */
enum err xattr_name_open(struct volkeys *vk, const char *text, size_t len, char *out) MUST_CHECK;

/* base64url without padding (libsodium).  encode: out needs b64_len(len) + 1.  decode: ERR_CORRUPT on any foreign
 * character. */
size_t b64_len(size_t len);
void b64_encode(const void *in, size_t len, char *out);
enum err b64_decode(const char *in, size_t len, uint8_t *out, size_t cap, size_t *out_len) MUST_CHECK;

/* ---- sectors (section 4) ---- */

#define SECTOR_BYTES		4096u
#define HEADER_BYTES		128u
#define SECTOR_META_BYTES	32u
#define PAYLOAD0		3936u /* capacity of sector 0 */
#define PAYLOAD			4064u /* capacity of every other sector */
#define META_FINAL		0x1000u
#define META_LENGTH(m)		((m)&0xfffu)
#define META_STAMP(m)		((uint16_t)((m) >> 16))
#define META(stamp, final, len) ((uint32_t)(stamp) << 16 | ((final) ? META_FINAL : 0) | (uint32_t)(len))

#define HEADER_HOLES 1u
#define HEADER_TRUNC 2u
struct file_header { /* in memory; header_encode/decode convert */
	uint16_t version, suite, incompat;
	uint8_t ro_compat, compat;
	uint8_t file_id[ID_BYTES];
	uint64_t trunc_length;
	uint8_t kept[24 + 32 + 32]; /* the three "kept" areas, in order */
};
void header_encode(const struct file_header *h, uint8_t out[static HEADER_BYTES]);
/* Pure; checks magic, version, suite, flags.  ERR_CORRUPT or ERR_UNSUPPORTED.  Not authenticated until sector_open of
 * sector 0. */
enum err header_decode(const uint8_t in[static HEADER_BYTES], struct file_header *out) MUST_CHECK;

/*
 * A sealer is a cipher context keyed for one (file id, segment), borrowed from the volume's bounded set.  Get one, use
 * it for a run of sectors of one segment, put it back; never hold it over a wait for anything but disk I/O.  At most
 * one per thread.
 */
#define SEGMENT_SHIFT 20
struct sealer;
enum err sealer_get(
	struct volkeys *vk, const uint8_t file_id[static ID_BYTES], uint64_t sector, struct sealer **out) MUST_CHECK;
void sealer_put(struct sealer *s); /* NULL is fine */

/* Seals payload (META_LENGTH(meta) bytes; the rest of the capacity is zero-padded) as the given sector.
 * header: the encoded header for sector 0, NULL for others; it is placed into out.  A new nonce each time. */
enum err sector_seal(struct sealer *s, uint64_t sector, uint32_t meta, const uint8_t *header, const uint8_t *payload,
	uint8_t out[static SECTOR_BYTES]) MUST_CHECK;
/* Opens one sector: payload gets the full capacity (PAYLOAD0 or PAYLOAD bytes), zeroed on failure; meta the
 * authenticated word. ERR_CORRUPT also for impossible meta (length over capacity, short without final, reserved bits).
 */
enum err sector_open(struct sealer *s, uint64_t sector, const uint8_t in[static SECTOR_BYTES], uint8_t *payload,
	uint32_t *meta) MUST_CHECK;

static inline uint32_t sector_capacity(uint64_t sector)
{
	return sector == 0 ? PAYLOAD0 : PAYLOAD;
}
