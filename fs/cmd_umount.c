/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_umount - blobcryptfs umount: unmounts, and returns when the daemon has brought everything to disk. */
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/mounts.h"
#include "keyprov/volume.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define WAIT_SECONDS 60
#define ASK_SECONDS  5
#define STEP_MS	     20
#define EXIT_WAIT_MS 5000 /* from the release of the lock to the end of the process */

/* Does the daemon still hold the volume for the mount that was at target? */
static bool held(const struct volume *v, const char *target, struct lock_holder *holder)
{
	memset(holder, 0, sizeof(*holder));
	return volume_lock_holder(v, holder) == ERR_OK && strcmp(holder->mountpoint, target) == 0;
}

/* What tells that the daemon is gone; found out before unmounting. */
struct daemon {
	const struct volume *volume; /* NULL: unknown */
	const char *target;
	bool lock_tells; /* a read-only backing directory holds no name of a holder */
	int pidfd;	 /* -1: unknown */
};

static void find_daemon(struct daemon *d, const struct mount_info *at)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	json_t *status = NULL;
	pid_t pid = 0;

	d->target = at->target;
	d->lock_tells = d->volume && holder && held(d->volume, at->target, holder);
	d->pidfd = -1;
	if (control_ask(NULL, at->target, at->user_id, "status", ASK_SECONDS, &status, NULL) == ERR_OK)
		pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
	json_decref(status);
	if (pid > 0)
		d->pidfd = pidfd_open(pid, 0);
	free(holder);
}

/* False: it is still there after WAIT_SECONDS. */
static bool wait_for_daemon(const struct daemon *d)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	struct pollfd p = {.fd = d->pidfd, .events = POLLIN};
	bool gone = !d->lock_tells && d->pidfd < 0;

	for (int left = WAIT_SECONDS * 1000 / STEP_MS; holder && !gone && left >= 0; left--) {
		/* poll() passes over a negative descriptor: then it is just the pause. */
		gone = poll(&p, 1, STEP_MS) > 0;
		if (!gone && d->lock_tells && !held(d->volume, d->target, holder)) {
			poll(&p, 1, d->pidfd >= 0 ? EXIT_WAIT_MS : 0);
			gone = true;
		}
	}
	free(holder);
	return gone;
}

static int unmount_volume(const struct mount_info *at, bool lazy, struct err_why *why)
{
	struct daemon d = {.pidfd = -1};
	struct volume *v = NULL;
	int rc, code = EXIT_OK;

	/* The source is no volume with -o fsname=. */
	if (volume_open(at->source, &v, NULL) == ERR_OK)
		d.volume = v;
	find_daemon(&d, at);
	rc = mounts_unmount(at->target, lazy);
	if (rc == EBUSY)
		code = cli_why(why, EXIT_BUSY,
			"%s is in use. \"fuser -vm %s\" shows by whom; umount --lazy takes it away from "
			"sight now and ends it when nobody uses it any more.",
			at->target, at->target);
	else if (rc == EPERM || rc == EACCES)
		code = cli_why(why, EXIT_PERMISSION, "%s can be unmounted by root and by the user who mounted it only.",
			at->target);
	else if (rc)
		code = cli_why(why, EXIT_MOUNT_FAILED, "%s can't be unmounted: %s.", at->target, strerror(rc));
	else if (!lazy && !wait_for_daemon(&d))
		code = cli_why(why, EXIT_BUSY,
			"%s is unmounted, but its daemon has not finished within %d seconds; it may still "
			"be writing to %s.",
			at->target, WAIT_SECONDS, at->source);
	if (d.pidfd >= 0)
		close(d.pidfd);
	volume_close(v);
	return code;
}

static int run(struct cli *c, int argc, char **argv)
{
	static const struct option options[] = {{"lazy", no_argument, NULL, 'l'}, CLI_OPTIONS};
	struct mount_info at = {0};
	struct err_why why = {0};
	bool lazy = false;
	int opt, code = EXIT_OK;
	char *path;

	while ((opt = cli_getopt(c, &command_umount, argc, argv, ":lz", options, &code)) >= 0)
		lazy = true;
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_umount, argc, 1, 1))
		return EXIT_USAGE;
	path = path_absolute(argv[optind]);
	if (path && mounts_at(path, &at) != ERR_OK) { /* perhaps a symlink to it */
		free(path);
		path = realpath(argv[optind], NULL);
	}
	if (path && (at.target || mounts_at(path, &at) == ERR_OK) && at.is_ours)
		code = unmount_volume(&at, lazy, &why);
	else
		code = cli_why(&why, EXIT_NOT_MOUNTED, "No volume is mounted at %s.", argv[optind]);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	mount_info_clear(&at);
	free(path);
	return code;
}

const struct command command_umount = {
	.name = "umount",
	.args = "[-l] MOUNTPOINT",
	.summary = "unmount a volume and wait until it is on disk",
	.help = "Unmounts the volume at MOUNTPOINT and waits until its daemon has brought everything to disk and is "
		"gone.\n\n"
		"  -l, --lazy  take it away from sight now, end it when nobody uses it any more; does not wait\n",
	.run = run,
};
