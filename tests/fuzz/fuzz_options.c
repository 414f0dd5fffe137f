/* SPDX-License-Identifier: Apache-2.0 */
/* Mount options, which come from fstab and from users: what is refused is named, and what libfuse is given is a list.
 */
#include "fs/options.h"
#include "fuzzlib.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mount_options o;
	struct err_why why = {0};
	char *text = malloc(size + 1), *list;
	enum err e;

	check(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	options_init(&o);
	e = options_parse(&o, text, size % 2, &why);
	check(e == ERR_OK || (e == ERR_CONFIG && why.text[0]));
	check((o.flags_on & o.flags_off) == 0);
	check(!o.audit_dir || o.audit_dir[0] == '/');
	list = options_for_fuse(&o, text, size % 3 == 0, size % 5 == 0);
	check(list != NULL);
	free(list);
	options_clear(&o);
	free(text);
	return 0;
}
