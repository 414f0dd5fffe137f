/* SPDX-License-Identifier: Apache-2.0 */
/* azid_conf - the text of --identity as an object, and the object as a struct.  The forms are in azid.h. */
#include "keyprov/azid_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREDENTIAL "credential:"

/* Which members a kind has. */
enum { HAS_CLIENT = 1, NEEDS_FILE = 2 };
static const struct {
	const char *text;
	unsigned members;
} kinds[] = {
	[AZID_AUTO] = {"auto", 0},
	[AZID_VM] = {"vm", HAS_CLIENT},
	[AZID_APP_SERVICE] = {"app-service", HAS_CLIENT},
	[AZID_ARC] = {"arc", HAS_CLIENT},
	[AZID_WORKLOAD] = {"workload", 0},
	[AZID_SECRET] = {"secret", NEEDS_FILE},
	[AZID_CERTIFICATE] = {"certificate", NEEDS_FILE},
	[AZID_CLI] = {"cli", 0},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *azid_kind_text(enum azid_kind k)
{
	return (size_t)k < KINDS ? kinds[k].text : "?";
}

static bool kind_find(const char *text, size_t len, enum azid_kind *out)
{
	for (size_t i = 0; i < KINDS; i++) {
		if (strlen(kinds[i].text) == len && memcmp(kinds[i].text, text, len) == 0) {
			*out = (enum azid_kind)i;
			return true;
		}
	}
	return false;
}

bool azid_guid(const char *text, char out[static AZURE_GUID])
{
	size_t i;

	for (i = 0; i < AZURE_GUID - 1 && text[i]; i++) {
		char c = text[i];

		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		if (i == 8 || i == 13 || i == 18 || i == 23 ? c != '-'
							    : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			break;
		out[i] = c;
	}
	if (i == AZURE_GUID - 1 && text[i] == '\0') {
		out[i] = '\0';
		return true;
	}
	out[0] = '\0';
	return false;
}

/* ---- from the object ---- */

/* A string without NULs and control characters, or NULL. */
static const char *plain_string(const json_t *j, size_t max)
{
	const char *s = json_string_value(j);
	size_t len = s ? json_string_length(j) : 0;

	if (!s || len == 0 || len > max || strlen(s) != len)
		return NULL;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return NULL;
	return s;
}

static enum err bad(struct err_why *why, const char *what)
{
	return err_set(why, ERR_CORRUPT, 0, "the identity in the configuration is damaged: %s", what);
}

static enum err take_file(const json_t *conf, struct azid_spec *out, struct err_why *why)
{
	const json_t *file = json_object_get(conf, "file"), *credential = json_object_get(conf, "credential");
	const char *text;

	if (!file == !credential)
		return bad(why, "one of \"file\" and \"credential\" is needed");
	text = plain_string(file ? file : credential, file ? PATH_MAX - 1 : NAME_MAX);
	if (!text || (file && text[0] != '/') || (credential && (text[0] == '.' || strchr(text, '/'))))
		return bad(why, file ? "\"file\" is no absolute path" : "\"credential\" is no plain name");
	out->credential = credential != NULL;
	snprintf(out->file, sizeof(out->file), "%s", text);
	return ERR_OK;
}

static enum err take_guid(const json_t *conf, const char *member, char out[static AZURE_GUID], struct err_why *why)
{
	const char *text = plain_string(json_object_get(conf, member), AZURE_GUID - 1);

	if (text && azid_guid(text, out))
		return ERR_OK;
	return err_set(why, ERR_CORRUPT, 0, "the identity in the configuration is damaged: \"%s\" is no GUID", member);
}

enum err azid_spec_parse(const json_t *conf, struct azid_spec *out, struct err_why *why)
{
	const char *kind = plain_string(json_object_get(conf, "kind"), 32);
	size_t members = 1;
	enum err e = ERR_OK;

	memset(out, 0, sizeof(*out));
	if (!kind)
		return bad(why, "it has no kind");
	if (!kind_find(kind, strlen(kind), &out->kind))
		return err_set(why, ERR_UNSUPPORTED, 0,
			"this program does not know the kind of identity in the"
			" configuration; a newer version may");
	if (kinds[out->kind].members & NEEDS_FILE) {
		members = 4;
		e = take_guid(conf, "tenant", out->tenant, why);
		if (e == ERR_OK)
			e = take_guid(conf, "client_id", out->client_id, why);
		if (e == ERR_OK)
			e = take_file(conf, out, why);
	} else if ((kinds[out->kind].members & HAS_CLIENT) && json_object_get(conf, "client_id")) {
		members = 2;
		e = take_guid(conf, "client_id", out->client_id, why);
	}
	if (e == ERR_OK && json_object_size(conf) != members)
		return err_set(why, ERR_UNSUPPORTED, 0,
			"the identity in the configuration has members that this program does not know");
	return e;
}

enum err azid_conf_check(const json_t *conf, struct err_why *why)
{
	struct azid_spec *s = malloc(sizeof(*s));
	enum err e;

	if (!s)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	e = azid_spec_parse(conf, s, why);
	free(s);
	return e;
}

void azid_conf_text(const json_t *conf, char out[static 256])
{
	struct azid_spec *s = malloc(sizeof(*s));

	if (!s || azid_spec_parse(conf, s, NULL) != ERR_OK)
		snprintf(out, 256, "unknown");
	else if (s->tenant[0])
		snprintf(out, 256, "%s:%s/%s:%s%.140s", azid_kind_text(s->kind), s->tenant, s->client_id,
			s->credential ? CREDENTIAL : "", s->file);
	else
		snprintf(out, 256, "%s%s%s", azid_kind_text(s->kind), s->client_id[0] ? ":" : "", s->client_id);
	free(s);
}

json_t *azid_environment(const json_t *conf)
{
	static const struct {
		const char *name;
		bool credential; /* else it is for the kinds that take all from the environment */
	} vars[] = {{"IDENTITY_ENDPOINT", false}, {"IMDS_ENDPOINT", false}, {"AZURE_CLIENT_ID", false},
		{"AZURE_TENANT_ID", false}, {"AZURE_FEDERATED_TOKEN_FILE", false}, {"CREDENTIALS_DIRECTORY", true}};
	struct azid_spec *s = malloc(sizeof(*s));
	json_t *j = s ? json_object() : NULL;
	bool all;

	if (!j || azid_spec_parse(conf, s, NULL) != ERR_OK) {
		free(s);
		return j;
	}
	all = s->kind == AZID_AUTO || s->kind == AZID_WORKLOAD || s->kind == AZID_APP_SERVICE;
	for (size_t i = 0; i < sizeof(vars) / sizeof(vars[0]); i++) {
		const char *value = secure_getenv(vars[i].name);

		/* what is no UTF-8 is different from everything */
		if (value && (vars[i].credential ? s->credential : all) &&
			json_object_set_new(j, vars[i].name, json_string(value)) != 0)
			(void)json_object_set_new(j, vars[i].name, json_integer(getpid()));
	}
	free(s);
	return j;
}

/* ---- from the text ---- */

static json_t *refuse(struct err_why *why, const char *sentence)
{
	(void)err_set(why, ERR_CONFIG, 0, "%s", sentence);
	return NULL;
}

/* The descriptor outlives the working directory, so paths in it are absolute. */
static json_t *absolute(const char *path, struct err_why *why)
{
	char *cwd = NULL;
	json_t *j;

	if (path[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return refuse(why, "can't tell the working directory; give the identity's file with its"
					   " absolute path");
	}
	j = cwd ? json_sprintf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path) : json_string(path);
	free(cwd);
	return j;
}

/* text: TENANT/CLIENT_ID:FILE or TENANT/CLIENT_ID:credential:NAME */
static json_t *principal(const char *kind, const char *text, struct err_why *why)
{
	char tenant[AZURE_GUID] = "", client[AZURE_GUID] = "", part[AZURE_GUID];
	bool ok = strlen(text) > 74 && text[36] == '/' && text[73] == ':', credential;
	const char *place = ok ? text + 74 : "";
	json_t *value;

	if (ok) {
		snprintf(part, sizeof(part), "%.36s", text);
		ok = azid_guid(part, tenant);
		snprintf(part, sizeof(part), "%.36s", text + 37);
		ok = ok && azid_guid(part, client);
	}
	if (!ok) {
		(void)err_set(why, ERR_CONFIG, 0,
			"identity %s: is written %s:TENANT/CLIENT_ID:FILE or %s:TENANT/CLIENT_ID:credential:NAME, with"
			" GUIDs for TENANT and CLIENT_ID",
			kind, kind, kind);
		return NULL;
	}
	credential = strncmp(place, CREDENTIAL, strlen(CREDENTIAL)) == 0;
	value = credential ? json_string(place + strlen(CREDENTIAL)) : absolute(place, why);
	if (!value) {
		if (why && !why->text[0])
			(void)refuse(why, "the path of the identity's file is not valid UTF-8");
		return NULL;
	}
	return json_pack("{s:s, s:s, s:s, s:o}", "kind", kind, "tenant", tenant, "client_id", client,
		credential ? "credential" : "file", value);
}

json_t *azid_conf(const char *spec, struct err_why *why)
{
	const char *colon = strchr(spec, ':'), *arg = colon ? colon + 1 : NULL;
	char client[AZURE_GUID];
	enum azid_kind k;
	json_t *j = NULL;

	if (why)
		memset(why, 0, sizeof(*why));
	if (!kind_find(spec, colon ? (size_t)(colon - spec) : strlen(spec), &k))
		return refuse(why, "unknown identity; it is one of auto, vm[:CLIENT_ID], app-service[:CLIENT_ID],"
				   " arc[:CLIENT_ID], workload, secret:TENANT/CLIENT_ID:FILE,"
				   " certificate:TENANT/CLIENT_ID:FILE, cli");
	if (kinds[k].members & NEEDS_FILE) {
		j = principal(azid_kind_text(k), arg ? arg : "", why);
		if (!j)
			return NULL;
	} else if (!arg) {
		j = json_pack("{s:s}", "kind", azid_kind_text(k));
	} else if (!(kinds[k].members & HAS_CLIENT)) {
		return refuse(why, "this kind of identity takes nothing behind a colon");
	} else if (!azid_guid(arg, client)) {
		return refuse(why, "the client id behind the colon has to be a GUID, as \"az identity show\" tells it"
				   " in clientId");
	} else {
		j = json_pack("{s:s, s:s}", "kind", azid_kind_text(k), "client_id", client);
	}
	if (!j)
		return refuse(why, "out of memory");
	if (azid_conf_check(j, NULL) != ERR_OK) {
		json_decref(j);
		return refuse(why, "the file or credential of the identity is missing, too long, or has control"
				   " characters in its name");
	}
	return j;
}
