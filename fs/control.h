/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control - the Unix socket through which a running mount is asked: one line of JSON there, one back, then it is
 * closed.
 *
 *	{"request": NAME, "args": {...}}     args may be left out
 *
 * The daemon's side is one thread that never waits for anything but its sockets: what takes long is answered later, by
 * another thread (control_reply), and meanwhile others are answered.  Nothing in it touches the mount.  Only root and
 * the daemon's own user are answered.  Where: /run/blobcryptfs for root, else $XDG_RUNTIME_DIR/blobcryptfs or
 * /tmp/blobcryptfs-UID, each 0700 and owned by the user; the socket is named after the volume.
 */
#pragma once
#include "crypto/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTROL_PATH_CAP 256

struct control;

struct control_request {
	const char *name;
	const json_t *args; /* an object, perhaps empty */
	uid_t uid;	    /* who asks: root, or the daemon's own user */
	struct control *control;
	uint64_t ticket; /* for control_reply */
};

struct control_handler {
	/* On the control thread, so it must not wait.  Returns the answer (new reference); or NULL: *later says that
	 * control_reply will follow, else the request is not known. */
	json_t *(*answer)(void *arg, const struct control_request *r, bool *later);
	void *arg;
};

/* ERR_IO: no place for the socket; the mount can do without. */
enum err control_start(
	const char *volume_hex, const struct control_handler *h, struct control **out, struct err_why *why) MUST_CHECK;
/* Nobody may call control_reply any more.  NULL is fine. */
void control_stop(struct control *c);
/* The answer to a request (stolen; NULL is told as lack of memory), exactly once, from any thread.  Whether the client
 * is still there is of no interest to the caller. */
void control_reply(struct control *c, uint64_t ticket, json_t *answer);
/* Where the sockets of this process's user are kept; false if there is no such place. */
bool control_home(char out[static CONTROL_PATH_CAP]);

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

/*
 * control_ask_all - asks every daemon of owner's at once, and waits until all have answered or the deadline is over.
 *
 * heard is called for each, in this thread; answer is borrowed, NULL if there was none.  Returns how many there are.
 */
unsigned control_ask_all(uid_t owner, const char *request, const json_t *args, unsigned seconds,
	void (*heard)(void *arg, const json_t *answer), void *arg);
