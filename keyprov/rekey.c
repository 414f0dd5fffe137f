/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey - replaces the envelope: puts the volume's keys under another KEK, or under a customer's key, another one, or
 * none.  No data is touched.
 *
 * Order: everything new is durable; the descriptor is replaced (descriptor_write); the old KEK is forgotten.  At every
 * point in between each copy of the descriptor opens with keys that are still there.  PROVIDERS.md sections 5 and 8.
 */
#include "keyprov/sealed_json.h"
#include "keyprov/vault.h"
#include "keyprov/volume_internal.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Does w come back as key?  Asked before anything depends on it. */
static enum err check_wrapped(struct keyprov *p, const struct wrapped *w, const struct key_ref *ref,
	const struct secret *key, struct err_why *why)
{
	struct secret *back;
	enum err e = keyprov_unwrap(p, w, ref, &back, why);

	if (e == ERR_OK && !secret_equal(secret_view(back), secret_view(key), secret_len(key)))
		e = err_set(why, ERR_BUG, 0, "the wrapped key does not come back the same");
	secret_free(back);
	return e;
}

enum err wrap_checked(
	struct keyprov *p, const struct secret *key, struct wrapped *w, struct key_ref *ref, struct err_why *why)
{
	enum err e = keyprov_wrap(p, key, w, ref, why);

	return e == ERR_OK ? check_wrapped(p, w, ref, key, why) : e;
}

enum err envelope_finish(struct keyprov *p, struct envelope *out, json_t **conf, struct err_why *why)
{
	out->wrapped_at = time(NULL);
	out->key.created = out->wrapped_at;
	*conf = p->ops->conf(p);
	if (!*conf)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	out->provider = *conf;
	memset(out->kind, 0, sizeof(out->kind));
	strncpy(out->kind, p->ops->name, sizeof(out->kind) - 1);
	memset(out->source, 0, sizeof(out->source));
	strncpy(out->source, json_string_value(json_object_get(*conf, "source")), sizeof(out->source) - 1);
	return ERR_OK;
}

enum err envelope_make(struct keyring *k, enum suite suite, struct envelope *out, json_t **conf, struct err_why *why)
{
	struct key_ref again;
	enum err e = wrap_checked(k->provider, k->volume_key, &out->volume_key, &out->key, why);

	if (e == ERR_OK && suite == SUITE_XTS_GCM) {
		e = wrap_checked(k->provider, k->inner_key, &out->inner_key, &again, why);
		if (e == ERR_OK && again.version != out->key.version)
			e = err_set(
				why, ERR_KEY_UNAVAILABLE, 0, "the managed key changed while it was used; try again");
	}
	return e == ERR_OK ? envelope_finish(k->provider, out, conf, why) : e;
}

/* ---- one step ---- */

struct change {
	struct volume *v;
	const struct fips *f;
	struct keyring *k;			/* the present keys; its provider is the managed one from now on */
	struct keyprov *old_provider;		/* the managed one until now */
	struct keyprov *customer;		/* on top from now on, or NULL */
	enum { KEEP, IF_POSSIBLE, MUST } renew; /* the managed KEK */
	bool given;				/* a new one, which the user names */
	bool made;				/* the managed KEK made_ref is new, and ours to remove */
	struct key_ref made_ref;
	json_t *managed_json, *conf, *outer_conf, *text; /* owned, borrowed by the new envelopes */
	struct secret *layer;
};

/* A new KEK where the provider can make one; else the given one must differ from the old. */
static enum err new_kek(struct change *c, struct err_why *why)
{
	struct keyprov *p = c->k->provider;
	struct secret *same;
	enum err e = keyprov_rotate(p, &c->made_ref, why);

	c->made = e == ERR_OK;
	if (e != ERR_UNSUPPORTED || !c->given)
		return e;
	/* It may even be the very file that is about to be removed as the old key. */
	if (keyprov_unwrap(p, &c->k->managed.volume_key, &c->k->managed.key, &same, NULL) == ERR_OK) {
		secret_free(same);
		return err_set(why, ERR_CONFIG, 0, "the new key is the one that is in use already");
	}
	return ERR_OK;
}

/* The managed envelope from now on: in m, and as JSON. */
static enum err make_managed(struct change *c, enum suite suite, struct envelope *m, struct err_why *why)
{
	struct err_why said = {0};
	enum err e;

	*m = c->k->managed;
	e = c->renew == KEEP ? ERR_UNSUPPORTED : new_kek(c, &said);
	if (e == ERR_UNSUPPORTED && c->renew != MUST) {
		c->renew = KEEP;
		c->managed_json = json_incref(c->k->managed_json);
		return ERR_OK;
	}
	if (e != ERR_OK)
		err_set(why, e, said.sys_errno, "%s", said.text);
	else
		e = envelope_make(c->k, suite, m, &c->conf, why);
	if (e != ERR_OK)
		return e;
	c->managed_json = envelope_build(m, suite);
	return c->managed_json ? ERR_OK : err_set(why, ERR_NOMEM, 0, "out of memory");
}

/* The customer's key is asked first: it is the one that may say no. */
static enum err make_envelopes(
	struct change *c, const struct descriptor *old, struct descriptor *d, struct envelope *m, struct err_why *why)
{
	enum err e = ERR_OK;

	*d = *old;
	if (c->customer) {
		memset(&d->env, 0, sizeof(d->env));
		d->env.key.version = kind_is_managed(old->env.kind) ? 1 : old->env.key.version + 1;
		e = customer_wrap(c->f, c->customer, &c->layer, &d->env, &c->outer_conf, why);
		c->v->detail = *keyprov_detail_get(c->customer);
	}
	if (e == ERR_OK)
		e = make_managed(c, d->suite, m, why);
	if (e == ERR_OK && c->customer)
		e = customer_seal(c->f, d, c->layer, c->managed_json, &c->text, why);
	else if (e == ERR_OK)
		d->env = *m;
	return e;
}

/* Both copies; then the volume is described by the new one. */
static enum err switch_over(struct change *c, const struct descriptor *d, const struct envelope *m, bool alone,
	bool *replaced, struct err_why *why)
{
	struct volume *v = c->v;
	json_t *j;
	enum err e = descriptor_build(d, &j);

	if (e != ERR_OK)
		return err_set(why, e, 0, "out of memory");
	e = sealed_json_seal(j, c->k->vk, MAC_DESCRIPTOR);
	if (e != ERR_OK)
		e = err_set(why, e, 0, "can't compute the MAC of the descriptor: %s", err_text(e));
	else
		e = descriptor_write(v->dirfd, j, alone, replaced, why);
	if (!*replaced) {
		json_decref(j);
		v->second_copy_bad |= alone;
		if (alone)
			best_effort(descriptor_settle(v, NULL));
		return e;
	}
	v->second_copy_bad = e != ERR_OK;
	v->from_backup = false;
	json_decref(v->second);
	v->second = NULL;
	if (e == ERR_OK || alone)
		json_decref(v->descriptor);
	else
		v->second = v->descriptor; /* what the other copy still is, in all likelihood */
	v->descriptor = j;
	volume_adopt(v, d, m);
	return e;
}

/* Errors here are none of the step's: it has happened, and what is left of the old key is removed by the next one. */
static void forget_old_kek(struct change *c, const struct envelope *m)
{
	if (c->old_provider == c->k->provider)
		best_effort(keyprov_prune(c->k->provider, &m->key, NULL));
	else
		best_effort(keyprov_remove(c->old_provider, &c->k->managed.key, NULL));
}

static enum err change_run(struct change *c, struct err_why *why)
{
	bool alone, replaced = false;
	struct descriptor old, d;
	struct envelope m;
	enum err e = descriptor_parse(c->v->descriptor, &old, why);

	if (e != ERR_OK)
		return e;
	alone = c->customer || !kind_is_managed(old.env.kind);
	if (alone) /* the first copy has to be good before the second one goes */
		e = descriptor_settle(c->v, why);
	if (e == ERR_OK)
		e = make_envelopes(c, &old, &d, &m, why);
	if (e == ERR_OK)
		e = switch_over(c, &d, &m, alone, &replaced, why);
	/* Nothing refers to the new KEK unless the first copy is in place. */
	if (e != ERR_OK && c->made && !replaced)
		best_effort(keyprov_remove(c->k->provider, &c->made_ref, NULL));
	if (e == ERR_OK && c->renew != KEEP)
		forget_old_kek(c, &m);
	return e;
}

static void change_clear(struct change *c)
{
	json_decref(c->managed_json);
	json_decref(c->conf);
	json_decref(c->outer_conf);
	json_decref(c->text);
	secret_free(c->layer);
	if (c->customer != c->k->customer)
		keyprov_close(c->customer);
	if (c->old_provider != c->k->provider)
		keyprov_close(c->old_provider);
}

/* Is there a version of the customer's key that is newer than the envelope's? */
static enum err look_for_newer(struct change *c, bool *newer, struct err_why *why)
{
	struct key_ref newest;
	enum key_state state;
	enum err e = keyprov_state(c->customer, &c->v->key, &state, &newest, why);

	c->v->detail = *keyprov_detail_get(c->customer);
	*newer = e == ERR_OK && newest.id[0] && strcmp(newest.id, c->v->key.id) != 0;
	return e;
}

static enum err run_order(struct change *c, struct step_order *o, struct err_why *why)
{
	/* a passphrase with another salt would be no other key to an old envelope */
	bool own_kek = strcmp(c->k->managed.source, "store") == 0;
	bool go = true;
	enum err e = ERR_OK;

	c->customer = c->k->customer;
	switch (o->step) {
	case STEP_REKEY:
		c->renew = MUST;
		c->given = o->next != NULL;
		if (o->next)
			e = provider_open(c->f, managed_ops.name, o->next, c->v->id, NULL, &c->k->provider, why);
		break;
	case STEP_SET:
		c->renew = !c->k->customer && own_kek ? IF_POSSIBLE : KEEP;
		e = provider_open(c->f, VAULT_PROVIDER, o->conf, c->v->id, NULL, &c->customer, why);
		break;
	case STEP_ROTATE:
		e = look_for_newer(c, &go, why);
		break;
	case STEP_OFF:
		c->renew = own_kek ? IF_POSSIBLE : KEEP;
		c->customer = NULL;
		break;
	}
	if (e == ERR_OK && go)
		e = change_run(c, why);
	o->changed = e == ERR_OK && go;
	return e;
}

static enum err step_locked(struct volume *v, const struct fips *f, struct step_order *o, struct err_why *why)
{
	struct keyring k;
	struct change c = {.v = v, .f = f, .k = &k};
	enum err e;

	if ((o->step == STEP_ROTATE || o->step == STEP_OFF) && !volume_has_customer(v))
		return err_set(why, ERR_CONFIG, 0, "no customer's key is on");
	e = volume_unlock_keys(v, f, o->now, &k, why);
	if (e != ERR_OK)
		return e;
	c.old_provider = k.provider;
	e = run_order(&c, o, why);
	change_clear(&c);
	keyring_clear(&k);
	return e;
}

enum err volume_step(struct volume *v, const struct fips *f, struct step_order *o, struct err_why *why)
{
	struct lock_holder holder;
	bool ours = v->lock_fd < 0;
	enum err e = ERR_OK;

	if (ours)
		e = volume_lock(v, "", &holder, why);
	if (e == ERR_OK && v->lock_shared)
		e = err_set(why, ERR_IO, EROFS, "can't change the key: the backing directory is read-only");
	if (e == ERR_OK)
		e = step_locked(v, f, o, why);
	if (ours && v->lock_fd >= 0) {
		close(v->lock_fd);
		v->lock_fd = -1;
		v->lock_shared = false;
	}
	return e;
}

enum err volume_rekey(
	struct volume *v, const struct fips *f, const json_t *now, const json_t *next, struct err_why *why)
{
	struct step_order o = {.step = STEP_REKEY, .now = now, .next = next};

	return volume_step(v, f, &o, why);
}

enum err volume_rotate(struct volume *v, const struct fips *f, const json_t *override, struct err_why *why)
{
	return volume_rekey(v, f, NULL, override, why);
}
