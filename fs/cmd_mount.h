/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mount - mounting as the command and the helper of mount(8) share it. */
#pragma once
#include "fs/cli.h"
#include "fs/options.h"

/* Checks both directories and mounts.  Tells failures itself; returns the exit code. */
int mount_volume(
	const struct cli *c, const struct mount_options *o, const char *dir, const char *mountpoint, bool foreground);
/*
 * -o remount: changes the flags of the mount at mountpoint.  whole: the options are all that shall hold, as mount(8)
 * hands them over; otherwise those not named stay.
 */
int mount_change(const struct mount_options *o, const char *mountpoint, bool whole);
