/* SPDX-License-Identifier: Apache-2.0 */
/* gate_memory - what is or was plaintext in this process goes, when the volume is locked. */
#include "fs/gate_internal.h"

#include "fs/bufpool.h"
#include "fs/content.h"
#include "fs/transport.h"
#include <utlist.h>

/* Nobody uses a tail any more but requests that were given up, which find no key for what they made of it. */
static void wipe_tails(struct fsys *fs)
{
	struct content *c = NULL;

	pthread_mutex_lock(&fs->table);
	DL_FOREACH(fs->contents, c)
	{
		atomic_store(&c->tail_sector, NO_SECTOR);
		if (c->tail)
			secret_wipe(c->tail, SECTOR_BYTES);
	}
	pthread_mutex_unlock(&fs->table);
}

bool memory_wipe(struct fsys *fs, uint64_t until)
{
	wipe_tails(fs);
	bufpool_wipe();
	stack_scrub();
	return transport_wipe(until);
}
