/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passphrase - reads a passphrase into locked memory: from the terminal with the echo off, from the first line of
 * standard input if that is no terminal, or from the first line of a file.  Never from argv or the environment.
 *
 * Threads: the terminal one is for the main thread (it blocks signals while it waits and restores the terminal first
 * when one arrives).
 */
#pragma once
#include "crypto/err.h"
#include "crypto/secret.h"
#include <stdbool.h>

#define PASSPHRASE_MIN 14   /* bytes: the FIPS provider's 112 bits, SP 800-131A */
#define PASSPHRASE_MAX 1024 /* bytes */

/* file: NULL, or the file to read.  fresh: a new passphrase: asked twice on a terminal, minimum length enforced.
 * ERR_CONFIG: too short, the two differ, interrupted; file errors as keyfile_open. */
enum err passphrase_read(const char *file, bool fresh, struct secret **out, struct err_why *why) MUST_CHECK;
