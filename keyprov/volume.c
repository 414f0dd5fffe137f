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
	keyprov_close(k->provider);
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
	enum err e = keyprov_unwrap(k->provider, &d->volume_key, &d->key, &k->volume_key, why);

	if (e == ERR_OK && d->suite == SUITE_XTS_GCM)
		e = keyprov_unwrap(k->provider, &d->inner_key, &d->key, &k->inner_key, why);
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

/* One copy of the descriptor.  like: the provider opened for the other one, or NULL. */
static enum err unlock_copy(const json_t *j, const struct fips *f, const json_t *now, const struct keyprov *like,
	struct keyring *k, struct err_why *why)
{
	struct descriptor d;
	json_t *conf;
	enum err e = descriptor_parse(j, &d, why);

	if (e != ERR_OK)
		return e;
	if (now) {
		conf = managed_conf_now(d.provider, now, why);
		if (!conf)
			return ERR_CONFIG;
		e = provider_open(f, d.kind, conf, d.id, like, &k->provider, why);
		json_decref(conf);
	} else {
		e = provider_open(f, d.kind, d.provider, d.id, like, &k->provider, why);
	}
	return e == ERR_OK ? unlock_with(j, &d, f, k, why) : e;
}

/*
 * May the second copy be tried after this?  Not if the keeper of a key said no: an older envelope must never get around
 * a revocation.  With the managed key "denied" is a failed integrity check, which damage causes too.
 */
static bool second_may_serve(const struct volume *v, enum err e)
{
	if (!v->second || strcmp(v->provider, "managed") != 0)
		return false;
	return e == ERR_CORRUPT || e == ERR_KEY_DENIED || e == ERR_KEY_UNAVAILABLE;
}

static void use_second(struct volume *v)
{
	json_t *first = v->descriptor;
	struct descriptor d;

	v->descriptor = v->second;
	v->second = first;
	v->from_backup = true;
	if (descriptor_parse(v->descriptor, &d, NULL) == ERR_OK)
		descriptor_adopt(v, &d);
}

enum err volume_unlock_keys(
	struct volume *v, const struct fips *f, const json_t *now, struct keyring *k, struct err_why *why)
{
	struct keyring other;
	struct err_why why2;
	enum err e, e2;

	memset(k, 0, sizeof(*k));
	e = unlock_copy(v->descriptor, f, now, NULL, k, why);
	if (e != ERR_OK && second_may_serve(v, e)) {
		memset(&other, 0, sizeof(other));
		e2 = unlock_copy(v->second, f, now, k->provider, &other, &why2);
		if (e2 == ERR_OK) {
			keyring_clear(k);
			*k = other;
			use_second(v);
			e = ERR_OK;
		} else {
			keyring_clear(&other); /* the first copy's error is the one to tell */
		}
	}
	if (e != ERR_OK)
		keyring_clear(k);
	return e;
}

/*
 * Makes the copies equal and forgets KEK versions that no copy needs any more (a rotation was cut short).  Failure is
 * no reason to refuse the volume: the good copy is durable, and the next unlock tries again.
 */
static void mend(struct volume *v, struct keyprov *p)
{
	if (!v->second_copy_bad || v->lock_fd < 0 || v->lock_shared)
		return;
	if (sealed_json_write(v->dirfd, v->from_backup ? VOLUME_DESCRIPTOR : DESCRIPTOR_BACKUP, v->descriptor, NULL,
		    NULL) != ERR_OK)
		return;
	json_decref(v->second);
	v->second = NULL;
	v->from_backup = false;
	v->second_copy_bad = keyprov_prune(p, &v->key, NULL) != ERR_OK;
}

enum err volume_unlock(
	struct volume *v, const struct fips *f, const json_t *override, struct volkeys **out, struct err_why *why)
{
	struct keyring k;
	enum err e = volume_unlock_keys(v, f, override, &k, why);

	*out = NULL;
	if (e != ERR_OK)
		return e;
	mend(v, k.provider);
	*out = k.vk;
	k.vk = NULL; /* transferred */
	keyring_clear(&k);
	return ERR_OK;
}

bool volume_rotation_due(const struct volume *v, time_t now)
{
	/* only a key we can make anew by ourselves */
	if (v->rotate_days == 0 || strcmp(v->source, "store") != 0)
		return false;
	return now >= v->key.created && now - v->key.created >= (time_t)v->rotate_days * 86400;
}
