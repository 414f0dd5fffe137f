/* SPDX-License-Identifier: Apache-2.0 */
/* speed - how fast the cryptography is on this machine, for "blobcryptfs speed".  One thread. */
#pragma once
#include "crypto/err.h"
#include "crypto/fips.h"

/* Measures one thing after the other, about 0.3 s each, and calls emit with each result. */
enum err speed_run(const struct fips *f, void (*emit)(void *arg, const char *what, double value, const char *unit),
	void *arg) MUST_CHECK;
