/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon - the process model of a mount.
 *
 *	parent ---- fork ---- child: keys, prompt, session, FUSE mount
 *	   |                    |  the mount answers: setsid, /dev/null, "0"
 *	   +---- pipe <---------+  or anything fails: code and sentence
 *
 * The parent returns only with the child's word, so that "mount" is done when it returns and its error is the real one.
 * Locked memory and threads do not survive a fork: all of that is in the child.
 */
#pragma once
#include "fs/serve.h"

/* Mounts, in the background or (foreground) in this process.  Tells failures itself; returns the exit code. */
int daemon_run(const char *dir, const char *mountpoint, const struct mount_options *opt, const struct cli *cli,
	bool foreground);

/* sd_notify(3) without its library: nothing happens unless NOTIFY_SOCKET is set. */
void daemon_notify(const char *state);
