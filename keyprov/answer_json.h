/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer_json - JSON of strangers, within bounds.  Pure.
 *
 * jansson makes a value of 220 bytes out of each "{}," and its memory is locked: an answer of the largest size would
 * take 18 MiB of it, more than a user may have locked altogether, and the volume would run out at that moment.
 */
#pragma once
#include "crypto/err.h"
#include <jansson.h>
#include <stddef.h>

#define ANSWER_VALUES_MAX 4096u /* in one answer; a page of a list of keys has some hundred */

/* flags: of json_loadb.  ERR_OK: out is a new reference to an object.  ERR_CORRUPT: anything else, or too many values;
 * ERR_NOMEM. */
enum err answer_json(const char *body, size_t len, size_t flags, json_t **out) MUST_CHECK;
