/* SPDX-License-Identifier: Apache-2.0 */
/* volume - making, opening and unlocking a volume.  See volume.h; rekey.c has the rotation of its keys. */
#include "keyprov/volume.h"
#include "keyprov/atomic_file.h"
#include "keyprov/descriptor.h"
#include "keyprov/sealed_json.h"
#include "keyprov/volume_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static enum err open_dir(const char *dir, int *out, struct err_why *why)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return err_set(why, ERR_NOT_FOUND, errno, "there is no directory %.300s", dir);
	if (fd < 0)
		return err_set(why, ERR_IO, errno, "can't open directory %.300s: %s", dir, strerror(errno));
	*out = fd;
	return ERR_OK;
}

enum err volume_open(const char *dir, struct volume **out, struct err_why *why)
{
	struct volume *v = calloc(1, sizeof(*v));
	enum err e;

	*out = NULL;
	if (!v)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	v->dirfd = -1;
	v->lock_fd = -1;
	v->path = strdup(dir);
	if (!v->path)
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	else
		e = open_dir(dir, &v->dirfd, why);
	if (e == ERR_OK)
		e = descriptor_load(v, why);
	if (e != ERR_OK) {
		volume_close(v);
		return e;
	}
	*out = v;
	return ERR_OK;
}

void volume_close(struct volume *v)
{
	if (!v)
		return;
	if (v->lock_fd >= 0)
		close(v->lock_fd);
	if (v->dirfd >= 0)
		close(v->dirfd);
	json_decref(v->descriptor);
	json_decref(v->second);
	free(v->path);
	free(v);
}

/* ---- unlock ---- */

void keyring_clear(struct keyring *k)
{
	secret_free(k->volume_key);
	secret_free(k->inner_key);
	volkeys_free(k->vk);
	json_decref(k->managed_json);
	keyprov_close(k->provider);
	keyprov_close(k->customer);
	memset(k, 0, sizeof(*k));
}

enum err provider_open(const struct fips *f, const char *kind, const json_t *conf, const uint8_t id[static ID_BYTES],
	const struct keyprov *like, struct keyprov **out, struct err_why *why)
{
	char hex[2 * ID_BYTES + 1];
	json_t *j = json_deep_copy(conf);
	enum err e;

	sodium_bin2hex(hex, sizeof(hex), id, ID_BYTES);
	if (!j || json_object_set_new(j, "volume", json_string(hex)) != 0)
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	else
		e = keyprov_open(kind, f, j, like, out, why);
	json_decref(j);
	return e;
}

static enum err unlock_with(
	const json_t *j, const struct descriptor *d, const struct fips *f, struct keyring *k, struct err_why *why)
{
	enum err e = keyprov_unwrap(k->provider, &k->managed.volume_key, &k->managed.key, &k->volume_key, why);

	if (e == ERR_OK && d->suite == SUITE_XTS_GCM)
		e = keyprov_unwrap(k->provider, &k->managed.inner_key, &k->managed.key, &k->inner_key, why);
	if (e != ERR_OK)
		return e;
	e = volkeys_new(f, d->suite, d->id, k->volume_key, k->inner_key, &k->vk);
	if (e != ERR_OK)
		return err_set(why, e, 0, "can't derive the volume's keys: %s", err_text(e));
	e = sealed_json_verify(j, k->vk, MAC_DESCRIPTOR);
	if (e == ERR_CORRUPT)
		return err_set(why, e, 0, VOLUME_DESCRIPTOR " was changed: its MAC is wrong; restore it from a backup");
	if (e != ERR_OK)
		return err_set(why, e, 0, "can't check the MAC of " VOLUME_DESCRIPTOR ": %s", err_text(e));
	return ERR_OK;
}

/* The managed key of the envelope in k, wherever that was. */
static enum err open_managed(const struct fips *f, const uint8_t id[static ID_BYTES], const json_t *now,
	const struct keyprov *like, struct keyring *k, struct err_why *why)
{
	json_t *conf;
	enum err e;

	if (!now)
		return provider_open(f, k->managed.kind, k->managed.provider, id, like, &k->provider, why);
	conf = managed_conf_now(k->managed.provider, now, why);
	if (!conf)
		return ERR_CONFIG;
	e = provider_open(f, k->managed.kind, conf, id, like, &k->provider, why);
	json_decref(conf);
	return e;
}

/* j: one copy of v's descriptor.  like: the provider opened for the other one, or NULL. */
static enum err unlock_copy(const struct volume *v, const json_t *j, const struct fips *f, const json_t *now,
	const struct keyprov *like, struct keyring *k, struct err_why *why)
{
	struct descriptor d;
	enum err e = descriptor_parse(j, &d, why);

	if (e != ERR_OK)
		return e;
	if (kind_is_managed(d.env.kind)) {
		k->managed_json = json_incref(json_object_get(j, "envelope"));
		k->managed = d.env;
	} else {
		e = customer_open(f, &d, v->identity, k, why);
	}
	if (e == ERR_OK)
		e = open_managed(f, d.id, now, like, k, why);
	return e == ERR_OK ? unlock_with(j, &d, f, k, why) : e;
}

/*
 * May the second copy be tried after this?  Never one of another kind, nor after the keeper of a customer's key said
 * no: no envelope must get around a revocation, and the bare managed one least of all.  With the managed key "denied"
 * is a failed integrity check, which damage causes too; a vault has ERR_CONFIG for a wrapped key that makes no sense.
 */
static bool second_may_serve(const struct volume *v, enum err e)
{
	const json_t *kind = json_object_get(json_object_get(v->second, "envelope"), "kind");

	if (!v->second || strcmp(v->provider, json_string_value(kind)) != 0)
		return false;
	if (volume_has_customer(v))
		return e == ERR_CORRUPT || e == ERR_CONFIG;
	return e == ERR_CORRUPT || e == ERR_KEY_DENIED || e == ERR_KEY_UNAVAILABLE;
}

static void use_second(struct volume *v)
{
	json_t *first = v->descriptor;

	v->descriptor = v->second;
	v->second = first;
	v->from_backup = true;
}

void volume_adopt(struct volume *v, const struct descriptor *d, const struct envelope *managed)
{
	descriptor_adopt(v, d);
	if (kind_is_managed(d->env.kind))
		return;
	v->inner_known = true;
	memcpy(v->inner_source, managed->source, sizeof(v->inner_source));
	v->inner_key = managed->key;
}

enum err volume_unlock_keys(
	struct volume *v, const struct fips *f, const json_t *now, struct keyring *k, struct err_why *why)
{
	struct descriptor d;
	struct keyring other;
	struct err_why why2;
	enum err e, e2;

	memset(k, 0, sizeof(*k));
	e = unlock_copy(v, v->descriptor, f, now, NULL, k, why);
	if (e != ERR_OK && second_may_serve(v, e)) {
		memset(&other, 0, sizeof(other));
		e2 = unlock_copy(v, v->second, f, now, k->provider, &other, &why2);
		if (e2 == ERR_OK) {
			keyring_clear(k);
			*k = other;
			use_second(v);
			e = ERR_OK;
		} else {
			keyring_clear(&other); /* the first copy's error is the one to tell */
		}
	}
	v->detail = k->detail;
	if (e == ERR_OK)
		e = descriptor_parse(v->descriptor, &d, why);
	if (e == ERR_OK)
		volume_adopt(v, &d, &k->managed);
	else
		keyring_clear(k);
	if (e == ERR_OK && v->keyed)
		v->keyed(v->keyed_arg, k->vk);
	return e;
}

/*
 * Makes good what a crash left: unequal copies, old contents under temporary names, KEK versions that no copy needs any
 * more.  Failure is no reason to refuse the volume: the good copy is durable, and the next unlock tries again.
 * Under a customer's key old versions go in any case, since an old bare envelope may be somewhere that they would open.
 */
static void mend(struct volume *v, struct keyring *k)
{
	bool bad = v->second_copy_bad;

	if (v->lock_fd < 0 || v->lock_shared || descriptor_settle(v, NULL) != ERR_OK)
		return;
	if (bad || k->customer)
		v->second_copy_bad = keyprov_prune(k->provider, &k->managed.key, NULL) != ERR_OK && bad;
}

/* What tells one volume key from another; nothing can be learned from it. */
static enum err fingerprint(struct volkeys *vk, uint8_t out[static 32], struct err_why *why)
{
	static const char text[] = "fingerprint";
	enum err e = volkeys_mac(vk, MAC_DESCRIPTOR, text, sizeof(text) - 1, out);

	return e == ERR_OK ? ERR_OK : err_set(why, e, 0, "can't take the keys' fingerprint: %s", err_text(e));
}

enum err volume_unlock(
	struct volume *v, const struct fips *f, const json_t *override, struct volkeys **out, struct err_why *why)
{
	struct keyring k;
	enum err e;

	*out = NULL;
	/* Not only once the keys are there: an old bare envelope must not outlast a crash and then a revocation. */
	if (v->lock_fd >= 0 && !v->lock_shared)
		best_effort(descriptor_sweep(v, NULL));
	e = volume_unlock_keys(v, f, override, &k, why);
	if (e != ERR_OK)
		return e;
	e = fingerprint(k.vk, v->print, why);
	v->printed = e == ERR_OK;
	if (e == ERR_OK) {
		mend(v, &k);
		*out = k.vk;
		k.vk = NULL; /* transferred */
	}
	keyring_clear(&k);
	return e;
}

/* Are these the keys that opened the volume before? */
static enum err same_keys(struct volume *v, const struct volkeys *vk, struct keyring *k, struct err_why *why)
{
	uint8_t print[32];
	enum err e = fingerprint(k->vk, print, why);

	if (e != ERR_OK)
		return e;
	if (volkeys_suite(vk) == v->suite && memcmp(volkeys_volume_id(vk), v->id, ID_BYTES) == 0 &&
		(!v->printed || secret_equal(print, v->print, sizeof(print)))) {
		memcpy(v->print, print, sizeof(v->print));
		v->printed = true; /* a mount that waited for its keeper has them for the first time now */
		return ERR_OK;
	}
	return err_set(why, ERR_CORRUPT, 0,
		VOLUME_DESCRIPTOR " of %.200s was replaced by another volume's while this one was locked; restore it"
				  " from a backup",
		v->path);
}

enum err volume_reload(
	struct volume *v, const struct fips *f, const json_t *now, struct volkeys *vk, struct err_why *why)
{
	struct keyring k;
	enum err e = descriptor_load(v, why);

	if (e == ERR_OK)
		e = volume_unlock_keys(v, f, now, &k, why);
	if (e != ERR_OK)
		return e;
	e = same_keys(v, vk, &k, why);
	if (e == ERR_OK) {
		mend(v, &k);
		e = volkeys_load(vk, k.volume_key, k.inner_key);
		if (e != ERR_OK)
			err_set(why, e, 0, "can't derive the volume's keys: %s", err_text(e));
	}
	keyring_clear(&k);
	return e;
}

bool volume_rotation_due(const struct volume *v, time_t now)
{
	bool customer = volume_has_customer(v);
	const char *source = customer ? v->inner_source : v->source;
	time_t created = customer ? v->inner_key.created : v->key.created;

	/* only a key we can make anew by ourselves */
	if (v->rotate_days == 0 || (customer && !v->inner_known) || strcmp(source, "store") != 0)
		return false;
	return now >= created && now - created >= (time_t)v->rotate_days * 86400;
}
