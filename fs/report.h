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
#include <stdbool.h>
#include <stdio.h>

/* New references; NULL without memory. */
json_t *report_utc(time_t t); /* 0: null */
/* Text that may be anybody's: what is not UTF-8 becomes null. */
json_t *report_text(const char *s);
json_t *report_told(const char *s); /* empty: null */
/* Does the identifier in a customer's conf leave the version open?  https://HOST/keys/NAME[/VERSION] */
bool report_follows_versions(const json_t *conf);
json_t *report_key(const struct volume *v);
/* From the descriptor alone: "authenticated" is false. */
json_t *report_volume(const struct volume *v, const char *dir);
/* A running mount, by its daemon; from any thread, and never waits for the key worker. */
json_t *report_mount(struct mounted *m);
/* The same for "metrics" and "revocation-report": answers of the control socket. */
json_t *report_metrics(struct mounted *m);
json_t *report_revocation(struct mounted *m);

/* A text that may be anybody's, without what would move the terminal's cursor; a value. */
void report_print_text(const char *s, FILE *out);
void report_print_value(const json_t *v, FILE *out);
/* Aligned "name: value" lines. */
void report_print(const json_t *report, FILE *out);
void report_print_revocation(const json_t *report, FILE *out);
/* The object itself, indented, keys in a fixed order. */
void report_dump(const json_t *report, FILE *out);
