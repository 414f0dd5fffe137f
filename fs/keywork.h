/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keywork - the one thread that works with a mounted volume's keys and descriptor.
 *
 * A call of a key provider may take as long as its network does, so it is made by nobody but this thread, one after
 * the other, and neither the control socket nor a FUSE callback ever waits for it.  Clients of the control socket are
 * answered when their request is done; a client that has gone away changes nothing.
 */
#pragma once
#include "crypto/err.h"
#include "fs/control.h"
#include <jansson.h>
#include <stdbool.h>

struct keywork;

struct keywork_handler { /* all of it on the worker's thread */
	/* New reference: the answer. */
	json_t *(*run)(void *arg, const char *name, const json_t *args);
	void (*tick)(void *arg); /* once an hour */
	void *arg;
};

enum err keywork_start(const struct keywork_handler *h, struct keywork **out, struct err_why *why) MUST_CHECK;
/* Waits for the request at work; those that still wait are told that the volume is being unmounted, and no more are
 * taken.  NULL is fine. */
void keywork_stop(struct keywork *w);
void keywork_free(struct keywork *w); /* after keywork_stop, and when nobody posts any more; NULL is fine */
/* False: too many wait already. */
bool keywork_post(struct keywork *w, const struct control_request *r) MUST_CHECK;
/* Runs name without a client, and only once if it waits already; name is constant text. */
void keywork_kick(struct keywork *w, const char *name);
