/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wipe_free - what this program and the libfuse linked into it give back to the heap is wiped first: request buffers
 * hold plaintext and names.  The linker redirects free() here (--wrap=free); shared libraries keep their own.
 */
#include "crypto/secret.h"
#include <malloc.h>
#include <string.h>

void __real_free(void *p);
void __wrap_free(void *p);

void __wrap_free(void *p)
{
	if (p)
		secret_wipe(p, malloc_usable_size(p));
	__real_free(p);
}
