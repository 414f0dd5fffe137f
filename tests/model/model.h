/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of fsmodel share. */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define THREADS_MAX 16

struct options {
	const char *root[2]; /* tested, model */
	unsigned long seed;
	unsigned ops, threads;
	bool shared;
};

struct actor {
	const struct options *opt;
	unsigned number;
	uint64_t random;
	char name[64];
};

void actor_init(struct actor *a, const struct options *opt, unsigned number);
/* Does one random operation on both sides and compares. */
void act(struct actor *a, unsigned step);
bool model_failed(void);
/* Prints what differs and ends the run. */
void differ(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Compares everything below two directories; counts the entries. */
bool same_trees(const char *tested, const char *model, unsigned long *seen);

#endif
