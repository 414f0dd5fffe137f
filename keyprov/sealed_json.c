/* SPDX-License-Identifier: Apache-2.0 */
/* sealed_json - see sealed_json.h. */
#include "keyprov/sealed_json.h"
#include "keyprov/atomic_file.h"
#include <stdlib.h>
#include <string.h>

#define MAC_BYTES 32

enum err sealed_json_text(const json_t *obj, size_t flags, char **out, size_t *len)
{
	size_t need = json_dumpb(obj, NULL, 0, flags);
	char *buf;

	if (need == 0)
		return ERR_NOMEM;
	buf = malloc(need + 1);
	if (!buf)
		return ERR_NOMEM;
	if (json_dumpb(obj, buf, need, flags) != need) {
		free(buf);
		return ERR_BUG;
	}
	*out = buf;
	*len = need;
	return ERR_OK;
}

static enum err mac_of(const json_t *obj, struct volkeys *vk, enum mac_use use, uint8_t mac[static MAC_BYTES])
{
	/* shallow, so that obj is only read; jansson's prototype lacks the const */
	json_t *copy = json_copy((json_t *)(uintptr_t)obj);
	char *text = NULL;
	size_t len;
	enum err e;

	if (!copy)
		return ERR_NOMEM;
	(void)json_object_del(copy, "mac");
	e = sealed_json_text(copy, JSON_COMPACT | JSON_SORT_KEYS, &text, &len);
	json_decref(copy);
	if (e != ERR_OK)
		return e;
	e = volkeys_mac(vk, use, text, len, mac);
	free(text);
	return e;
}

enum err sealed_json_seal(json_t *obj, struct volkeys *vk, enum mac_use use)
{
	uint8_t mac[MAC_BYTES];
	char text[64];
	enum err e = mac_of(obj, vk, use, mac);

	if (e != ERR_OK)
		return e;
	b64_encode(mac, sizeof(mac), text);
	return json_object_set_new(obj, "mac", json_string(text)) == 0 ? ERR_OK : ERR_NOMEM;
}

enum err sealed_json_verify(const json_t *obj, struct volkeys *vk, enum mac_use use)
{
	const json_t *member = json_object_get(obj, "mac");
	uint8_t want[MAC_BYTES], have[MAC_BYTES];
	size_t len;
	enum err e;

	if (!json_is_string(member) ||
		b64_decode(json_string_value(member), json_string_length(member), have, sizeof(have), &len) != ERR_OK ||
		len != MAC_BYTES)
		return ERR_CORRUPT;
	e = mac_of(obj, vk, use, want);
	if (e != ERR_OK)
		return e;
	return secret_equal(want, have, MAC_BYTES) ? ERR_OK : ERR_CORRUPT;
}

enum err sealed_json_read(int dirfd, const char *name, json_t **out, struct err_why *why)
{
	json_error_t je;
	char *text;
	size_t len;
	json_t *j;
	enum err e = atomic_file_read(dirfd, name, SEALED_JSON_MAX, &text, &len, why);

	if (e != ERR_OK)
		return e;
	if (len == 0) {
		free(text);
		return err_set(why, ERR_CORRUPT, 0, "%s is empty", name);
	}
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	free(text);
	if (!j && json_error_code(&je) == json_error_out_of_memory)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	if (!j)
		return err_set(why, ERR_CORRUPT, 0, "%s is damaged: no JSON from line %d on", name, je.line);
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(why, ERR_CORRUPT, 0, "%s is damaged: not a JSON object", name);
	}
	*out = j;
	return ERR_OK;
}

enum err sealed_json_write_page(int dirfd, const char *name, const json_t *obj, struct err_why *why)
{
	char *text;
	size_t len;
	enum err e = sealed_json_text(obj, JSON_COMPACT, &text, &len);

	if (e != ERR_OK)
		return err_set(why, e, 0, "out of memory");
	e = atomic_file_page(dirfd, name, text, len, why);
	free(text);
	return e;
}

enum err sealed_json_write(int dirfd, const char *name, const json_t *obj, bool *replaced, struct err_why *why)
{
	char *text;
	size_t len;
	enum err e = sealed_json_text(obj, JSON_INDENT(2), &text, &len);

	if (replaced)
		*replaced = false;
	if (e != ERR_OK)
		return err_set(why, e, 0, "out of memory");
	if (len + 1 > SEALED_JSON_MAX) {
		free(text);
		return err_set(why, ERR_RANGE, 0, "%s would be larger than %u bytes", name, SEALED_JSON_MAX);
	}
	text[len] = '\n'; /* sealed_json_text left room for it */
	e = atomic_file_swap(dirfd, name, text, len + 1, replaced, why);
	free(text);
	return e;
}
