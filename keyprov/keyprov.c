/* SPDX-License-Identifier: Apache-2.0 */
/* keyprov - the registry of providers, and the checks common to all of them.  The contract is in PROVIDERS.md. */
#include "keyprov/keyprov.h"
#include <string.h>

static const struct keyprov_ops *const providers[] = {&managed_ops, &vault_ops};

const struct keyprov_ops *keyprov_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof(providers) / sizeof(providers[0]); i++)
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	return NULL;
}

enum err keyprov_open(const char *name, const struct fips *f, const json_t *conf, const struct keyprov *like,
	struct keyprov **out, struct err_why *why)
{
	const struct keyprov_ops *ops = keyprov_find(name);
	enum err e;

	*out = NULL;
	if (!ops)
		return err_set(why, ERR_UNSUPPORTED, 0, "there is no key provider %.32s in this program",
			name ? name : "(none)");
	if (!f || !json_is_object(conf) || (like && like->ops != ops))
		return err_set(why, ERR_BUG, 0, "bad arguments to key provider %s", name);
	e = ops->open(f, conf, like, out, why);
	if (e != ERR_OK)
		*out = NULL;
	else
		(*out)->ops = ops;
	return e;
}

enum err keyprov_wrap(
	struct keyprov *p, const struct secret *key, struct wrapped *out, struct key_ref *ref, struct err_why *why)
{
	enum err e;

	memset(out, 0, sizeof(*out));
	memset(ref, 0, sizeof(*ref));
	if (!p || !key || secret_len(key) != VOLUME_KEY_LEN)
		return err_set(why, ERR_BUG, 0, "bad key to wrap");
	e = p->ops->wrap(p, key, out, ref, why);
	if (e == ERR_OK && (out->len == 0 || out->len > sizeof(out->bytes)))
		e = err_set(why, ERR_BUG, 0, "key provider %s made an impossible wrapped key", p->ops->name);
	return e;
}

enum err keyprov_unwrap(struct keyprov *p, const struct wrapped *in, const struct key_ref *ref, struct secret **key,
	struct err_why *why)
{
	enum err e;

	*key = NULL;
	if (!p || !ref || in->len == 0 || in->len > sizeof(in->bytes))
		return err_set(why, ERR_CORRUPT, 0, "the wrapped key has an impossible length");
	e = p->ops->unwrap(p, in, ref, key, why);
	if (e != ERR_OK) {
		*key = NULL;
		return e;
	}
	if (secret_len(*key) != VOLUME_KEY_LEN) {
		secret_free(*key);
		*key = NULL;
		return err_set(why, ERR_CORRUPT, 0, "the wrapped key is not of %d bytes", VOLUME_KEY_LEN);
	}
	return ERR_OK;
}

enum err keyprov_state(
	struct keyprov *p, const struct key_ref *ref, enum key_state *out, struct key_ref *newest, struct err_why *why)
{
	memset(newest, 0, sizeof(*newest));
	*out = KEY_UNREACHABLE;
	return p->ops->state(p, ref, out, newest, why);
}

enum err keyprov_rotate(struct keyprov *p, struct key_ref *newest, struct err_why *why)
{
	memset(newest, 0, sizeof(*newest));
	return p->ops->rotate(p, newest, why);
}

enum err keyprov_remove(struct keyprov *p, const struct key_ref *ref, struct err_why *why)
{
	return p->ops->remove(p, ref, why);
}

enum err keyprov_prune(struct keyprov *p, const struct key_ref *keep, struct err_why *why)
{
	if (!keep)
		return err_set(why, ERR_BUG, 0, "prune needs a version to keep");
	return p->ops->prune(p, keep, why);
}

void keyprov_close(struct keyprov *p)
{
	if (p)
		p->ops->close(p);
}

const struct keyprov_detail *keyprov_detail_get(const struct keyprov *p)
{
	static const struct keyprov_detail none;

	return p && p->ops->detail ? p->ops->detail(p) : &none;
}

void keyprov_abort(struct keyprov *p)
{
	if (p && p->ops->abort)
		p->ops->abort(p);
}

void keyprov_fresh(struct keyprov *p)
{
	if (p && p->ops->fresh)
		p->ops->fresh(p);
}
