/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report - what "blobcryptfs status" and "key show" say, as one JSON object, and that object in words.
 *
 * The names in it are stable: members may be added, none is renamed or removed.
 */
#pragma once
#include "fs/serve.h"
#include "keyprov/volume.h"
#include <jansson.h>
#include <stdio.h>

/* New references; NULL without memory. */
json_t *report_key(const struct volume *v);
/* From the descriptor alone: "authenticated" is false. */
json_t *report_volume(const struct volume *v, const char *dir);
/* A running mount, by its daemon; from any thread, and never waits for the key worker. */
json_t *report_mount(struct mounted *m);

/* Aligned "name: value" lines. */
void report_print(const json_t *report, FILE *out);
/* The object itself, indented, keys in a fixed order. */
void report_dump(const json_t *report, FILE *out);
