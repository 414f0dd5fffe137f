/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor before anything of it is authenticated, and a managed envelope out of a customer's: with an RSA key
 * anybody can make one that opens.  What parses has to come back the same from what is built of it.
 */
#include "keyprov/descriptor.h"
#include "keyprov/vault.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_text(const char *text)
{
	for (const char *c = text; *c; c++)
		check((unsigned char)*c >= ' ' && *c != 0x7f);
}

/* Opening a provider must do no I/O, whatever it is told. */
static void check_provider(const struct envelope *env)
{
	static const struct fips none;
	struct err_why why = {0};
	struct keyprov *p = NULL;
	json_t *conf = json_deep_copy(env->provider);

	json_object_set_new(conf, "volume", json_string("0123456789abcdef0123456789abcdef"));
	if (!kind_is_managed(env->kind)) {
		check((vault_conf_check(conf, &why) == ERR_OK) == (why.text[0] == '\0'));
	} else if (keyprov_open(env->kind, &none, conf, NULL, &p, &why) == ERR_OK) {
		json_t *again = p->ops->conf(p);

		check(json_is_object(again));
		json_decref(again);
		keyprov_close(p);
	} else {
		check(why.text[0] != '\0');
	}
	json_decref(conf);
}

static void check_envelope(const struct envelope *env, enum suite suite)
{
	struct envelope again;
	json_t *j = envelope_build(env, suite);

	check(j && envelope_parse(j, suite, false, &again, NULL) == ERR_OK);
	check(strcmp(env->kind, again.kind) == 0 && strcmp(env->source, again.source) == 0);
	check(env->key.version == again.key.version && strcmp(env->key.id, again.key.id) == 0);
	check(env->wrapped_at == again.wrapped_at && json_equal(env->provider, again.provider));
	check(env->volume_key.len == again.volume_key.len && env->inner_key.len == again.inner_key.len);
	check(memcmp(&env->volume_key, &again.volume_key, sizeof(again.volume_key)) == 0);
	check(memcmp(&env->layer_key, &again.layer_key, sizeof(again.layer_key)) == 0);
	check(!env->sealed == !again.sealed && (!env->sealed || json_equal(env->sealed, again.sealed)));
	check(kind_is_managed(env->kind) ? env->volume_key.len > 0 && !env->sealed
					 : env->layer_key.len > 0 && env->volume_key.len == 0 && env->sealed);
	json_decref(j);
	check_provider(env);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL), *built;
	struct descriptor d, again;
	struct err_why why = {0};
	struct envelope env;
	enum err e;

	if (!json_is_object(j)) {
		json_decref(j);
		return 0;
	}
	e = descriptor_parse(j, &d, &why);
	check(e == ERR_OK || ((e == ERR_CORRUPT || e == ERR_UNSUPPORTED) && why.text[0]));
	check_text(why.text);
	if (e == ERR_OK) {
		check_envelope(&d.env, d.suite);
		check(descriptor_build(&d, &built) == ERR_OK);
		json_object_set(built, "mac", json_object_get(j, "mac"));
		check(descriptor_parse(built, &again, NULL) == ERR_OK);
		check(memcmp(d.id, again.id, ID_BYTES) == 0 && d.rotate_days == again.rotate_days);
		json_decref(built);
	}
	for (enum suite suite = SUITE_GCM; suite <= SUITE_XTS_GCM; suite++) {
		e = envelope_parse(j, suite, true, &env, &why);
		check(e == ERR_OK || e == ERR_CORRUPT || e == ERR_UNSUPPORTED);
		if (e == ERR_OK) {
			check(kind_is_managed(env.kind));
			check_envelope(&env, suite);
		}
	}
	json_decref(j);
	return 0;
}
