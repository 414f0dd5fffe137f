/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control - the Unix socket through which a running mount is asked: one line of JSON there, one back, then it is
 * closed.
 *
 * The daemon's side is one thread that serves one client after the other; nothing in it touches the mount.  Only root
 * and the daemon's own user are answered.  Where: /run/blobcryptfs for root, else $XDG_RUNTIME_DIR/blobcryptfs or
 * /tmp/blobcryptfs-UID, each 0700 and owned by the user; the socket is named after the volume.
 */
#pragma once
#include "crypto/err.h"
#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

struct control;

struct control_handler {
	/* request: the member "request" of the line; returns the answer (new reference), or NULL for "unknown" */
	json_t *(*answer)(void *arg, const char *request);
	void (*tick)(void *arg); /* once an hour, on the same thread */
	void *arg;
};

/* ERR_IO: no place for the socket; the mount can do without. */
enum err control_start(
	const char *volume_hex, const struct control_handler *h, struct control **out, struct err_why *why) MUST_CHECK;
void control_stop(struct control *c); /* NULL is fine */

/*
 * control_ask - asks the daemon of owner's mount.
 *
 * @volume_hex  which volume; NULL: whichever says it is mounted at mountpoint
 * @mountpoint  NULL, or where it must be mounted
 * @seconds     deadline
 *
 * ERR_NOT_FOUND: nobody there.  ERR_IO: there, but it does not answer or may not be asked.
 */
enum err control_ask(const char *volume_hex, const char *mountpoint, uid_t owner, const char *request, unsigned seconds,
	json_t **answer, struct err_why *why) MUST_CHECK;
/* The same with arguments for the request: the line's member "args".  NULL: none. */
enum err control_ask_args(const char *volume_hex, const char *mountpoint, uid_t owner, const char *request,
	const json_t *args, unsigned seconds, json_t **answer, struct err_why *why) MUST_CHECK;
