/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsmodel: random operations on a mount, each also done on a plain directory, which is the model.
 *
 *   fsmodel --phase run    --seed N --ops N --threads N TESTED MODEL
 *   fsmodel --phase verify TESTED MODEL
 *
 * Every thread has a subtree of its own; with --shared all write to one file as well, each thread
 * at its own bytes of every block. Each result and each byte read is compared at once, and all of
 * both trees at the end. The model directory outlives the run, so it is also the manifest that
 * "verify" goes by after a remount. Exit code 1 at a difference.
 */
#include "model.h"

#include <pthread.h>
#include <stdlib.h>

static struct options opt = {.seed = 1, .ops = 3000, .threads = 4};

static void *thread_main(void *arg)
{
	struct actor *a = arg;
	for (unsigned i = 0; i < opt.ops && !model_failed(); i++)
		act(a, i);
	return NULL;
}

static int run(void)
{
	pthread_t id[THREADS_MAX];
	static struct actor actors[THREADS_MAX];
	for (unsigned t = 0; t < opt.threads; t++) {
		actor_init(&actors[t], &opt, t);
		if (pthread_create(&id[t], NULL, thread_main, &actors[t]) != 0)
			return 2;
	}
	for (unsigned t = 0; t < opt.threads; t++)
		pthread_join(id[t], NULL);
	return model_failed();
}

int main(int argc, char **argv)
{
	bool verify = false;
	int i = 1;
	for (; i + 1 < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--shared") == 0)
			opt.shared = true;
		else if (strcmp(argv[i], "--phase") == 0)
			verify = strcmp(argv[++i], "verify") == 0;
		else if (strcmp(argv[i], "--seed") == 0)
			opt.seed = strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--ops") == 0)
			opt.ops = (unsigned)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--threads") == 0)
			opt.threads = (unsigned)strtoul(argv[++i], NULL, 10);
		else
			break;
	}
	if (argc - i != 2 || opt.threads < 1 || opt.threads > THREADS_MAX) {
		fputs("usage: fsmodel [--phase run|verify] [--seed N] [--ops N] [--threads N] [--shared] "
		      "TESTED MODEL\n", stderr);
		return 2;
	}
	opt.root[0] = argv[i];
	opt.root[1] = argv[i + 1];
	if (!verify && run())
		return 1;
	unsigned long seen = 0;
	if (!same_trees(opt.root[0], opt.root[1], &seen))
		return 1;
	printf("seed %lu: %lu entries are the same\n", opt.seed, seen);
	return seen == 0;
}
