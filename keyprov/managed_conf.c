/* SPDX-License-Identifier: Apache-2.0 */
/* managed_conf - the text of --managed-key as a provider object.  The forms are in keyprov.h. */
#include "keyprov/keyprov.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The descriptor outlives the working directory, so paths in it are absolute.  Links in it are left alone. */
static json_t *absolute(const char *path, struct err_why *why)
{
	char *cwd = NULL;
	json_t *j;

	if (path[0] == '/') {
		j = json_string(path);
	} else {
		cwd = getcwd(NULL, 0);
		if (!cwd) {
			(void)err_set(why, ERR_CONFIG, errno, "can't tell the working directory: %s", strerror(errno));
			return NULL;
		}
		j = json_sprintf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
		free(cwd);
	}
	if (!j)
		(void)err_set(why, ERR_CONFIG, 0, "%.300s is not valid UTF-8, which paths of keys have to be", path);
	else if (json_string_length(j) >= PATH_MAX) {
		(void)err_set(why, ERR_CONFIG, 0, "the path of the key is too long");
		json_decref(j);
		j = NULL;
	}
	return j;
}

static json_t *with_path(const char *source, const char *member, const char *path, struct err_why *why)
{
	json_t *j, *value;

	if (!path)
		return json_pack("{s:s}", "source", source);
	if (path[0] == '\0') {
		(void)err_set(why, ERR_CONFIG, 0, "%s: needs a path behind the colon", source);
		return NULL;
	}
	value = absolute(path, why);
	if (!value)
		return NULL;
	j = json_pack("{s:s, s:o}", "source", source, member, value);
	if (!j)
		(void)err_set(why, ERR_NOMEM, 0, "out of memory");
	return j;
}

json_t *managed_conf(const char *spec, struct err_why *why)
{
	const char *colon = strchr(spec, ':'), *arg = colon ? colon + 1 : NULL;
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
	json_t *j;

	if (len == 5 && strncmp(spec, "store", len) == 0)
		return with_path("store", "dir", arg, why);
	if (len == 10 && strncmp(spec, "passphrase", len) == 0)
		return with_path("passphrase", "file", arg, why);
	if (len == 4 && strncmp(spec, "file", len) == 0 && arg)
		return with_path("file", "path", arg, why);
	if (len == 10 && strncmp(spec, "credential", len) == 0 && arg) {
		if (arg[0] == '\0' || arg[0] == '.' || strchr(arg, '/') || strlen(arg) > NAME_MAX) {
			(void)err_set(
				why, ERR_CONFIG, 0, "credential: needs a plain name, without slash or leading dot");
			return NULL;
		}
		j = json_pack("{s:s, s:s}", "source", "credential", "name", arg);
		if (!j)
			(void)err_set(why, ERR_CONFIG, 0, "the credential's name is not valid UTF-8");
		return j;
	}
	(void)err_set(why, ERR_CONFIG, 0,
		"unknown managed key %.100s; it is one of store, store:DIR, file:PATH, credential:NAME,"
		" passphrase, passphrase:FILE",
		spec);
	return NULL;
}

json_t *managed_conf_now(const json_t *stored, const json_t *given, struct err_why *why)
{
	static const char *const kept[] = {"salt", "rounds"};
	const char *was = json_string_value(json_object_get(stored, "source"));
	const char *now = json_string_value(json_object_get(given, "source"));
	bool was_pass = was && strcmp(was, "passphrase") == 0, now_pass = now && strcmp(now, "passphrase") == 0;
	json_t *j;

	if (was_pass != now_pass) {
		(void)err_set(why, ERR_CONFIG, 0,
			"this volume's key comes from a %.32s, which a %.32s can't stand in for", was ? was : "(none)",
			now ? now : "(none)");
		return NULL;
	}
	j = json_deep_copy(given);
	for (size_t i = 0; j && i < sizeof(kept) / sizeof(kept[0]); i++) {
		json_t *value = json_object_get(stored, kept[i]);

		if (value && json_object_set(j, kept[i], value) != 0) {
			json_decref(j);
			j = NULL;
		}
	}
	if (!j)
		(void)err_set(why, ERR_NOMEM, 0, "out of memory");
	return j;
}
