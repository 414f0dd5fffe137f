/* SPDX-License-Identifier: Apache-2.0 */
/* answer_json - see answer_json.h. */
#include "keyprov/answer_json.h"

/* At least as many as there are values; commas and brackets inside of strings count, too. */
static size_t values(const char *body, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += body[i] == ',' || body[i] == '{' || body[i] == '[';
	return n;
}

enum err answer_json(const char *body, size_t len, size_t flags, json_t **out)
{
	json_error_t je;
	json_t *j;

	*out = NULL;
	if (len == 0 || values(body, len) > ANSWER_VALUES_MAX)
		return ERR_CORRUPT;
	j = json_loadb(body, len, flags, &je);
	if (!j)
		return json_error_code(&je) == json_error_out_of_memory ? ERR_NOMEM : ERR_CORRUPT;
	if (!json_is_object(j)) {
		json_decref(j);
		return ERR_CORRUPT;
	}
	*out = j;
	return ERR_OK;
}
