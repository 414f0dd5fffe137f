/* SPDX-License-Identifier: Apache-2.0 */
/* control_internal - shared by both sides of the control socket. */
#pragma once
#include "fs/control.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define CONTROL_REQUEST_CAP 16384u
#define CONTROL_ANSWER_CAP  262144u
#define CONTROL_DIRECTORIES 2u

/* The n-th place where the sockets of uid may be; false if there is none. */
bool control_directory(uid_t uid, unsigned n, char out[static CONTROL_PATH_CAP]);
/* Owned by uid, a real directory, closed to others. */
bool control_directory_is_safe(const char *dir, uid_t uid);

/* o as one line with its newline, malloc'ed (jansson's own memory may come from elsewhere); NULL without memory. */
char *control_line(const json_t *o, size_t *len);
void control_deadline(struct timespec *out, unsigned seconds);
/* Milliseconds until then; 0 if it is over. */
int control_left(const struct timespec *deadline);
