/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey - puts the volume's keys under another KEK.  No data is touched.
 *
 * Order: the new KEK is durable; both copies of the descriptor are durable; the old KEK is forgotten.  At every point
 * in between each copy of the descriptor opens with a KEK that is still there.
 */
#include "keyprov/sealed_json.h"
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

static enum err wrap_one(
	struct keyprov *p, const struct secret *key, struct wrapped *w, struct key_ref *ref, struct err_why *why)
{
	enum err e = keyprov_wrap(p, key, w, ref, why);

	return e == ERR_OK ? check_wrapped(p, w, ref, key, why) : e;
}

enum err envelope_make(struct keyring *k, struct descriptor *d, json_t **conf, struct err_why *why)
{
	struct key_ref again;
	enum err e = wrap_one(k->provider, k->volume_key, &d->volume_key, &d->key, why);

	if (e == ERR_OK && d->suite == SUITE_XTS_GCM) {
		e = wrap_one(k->provider, k->inner_key, &d->inner_key, &again, why);
		if (e == ERR_OK && again.version != d->key.version)
			e = err_set(
				why, ERR_KEY_UNAVAILABLE, 0, "the managed key changed while it was used; try again");
	}
	if (e != ERR_OK)
		return e;
	d->wrapped_at = time(NULL);
	d->key.created = d->wrapped_at;
	*conf = k->provider->ops->conf(k->provider);
	if (!*conf)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	d->provider = *conf;
	memset(d->source, 0, sizeof(d->source));
	strncpy(d->source, json_string_value(json_object_get(*conf, "source")), sizeof(d->source) - 1);
	return ERR_OK;
}

/* A new KEK where the provider can make one; else the given one must differ from the old. */
static enum err new_kek(struct keyprov *p, const struct descriptor *old, bool given, bool *made, struct key_ref *ref,
	struct err_why *why)
{
	struct secret *same;
	enum err e = keyprov_rotate(p, ref, why);

	*made = e == ERR_OK;
	if (e != ERR_UNSUPPORTED || !given)
		return e;
	/* It may even be the very file that is about to be removed as the old key. */
	if (keyprov_unwrap(p, &old->volume_key, &old->key, &same, NULL) == ERR_OK) {
		secret_free(same);
		return err_set(why, ERR_CONFIG, 0, "the new key is the one that is in use already");
	}
	return ERR_OK;
}

/* Both copies; then the volume is described by the new one. */
static enum err switch_over(
	struct volume *v, struct keyring *k, struct descriptor *d, bool *replaced, struct err_why *why)
{
	json_t *j;
	enum err e = descriptor_build(d, &j);

	if (e != ERR_OK)
		return err_set(why, e, 0, "out of memory");
	e = sealed_json_seal(j, k->vk, MAC_DESCRIPTOR);
	if (e != ERR_OK)
		e = err_set(why, e, 0, "can't compute the MAC of the descriptor: %s", err_text(e));
	else
		e = descriptor_write(v->dirfd, j, replaced, why);
	if (!*replaced) {
		json_decref(j);
		return e;
	}
	v->second_copy_bad = e != ERR_OK;
	v->from_backup = false;
	json_decref(v->second);
	v->second = e == ERR_OK ? NULL : v->descriptor; /* what the other copy still is, in all likelihood */
	if (e == ERR_OK)
		json_decref(v->descriptor);
	v->descriptor = j;
	descriptor_adopt(v, d);
	return e;
}

static enum err rekey_with(
	struct volume *v, struct keyring *k, struct keyprov *old_provider, bool given, struct err_why *why)
{
	struct descriptor old, d;
	struct key_ref made_ref;
	bool made = false, replaced = false;
	json_t *conf = NULL;
	enum err e = descriptor_parse(v->descriptor, &old, why);

	if (e != ERR_OK)
		return e;
	d = old;
	e = new_kek(k->provider, &old, given, &made, &made_ref, why);
	if (e == ERR_OK)
		e = envelope_make(k, &d, &conf, why);
	if (e == ERR_OK)
		e = switch_over(v, k, &d, &replaced, why);
	json_decref(conf);
	/* Nothing refers to the new KEK unless the first copy is in place. */
	if (e != ERR_OK && made && !replaced)
		best_effort(keyprov_remove(k->provider, &made_ref, NULL));
	if (e != ERR_OK)
		return e;
	/* From here on the rotation has happened; an old key that can't be removed now is removed by the next one. */
	if (old_provider == k->provider)
		best_effort(keyprov_prune(k->provider, &d.key, NULL));
	else
		best_effort(keyprov_remove(old_provider, &old.key, NULL));
	return ERR_OK;
}

static enum err rekey_locked(
	struct volume *v, const struct fips *f, const json_t *now, const json_t *next, struct err_why *why)
{
	struct keyprov *old_provider;
	struct keyring k;
	enum err e = volume_unlock_keys(v, f, now, &k, why);

	if (e != ERR_OK)
		return e;
	old_provider = k.provider;
	if (next)
		e = provider_open(f, "managed", next, v->id, NULL, &k.provider, why);
	if (e == ERR_OK)
		e = rekey_with(v, &k, old_provider, next != NULL, why);
	if (k.provider != old_provider)
		keyprov_close(old_provider);
	keyring_clear(&k);
	return e;
}

enum err volume_rekey(
	struct volume *v, const struct fips *f, const json_t *now, const json_t *next, struct err_why *why)
{
	struct lock_holder holder;
	bool ours = v->lock_fd < 0;
	enum err e = ERR_OK;

	if (ours)
		e = volume_lock(v, "", &holder, why);
	if (e == ERR_OK && v->lock_shared)
		e = err_set(why, ERR_IO, EROFS, "can't change the key: the backing directory is read-only");
	if (e == ERR_OK)
		e = rekey_locked(v, f, now, next, why);
	if (ours && v->lock_fd >= 0) {
		close(v->lock_fd);
		v->lock_fd = -1;
		v->lock_shared = false;
	}
	return e;
}

enum err volume_rotate(struct volume *v, const struct fips *f, const json_t *override, struct err_why *why)
{
	return volume_rekey(v, f, NULL, override, why);
}
