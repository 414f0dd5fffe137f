/* SPDX-License-Identifier: Apache-2.0 */
/* The arguments of the control socket's largest request: what is taken comes back the same from what is made of it. */
#include "fs/keyops.h"
#include "fuzzlib.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *line = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL), *made;
	const json_t *args = json_object_get(line, "args");
	struct err_why why = {0};
	struct vault_want w, again;

	if (json_is_object(args) && keyops_set_parse(args, &w, &why) == ERR_OK) {
		made = keyops_set_args(&w);
		check(made && keyops_set_parse(made, &again, &why) == ERR_OK);
		check(same(w.uri, again.uri) && same(w.cloud, again.cloud) && same(w.api_version, again.api_version));
		check(same(w.region, again.region) && w.probe_seconds == again.probe_seconds);
		check(w.lease_seconds == again.lease_seconds && w.expired_allowed == again.expired_allowed);
		check(w.allow_other_region == again.allow_other_region);
		if (keyops_set_check(&w, &why) != ERR_OK)
			check(why.text[0] != '\0');
		json_decref(made);
	} else if (json_is_object(args)) {
		check(why.text[0] != '\0');
	}
	json_decref(line);
	return 0;
}
