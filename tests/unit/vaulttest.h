/* SPDX-License-Identifier: Apache-2.0 */
/* vaulttest - what the tests of vault share: a vault of the emulator's for each test, and its examination. */
#pragma once
#include "keyprov/vault.h"
#include "tests/unit/emutest.h"

static struct fips *fips;
static char vault[16]; /* of the present test */
static char uri[AZURE_URI_MAX];

static inline void make_uri(const char *suffix, const char *key)
{
	snprintf(uri, sizeof(uri), "https://%s%s:%s/keys/%s", vault, suffix, emu.cloud.port, key);
}

static inline int each(void **state)
{
	static unsigned n;

	(void)state;
	snprintf(vault, sizeof(vault), "t%u", ++n);
	emu_do("fault clear");
	emu_do("vault create %s", vault);
	emu_do("key create %s k", vault);
	emu_do("grant %s vm", vault);
	make_uri(emu.cloud.vault_suffix, "k");
	return 0;
}

/* ---- the checks ---- */

struct exam {
	struct vault_check check[VAULT_CHECKS];
	struct keyprov_detail detail;
	enum err first;
	struct err_why why;
	json_t *conf;
};

static inline struct vault_want want(void)
{
	return (struct vault_want){.uri = uri, .cloud = "emulator", .lease_seconds = UINT32_MAX};
}

static inline const struct vault_check *line(const struct exam *x, const char *name)
{
	for (int i = 0; i < VAULT_CHECKS; i++)
		if (strcmp(x->check[i].name, name) == 0)
			return &x->check[i];
	fail();
	return NULL;
}

static inline void print(const struct exam *x)
{
	static const char *const states[] = {"ok", "FAILED", "warning", "skipped"};

	for (int i = 0; i < VAULT_CHECKS; i++)
		print_message("#  %-17s %-8s %s%s%s\n", x->check[i].name, states[x->check[i].state], x->check[i].found,
			x->check[i].remedy[0] ? " -> " : "", x->check[i].remedy);
}

/* Every line is filled, whatever it says. */
static inline void examine(const struct vault_want *w, struct exam *x)
{
	enum err e;
	bool failed = false;

	memset(x, 0, sizeof(*x));
	e = vault_examine(fips, w, x->check, &x->conf, &x->detail, &x->first, &x->why);
	if (e != ERR_OK)
		print_error("%s\n", x->why.text);
	assert_ok(e);
	for (int i = 0; i < VAULT_CHECKS; i++) {
		const struct vault_check *c = &x->check[i];

		if (c->found[0] == '\0' ||
			(c->remedy[0] == '\0') != (c->state == CHECK_OK || c->state == CHECK_SKIPPED))
			print(x);
		assert_true(c->found[0] != '\0');
		assert_int_equal(c->remedy[0] == '\0', c->state == CHECK_OK || c->state == CHECK_SKIPPED);
		failed = failed || c->state == CHECK_FAILED;
	}
	assert_int_equal(failed, x->first != ERR_OK);
	assert_int_equal(failed, x->conf == NULL);
	assert_int_equal(failed, x->why.text[0] != '\0');
}

static inline const char *text(const json_t *conf, const char *member)
{
	return json_string_value(json_object_get(conf, member));
}
