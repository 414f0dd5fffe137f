/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sealed_json - JSON objects of the backing directory that carry a MAC: descriptor and session state.
 *
 * The MAC is base64url(HMAC-SHA-256) over the object without its "mac" member, keys sorted, compact: a canonical text,
 * so that white space and the order of members don't matter.  Threads: any; an object belongs to one at a time.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/volkeys.h"
#include <jansson.h>
#include <stdbool.h>

#define SEALED_JSON_MAX 65536u /* bytes of file */

/* ERR_NOT_FOUND, ERR_IO; ERR_CORRUPT with a sentence: empty, too large, not JSON, no object.  Not authenticated. */
enum err sealed_json_read(int dirfd, const char *name, json_t **out, struct err_why *why) MUST_CHECK;
/* The text of obj, from malloc(3), not NUL-terminated, with room for one more byte.  json_dumps() hands out memory of
 * jansson's allocator, which is not malloc(3) in this program (http_setup). */
enum err sealed_json_text(const json_t *obj, size_t flags, char **out, size_t *len) MUST_CHECK;
/* Sets "mac". */
enum err sealed_json_seal(json_t *obj, struct volkeys *vk, enum mac_use use) MUST_CHECK;
/* ERR_CORRUPT if "mac" is missing or wrong. */
enum err sealed_json_verify(const json_t *obj, struct volkeys *vk, enum mac_use use) MUST_CHECK;
/* Writes one copy, durably and in place; see atomic_file_page. */
enum err sealed_json_write_page(int dirfd, const char *name, const json_t *obj, struct err_why *why) MUST_CHECK;
/* Writes one copy, durably, over the old one; see atomic_file_swap. */
enum err sealed_json_write(
	int dirfd, const char *name, const json_t *obj, bool *replaced, struct err_why *why) MUST_CHECK;
