/* SPDX-License-Identifier: Apache-2.0 */
/* control_internal - shared by both sides of the status socket. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define CONTROL_PATH_CAP    256
#define CONTROL_REQUEST_CAP 16384u
#define CONTROL_ANSWER_CAP  262144u
#define CONTROL_DIRECTORIES 2u

/* The n-th place where the sockets of uid may be; false if there is none. */
bool control_directory(uid_t uid, unsigned n, char out[static CONTROL_PATH_CAP]);
/* Owned by uid, a real directory, closed to others. */
bool control_directory_is_safe(const char *dir, uid_t uid);

void control_deadline(struct timespec *out, unsigned seconds);
bool control_wait(int fd, short events, const struct timespec *deadline);
/* One line of JSON each; false or NULL when the deadline has passed or the other side is gone. */
bool control_send(int fd, const json_t *o, const struct timespec *deadline);
json_t *control_receive(int fd, size_t cap, const struct timespec *deadline);
