/* SPDX-License-Identifier: Apache-2.0 */
/*
 * customer - the outer layer of the envelope: a layer key that the customer's key wraps, and below it the managed
 * envelope.  PROVIDERS.md section 3 is the format, section 8 the life of it; rekey.c has the order of its steps.
 */
#include "keyprov/vault.h"
#include "keyprov/volume_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AAD_TEXT "bcfs1 managed envelope"
#define AAD_MAX	 (sizeof(AAD_TEXT) + ID_BYTES + 2 + 4 + KEY_ID_MAX)

/* ---- the sealed managed envelope ---- */

/* What a sealed envelope is bound to. */
static size_t aad_build(const struct descriptor *d, uint8_t out[static AAD_MAX])
{
	size_t n = sizeof(AAD_TEXT), id_len = strnlen(d->env.key.id, KEY_ID_MAX);
	unsigned suite = (unsigned)d->suite, version = d->env.key.version;

	memcpy(out, AAD_TEXT, n);
	memcpy(out + n, d->id, ID_BYTES);
	n += ID_BYTES;
	out[n++] = (uint8_t)(suite >> 8);
	out[n++] = (uint8_t)suite;
	for (int shift = 24; shift >= 0; shift -= 8)
		out[n++] = (uint8_t)(version >> shift);
	memcpy(out + n, d->env.key.id, id_len);
	return n + id_len;
}

static enum err not_json(struct err_why *why)
{
	return err_set(why, ERR_CORRUPT, 0, VOLUME_DESCRIPTOR " is damaged: its managed envelope is no JSON object");
}

/* in: base64url, of a length that descriptor.c has bounded */
static enum err unseal(
	const struct fips *f, const struct descriptor *d, const struct secret *layer, json_t **out, struct err_why *why)
{
	const char *text = json_string_value(d->env.sealed);
	size_t text_len = json_string_length(d->env.sealed), len = 0;
	uint8_t aad[AAD_MAX], *sealed = malloc(text_len);
	char *plain = locked_alloc(ENVELOPE_MAX);
	enum err e;

	if (!sealed || !plain)
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	else if (b64_decode(text, text_len, sealed, text_len, &len) != ERR_OK || len < GCM_OVERHEAD ||
		 len > GCM_OVERHEAD + ENVELOPE_MAX)
		e = err_set(why, ERR_CORRUPT, 0, VOLUME_DESCRIPTOR " is damaged: managed is missing or impossible");
	else
		e = fips_gcm_open(f, layer, aad, aad_build(d, aad), sealed, len, (uint8_t *)plain);
	if (e == ERR_CORRUPT && len > GCM_OVERHEAD)
		e = err_set(why, e, 0,
			VOLUME_DESCRIPTOR " was changed: the layer key does not open the managed envelope in it;"
					  " restore it from a backup");
	if (e == ERR_OK) {
		*out = json_loadb(plain, len - GCM_OVERHEAD, JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(*out)) {
			json_decref(*out);
			*out = NULL;
			e = not_json(why);
		}
	}
	locked_free(plain);
	free(sealed);
	return e;
}

/* plain has the managed envelope's text; text gets what is stored of it. */
static enum err seal_text(const struct fips *f, const struct descriptor *d, const struct secret *layer,
	const char *plain, size_t len, json_t **text)
{
	uint8_t aad[AAD_MAX], *sealed = malloc(len + GCM_OVERHEAD);
	char *b64 = malloc(b64_len(len + GCM_OVERHEAD) + 1);
	enum err e = ERR_NOMEM;

	if (sealed && b64)
		e = fips_gcm_seal(f, layer, aad, aad_build(d, aad), plain, len, sealed);
	if (e == ERR_OK) {
		b64_encode(sealed, len + GCM_OVERHEAD, b64);
		*text = json_string(b64);
		e = *text ? ERR_OK : ERR_NOMEM;
	}
	free(b64);
	free(sealed);
	return e;
}

enum err customer_seal(const struct fips *f, struct descriptor *d, const struct secret *layer, const json_t *managed,
	json_t **text, struct err_why *why)
{
	const size_t flags = JSON_COMPACT | JSON_SORT_KEYS;
	char *plain = locked_alloc(ENVELOPE_MAX);
	json_t *back = NULL;
	size_t len;
	enum err e;

	if (!plain)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	len = json_dumpb(managed, plain, ENVELOPE_MAX, flags);
	if (len == 0 || len > ENVELOPE_MAX)
		e = err_set(
			why, ERR_RANGE, 0, "the description of the managed key is longer than %u bytes", ENVELOPE_MAX);
	else if ((e = seal_text(f, d, layer, plain, len, text)) != ERR_OK)
		err_set(why, e, 0, "can't encrypt the managed envelope: %s", err_text(e));
	locked_free(plain);
	if (e != ERR_OK)
		return e;
	d->env.sealed = *text;
	/* Does it come back the same?  Asked before anything depends on it. */
	e = unseal(f, d, layer, &back, why);
	if (e == ERR_OK && !json_equal(back, managed))
		e = err_set(why, ERR_BUG, 0, "the sealed managed envelope does not come back the same");
	json_decref(back);
	return e;
}

enum err customer_wrap(const struct fips *f, struct keyprov *p, struct secret **layer, struct envelope *out,
	json_t **conf, struct err_why *why)
{
	unsigned version = out->key.version; /* ours to count, not the vault's */
	enum err e;

	if (secret_new(VOLUME_KEY_LEN, layer) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (fips_random(f, secret_bytes(*layer), VOLUME_KEY_LEN) != ERR_OK)
		return err_set(why, ERR_FIPS, 0, "the FIPS provider gave no random bytes");
	e = wrap_checked(p, *layer, &out->layer_key, &out->key, why);
	if (e != ERR_OK)
		return e;
	out->key.version = version;
	return envelope_finish(p, out, conf, why);
}

/* ---- proof of access ---- */

static bool expired_revokes(const json_t *provider)
{
	const char *policy = json_string_value(json_object_get(provider, "expired"));

	return !policy || strcmp(policy, "allow") != 0;
}

/* The vault unwraps with a key that is expired, and what it does with a disabled one is its own business: ours is here.
 * reason: the word for audit and status, where the state decided. */
static enum err judge(
	enum key_state state, bool expired, const struct key_ref *ref, const char **reason, struct err_why *why)
{
	switch (state) {
	case KEY_USABLE:
		return ERR_OK;
	case KEY_DISABLED:
		*reason = "KeyDisabled";
		return err_set(why, ERR_KEY_REVOKED, 0, "the customer's key %.300s is disabled", ref->id);
	case KEY_EXPIRED:
		if (!expired)
			return ERR_OK;
		*reason = "KeyExpired";
		return err_set(why, ERR_KEY_REVOKED, 0,
			"the customer's key %.300s is outside of its validity period; extend that, or set the key"
			" again with --allow-expired",
			ref->id);
	case KEY_MISSING:
		*reason = "KeyNotFound";
		return err_set(why, ERR_KEY_REVOKED, 0, "the customer's key %.300s is not there any more", ref->id);
	case KEY_UNREACHABLE:
		break;
	}
	return err_set(why, ERR_KEY_UNAVAILABLE, 0, "the state of the customer's key %.300s can't be asked", ref->id);
}

/* A real unwrap, then the key's state.  layer: the layer key, NULL on failure.  detail: what to tell about it. */
static enum err prove(struct keyprov *p, const struct wrapped *in, const struct key_ref *ref, bool expired,
	struct secret **layer, struct keyprov_detail *detail, struct err_why *why)
{
	const char *reason = NULL;
	enum key_state state;
	struct key_ref newest;
	enum err e = keyprov_unwrap(p, in, ref, layer, why);

	if (e == ERR_KEY_DENIED)
		e = ERR_KEY_REVOKED; /* a keeper's no; only the managed key has passphrases and damage to tell apart */
	if (e == ERR_OK)
		e = keyprov_state(p, ref, &state, &newest, why);
	if (e == ERR_OK)
		e = judge(state, expired, ref, &reason, why);
	*detail = *keyprov_detail_get(p);
	if (reason) {
		memset(detail->reason, 0, sizeof(detail->reason));
		strncpy(detail->reason, reason, sizeof(detail->reason) - 1);
	}
	if (e != ERR_OK) {
		secret_free(*layer);
		*layer = NULL;
	}
	return e;
}

/* identity: who asks instead of the one in the descriptor, or NULL. */
static enum err open_vault(const struct fips *f, const struct descriptor *d, const json_t *identity,
	struct keyprov **out, struct err_why *why)
{
	json_t *conf;
	enum err e;

	if (!identity)
		return provider_open(f, d->env.kind, d->env.provider, d->id, NULL, out, why);
	conf = json_deep_copy(d->env.provider);
	if (!conf || json_object_set_new(conf, "identity", json_deep_copy(identity)) != 0)
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	else
		e = provider_open(f, d->env.kind, conf, d->id, NULL, out, why);
	json_decref(conf);
	return e;
}

enum err customer_open(const struct fips *f, const struct descriptor *d, const json_t *identity, struct keyring *k,
	struct err_why *why)
{
	struct secret *layer = NULL;
	enum err e = open_vault(f, d, identity, &k->customer, why);

	if (e != ERR_OK)
		return e;
	e = prove(
		k->customer, &d->env.layer_key, &d->env.key, expired_revokes(d->env.provider), &layer, &k->detail, why);
	if (e == ERR_OK)
		e = unseal(f, d, layer, &k->managed_json, why);
	secret_free(layer);
	if (e == ERR_OK)
		e = envelope_parse(k->managed_json, d->suite, true, &k->managed, why);
	return e;
}

/* ---- the interface of volume.h ---- */

bool volume_has_customer(const struct volume *v)
{
	return !kind_is_managed(v->provider);
}

const json_t *volume_customer_conf(const struct volume *v)
{
	return volume_has_customer(v) ? json_object_get(json_object_get(v->descriptor, "envelope"), "provider") : NULL;
}

const struct keyprov_detail *volume_detail(const struct volume *v)
{
	return &v->detail;
}

enum err volume_customer_set(
	struct volume *v, const struct fips *f, const json_t *now, const json_t *conf, struct err_why *why)
{
	struct step_order o = {.step = STEP_SET, .now = now, .conf = conf};

	return volume_step(v, f, &o, why);
}

enum err volume_customer_rotate(
	struct volume *v, const struct fips *f, const json_t *now, bool *changed, struct err_why *why)
{
	struct step_order o = {.step = STEP_ROTATE, .now = now};
	enum err e = volume_step(v, f, &o, why);

	*changed = o.changed;
	return e;
}

enum err volume_customer_off(struct volume *v, const struct fips *f, const json_t *now, struct err_why *why)
{
	struct step_order o = {.step = STEP_OFF, .now = now};

	return volume_step(v, f, &o, why);
}

enum err volume_keeper_open(const struct volume *v, const struct fips *f, struct keeper *out, struct err_why *why)
{
	struct descriptor d;
	json_int_t probe, lease;
	enum err e;

	memset(out, 0, sizeof(*out));
	if (!volume_has_customer(v))
		return err_set(why, ERR_NOT_FOUND, 0, "no customer's key is on");
	e = descriptor_parse(v->descriptor, &d, why);
	if (e != ERR_OK)
		return e;
	probe = json_integer_value(json_object_get(d.env.provider, "probe_seconds"));
	lease = json_integer_value(json_object_get(d.env.provider, "lease_seconds"));
	if (probe < 1 || probe > VAULT_PROBE_MAX || lease < 0 || lease > VAULT_LEASE_MAX)
		return err_set(why, ERR_CORRUPT, 0,
			VOLUME_DESCRIPTOR " is damaged: probe_seconds or lease_seconds is impossible");
	out->layer_key = d.env.layer_key;
	out->ref = d.env.key;
	out->probe_seconds = (unsigned)probe;
	out->lease_seconds = (unsigned)lease;
	out->expired_revokes = expired_revokes(d.env.provider);
	return open_vault(f, &d, v->identity, &out->provider, why);
}

void volume_keeper_close(struct keeper *k)
{
	keyprov_close(k->provider);
	memset(k, 0, sizeof(*k));
}

enum err volume_keeper_probe(struct keeper *k, bool fresh, struct err_why *why)
{
	struct secret *layer;
	enum err e;

	if (fresh)
		keyprov_fresh(k->provider);
	e = prove(k->provider, &k->layer_key, &k->ref, k->expired_revokes, &layer, &k->detail, why);
	secret_free(layer);
	/* Whatever else it was, a no it was not: the lease decides. */
	return e == ERR_OK || e == ERR_KEY_REVOKED ? e : ERR_KEY_UNAVAILABLE;
}
