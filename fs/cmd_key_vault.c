/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_key_vault - key list, create and identity: a vault is asked, no volume is changed. */
#include "fs/cmd_key.h"
#include "fs/keyops.h"
#include "fs/report.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LIST_MAX       1000
#define SIZE_DEFAULT   3072u
#define SIZE_OCT       256u
#define NAME_MAX_KEY   127
#define NO_MEMORY_TEXT "There is not enough memory."

int key_network(struct cli *c, struct fips **out, struct err_why *why)
{
	int code = cli_crypto(c, out, why);
	enum err e;

	if (code != EXIT_OK)
		return code;
	e = http_setup(why);
	return e == ERR_OK ? EXIT_OK : cli_exit_code(e, why);
}

/* ---- a vault, and our identity to it ---- */

struct vault {
	struct azure_cloud cloud;
	struct azure_key_id id; /* the vault; with a name: a key of it */
	struct fips *fips;
	struct azid *identity;
	const char *api_version;
};

static int vault_open(struct cli *c, const struct key_options *o, struct vault *v, struct err_why *why)
{
	json_t *conf = o->identity ? json_incref(o->identity) : azid_conf("auto", why);
	int code = conf ? key_network(c, &v->fips, why) : cli_why(why, EXIT_MEMORY, NO_MEMORY_TEXT);
	enum err e = ERR_OK;

	if (code == EXIT_OK) {
		e = azid_open(v->fips, &v->cloud, conf, o->is_cli, &v->identity, why);
		code = keyops_code_vault(e, why);
	}
	v->api_version = o->api_version;
	json_decref(conf);
	return code;
}

static void vault_close(struct vault *v)
{
	azid_close(v->identity);
	fips_close(v->fips);
}

/* The cloud and the vault's name are checked before anybody is asked anything. */
static int vault_parse(const struct key_options *o, const char *name, struct vault *v, struct err_why *why)
{
	enum err e = azure_cloud_find(o->cloud, &v->cloud, why);

	if (e == ERR_OK)
		e = azure_vault_parse(&v->cloud, name, &v->id, why);
	if (e == ERR_OK)
		return EXIT_OK;
	return e == ERR_NOT_FOUND ? EXIT_USAGE : cli_exit_code(e, why);
}

static enum err connect_to(const struct vault *v, const struct azure_key_id *id, struct akv **out, struct err_why *why)
{
	const struct akv_config cfg = {
		.fips = v->fips, .cloud = &v->cloud, .id = id, .identity = v->identity, .api_version = v->api_version};

	return akv_open(&cfg, out, why);
}

static int say(int code, enum err e, const struct err_why *why)
{
	cli_say("%s", why->text[0] ? why->text : err_text(e));
	return code;
}

/* ---- list ---- */

static json_t *text_or_null(const char *s)
{
	json_t *o = s[0] ? json_string(s) : NULL;

	return o ? o : json_null();
}

/* The identifier to give to "key set": without the version, so that new ones are followed. */
static void versionless(const struct vault *v, const char *kid, char out[static AZURE_URI_MAX])
{
	struct azure_key_id id;

	if (azure_key_id_parse(&v->cloud, kid, &id, NULL) == ERR_OK)
		azure_key_id_format(&id, false, out);
	else
		snprintf(out, AZURE_URI_MAX, "%s", kid);
}

static json_t *list_item(const struct vault *v, const struct akv_key *key, time_t now)
{
	char reason[256] = "", uri[AZURE_URI_MAX];
	bool fit = key->kty[0] && vault_key_fit(key, now, reason);

	if (!key->kty[0])
		snprintf(reason, sizeof(reason), "it may not be looked at by this identity");
	versionless(v, key->kid, uri);
	return json_pack("{s:o, s:o, s:o, s:I, s:b, s:b, s:o, s:o}", "uri", text_or_null(uri), "kid",
		text_or_null(key->kid), "type", text_or_null(key->kty), "bits", (json_int_t)key->bits, "enabled",
		key->enabled, "fit", fit, "reason", text_or_null(fit ? "" : reason), "recovery_level",
		text_or_null(key->recovery_level));
}

static void print_list(const json_t *list, bool more)
{
	if (json_array_size(list) == 0)
		puts("The vault has no keys; \"blobcryptfs key create\" makes one.");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);
		const char *type = json_string_value(json_object_get(o, "type"));
		const char *reason = json_string_value(json_object_get(o, "reason"));
		json_int_t bits = json_integer_value(json_object_get(o, "bits"));
		char what[48];

		if (bits)
			snprintf(what, sizeof(what), "%.30s %lld", type ? type : "?", (long long)bits);
		else
			snprintf(what, sizeof(what), "%.40s", type ? type : "?");
		printf("%-7s%-15s%s\n", json_is_true(json_object_get(o, "fit")) ? "fit" : "unfit", what,
			json_string_value(json_object_get(o, "uri")));
		if (reason)
			printf("%22s%s\n", "", reason);
	}
	if (more)
		printf("There are more than %d keys; the others are not shown.\n", LIST_MAX);
}

static int list_open(const struct vault *v, const struct key_options *o, struct akv_key *keys, struct err_why *why)
{
	struct akv *akv = NULL;
	json_t *list = json_array();
	size_t n = 0;
	enum err e = connect_to(v, &v->id, &akv, why);
	bool more;

	if (e == ERR_OK)
		e = akv_list(akv, keys, LIST_MAX, &n, why);
	more = e == ERR_RANGE;
	akv_close(akv);
	if (e != ERR_OK && !more) {
		json_decref(list);
		return say(keyops_code_vault(e, why), e, why);
	}
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, list_item(v, &keys[i], time(NULL)));
	if (o->as_json) {
		json_t *all = json_pack("{s:s, s:O, s:b}", "vault", v->id.base, "keys", list, "more", more);

		if (all)
			report_dump(all, stdout);
		json_decref(all);
	} else {
		print_list(list, more);
	}
	json_decref(list);
	return EXIT_OK;
}

int key_list(struct cli *c, const struct key_options *o, char **operands)
{
	struct vault v = {0};
	struct err_why why = {0};
	struct akv_key *keys = calloc(LIST_MAX, sizeof(*keys));
	int code = keys ? vault_parse(o, operands[0], &v, &why) : cli_why(&why, EXIT_MEMORY, NO_MEMORY_TEXT);

	if (code == EXIT_OK)
		code = vault_open(c, o, &v, &why);
	if (code == EXIT_OK)
		code = list_open(&v, o, keys, &why);
	else
		cli_say("%s", why.text);
	vault_close(&v);
	free(keys);
	return code;
}

/* ---- create ---- */

struct wish {
	enum akv_kind kind;
	const char *kty;
	unsigned bits;
};

static int wish_parse(const struct key_options *o, struct wish *w, struct err_why *why)
{
	const char *type = o->type ? o->type : "RSA";

	if (strcasecmp(type, "RSA") == 0)
		*w = (struct wish){AKV_RSA, "RSA", SIZE_DEFAULT};
	else if (strcasecmp(type, "RSA-HSM") == 0)
		*w = (struct wish){AKV_RSA_HSM, "RSA-HSM", SIZE_DEFAULT};
	else if (strcasecmp(type, "oct-HSM") == 0)
		*w = (struct wish){AKV_OCT_HSM, "oct-HSM", SIZE_OCT};
	else
		return cli_why(why, EXIT_USAGE,
			"A volume can't be put under a key of type \"%.30s\"; there are RSA, RSA-HSM and oct-HSM.",
			type);
	if (!o->size)
		return EXIT_OK;
	w->bits = o->size;
	if (w->kind == AKV_OCT_HSM ? w->bits != SIZE_OCT : w->bits != 2048 && w->bits != 3072 && w->bits != 4096)
		return cli_why(why, EXIT_USAGE, "A key of type %s can't have %u bits here; it can have %s.", w->kty,
			w->bits, w->kind == AKV_OCT_HSM ? "256" : "2048, 3072 or 4096");
	return EXIT_OK;
}

static int name_parse(const char *name, struct azure_key_id *id, struct err_why *why)
{
	static const char set[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-";
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_KEY || strspn(name, set) != len)
		return cli_why(why, EXIT_USAGE,
			"\"%.130s\" is no name of a key; it has 1 to %d letters, digits and hyphens.", name,
			NAME_MAX_KEY);
	memcpy(id->name, name, len + 1);
	id->version[0] = '\0';
	return EXIT_OK;
}

/* Dry run: is the name taken? */
static int create_dry(const struct vault *v, struct akv *akv, const struct wish *w, struct err_why *why)
{
	struct akv_key key;
	char uri[AZURE_URI_MAX];
	enum err e = akv_get(akv, &key, why);

	azure_key_id_format(&v->id, false, uri);
	if (e == ERR_OK)
		printf("Dry run: %s exists; a new version of it would be made, %s of %u bits.\n", uri, w->kty, w->bits);
	else if (akv_detail(akv)->http_status == 404)
		printf("Dry run: %s would be made, %s of %u bits, for wrapKey and unwrapKey only.\n", uri, w->kty,
			w->bits);
	else
		return say(keyops_code_vault(e, why), e, why);
	return EXIT_OK;
}

static int create_open(const struct vault *v, const struct key_options *o, const struct wish *w, struct err_why *why)
{
	struct akv *akv = NULL;
	struct akv_key key;
	char uri[AZURE_URI_MAX], reason[256] = "";
	enum err e = connect_to(v, &v->id, &akv, why);
	bool fit;

	if (e == ERR_OK && o->dry_run) {
		int code = create_dry(v, akv, w, why);

		akv_close(akv);
		return code;
	}
	if (e == ERR_OK)
		e = akv_create(akv, w->kind, w->bits, &key, why);
	akv_close(akv);
	if (e != ERR_OK)
		return say(e == ERR_CONFIG ? EXIT_KEY_UNFIT : keyops_code_vault(e, why), e, why);
	azure_key_id_format(&v->id, false, uri);
	fit = vault_key_fit(&key, time(NULL), reason);
	if (o->as_json) {
		json_t *all = json_pack("{s:s, s:o, s:o, s:I, s:b, s:o}", "uri", uri, "kid", text_or_null(key.kid),
			"type", text_or_null(key.kty), "bits", (json_int_t)key.bits, "fit", fit, "reason",
			text_or_null(fit ? "" : reason));

		if (all)
			report_dump(all, stdout);
		json_decref(all);
		return EXIT_OK;
	}
	printf("made:      %s\n", key.kid);
	if (fit)
		printf("next step: blobcryptfs key set %s DIR\n", uri);
	else
		printf("It is not fit for a volume yet: %s\n", reason);
	return EXIT_OK;
}

int key_create(struct cli *c, const struct key_options *o, char **operands)
{
	struct vault v = {0};
	struct err_why why = {0};
	struct wish w = {0};
	int code = wish_parse(o, &w, &why);

	if (code == EXIT_OK)
		code = vault_parse(o, operands[0], &v, &why);
	if (code == EXIT_OK)
		code = name_parse(operands[1], &v.id, &why);
	if (code == EXIT_OK)
		code = vault_open(c, o, &v, &why);
	if (code == EXIT_OK)
		code = create_open(&v, o, &w, &why);
	else
		cli_say("%s", why.text);
	vault_close(&v);
	return code;
}

/* ---- identity ---- */

/* A path is a volume; anything else names a vault. */
static bool names_volume(const char *arg)
{
	struct stat st;

	return !strstr(arg, "://") && (strchr(arg, '/') || stat(arg, &st) == 0);
}

static int identity_to(struct cli *c, const struct key_options *o, const struct keyops_where *where, json_t **answer,
	struct err_why *why)
{
	struct fips *fips = NULL;
	json_t *who = NULL;
	int code = key_network(c, &fips, why);

	if (code == EXIT_OK) {
		enum err e = keyops_who(fips, where, &who, why);

		code = keyops_code_vault(e, why);
		if (e != ERR_OK && !why->text[0])
			err_set(why, e, 0, "%s", err_text(e));
	}
	if (code == EXIT_OK) {
		*answer = json_pack("{s:i, s:O}", "code", EXIT_OK, "identity", who);
		if (!*answer)
			code = cli_why(why, EXIT_MEMORY, NO_MEMORY_TEXT);
	}
	json_decref(who);
	fips_close(fips);
	(void)o;
	return code;
}

static int identity_of_vault(
	struct cli *c, const struct key_options *o, const char *name, json_t **answer, struct err_why *why)
{
	struct vault v = {0};
	int code = vault_parse(o, name, &v, why);
	const struct keyops_where where = {
		.cloud = o->cloud, .id = v.id, .identity = o->identity, .allow_cli = o->is_cli};

	return code == EXIT_OK ? identity_to(c, o, &where, answer, why) : code;
}

/* Another identity than the volume's own, to the volume's vault: nobody else has to be asked. */
static int other_identity(
	struct cli *c, const struct key_options *o, const char *dir, json_t **answer, struct err_why *why)
{
	struct keyops_where where = {.identity = o->identity, .allow_cli = o->is_cli};
	struct azure_cloud cloud;
	json_t *conf = NULL;
	int code = key_conf(dir, &conf, why);
	enum err e;

	if (code == EXIT_OK && !conf)
		code = cli_why(why, EXIT_USAGE,
			"No customer's key is on in %.200s, so no vault is known; name the vault instead.", dir);
	if (code == EXIT_OK) {
		const char *uri = json_string_value(json_object_get(conf, "uri"));

		where.cloud = json_string_value(json_object_get(conf, "cloud"));
		where.api_version = json_string_value(json_object_get(conf, "api_version"));
		e = azure_cloud_find(where.cloud, &cloud, why);
		if (e == ERR_OK)
			e = azure_key_id_parse(&cloud, uri ? uri : "", &where.id, why);
		code = e == ERR_OK ? identity_to(c, o, &where, answer, why) : cli_exit_code_key(e, why);
	}
	json_decref(conf);
	return code;
}

int key_identity(struct cli *c, const struct key_options *o, char **operands)
{
	struct err_why why = {0};
	json_t *answer = NULL;
	int code;

	if (!names_volume(operands[0]))
		code = identity_of_vault(c, o, operands[0], &answer, &why);
	else if (o->cloud)
		code = cli_why(&why, EXIT_USAGE, "The cloud of a volume's key is known; --cloud goes with a vault.");
	else if (o->identity)
		code = other_identity(c, o, operands[0], &answer, &why);
	else
		code = key_ask(c, operands[0], "key_identity", NULL, o, &answer, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else
		code = key_print_answer(answer, o->as_json);
	json_decref(answer);
	return code;
}
