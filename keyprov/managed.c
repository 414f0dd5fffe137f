/* SPDX-License-Identifier: Apache-2.0 */
/*
 * managed - the KEK this host keeps: in its key store, a key file, a systemd credential, or derived from a passphrase.
 *
 * Wrapping is AES-256 key wrap with padding (SP 800-38F KWP), deriving PBKDF2-HMAC-SHA-256 (SP 800-132).
 * Nothing is read before the first call that needs it.  Threads: one provider belongs to one thread at a time.
 */
#include "crypto/volkeys.h"
#include "keyprov/keyfile.h"
#include "keyprov/keyprov.h"
#include "keyprov/keystore.h"
#include "keyprov/passphrase.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SALT_BYTES     32
#define ROUNDS_DEFAULT 600000u	  /* OWASP Password Storage Cheat Sheet (2023) for PBKDF2-HMAC-SHA-256 */
#define ROUNDS_MAX     100000000u /* a minute or so; more is a damaged or hostile descriptor */

enum source { SOURCE_STORE, SOURCE_FILE, SOURCE_CREDENTIAL, SOURCE_PASSPHRASE };

struct managed {
	struct keyprov base;
	const struct fips *fips;
	enum source source;
	json_t *conf;		  /* our copy of the provider object */
	struct keystore store;	  /* SOURCE_STORE */
	const char *path;	  /* file's path, credential's name, passphrase's file or NULL; inside conf */
	uint8_t salt[SALT_BYTES]; /* SOURCE_PASSPHRASE from here on */
	unsigned rounds;	  /* 0: no salt yet, the passphrase is a new one */
	struct secret *pass;	  /* once read */
	struct secret *kek;	  /* derived from it and salt; NULL when stale */
};

/* What each source may have in its object besides "source" and "volume". */
static const struct source_info {
	const char *name;
	const char *member; /* the string that says where */
	bool required;
} sources[] = {
	[SOURCE_STORE] = {"store", "dir", false},
	[SOURCE_FILE] = {"file", "path", true},
	[SOURCE_CREDENTIAL] = {"credential", "name", true},
	[SOURCE_PASSPHRASE] = {"passphrase", "file", false},
};

#define N_SOURCES (sizeof(sources) / sizeof(sources[0]))

static struct managed *self(struct keyprov *p)
{
	return (struct managed *)p;
}

/* ---- configuration ---- */

static enum err bad_conf(struct err_why *why, const char *what)
{
	return err_set(why, ERR_CORRUPT, 0, "the description of the managed key is damaged: %s", what);
}

static enum err parse_passphrase(struct managed *m, struct err_why *why)
{
	const json_t *salt = json_object_get(m->conf, "salt"), *rounds = json_object_get(m->conf, "rounds");
	size_t len;

	if (!salt && !rounds)
		return ERR_OK;
	if (!json_is_string(salt) ||
		b64_decode(json_string_value(salt), json_string_length(salt), m->salt, SALT_BYTES, &len) != ERR_OK ||
		len != SALT_BYTES)
		return bad_conf(why, "bad salt");
	if (!json_is_integer(rounds) || json_integer_value(rounds) < ROUNDS_DEFAULT ||
		json_integer_value(rounds) > ROUNDS_MAX)
		return bad_conf(why, "bad number of rounds");
	m->rounds = (unsigned)json_integer_value(rounds);
	return ERR_OK;
}

static bool known_member(const struct managed *m, const char *key)
{
	if (strcmp(key, "source") == 0 || strcmp(key, "volume") == 0 || strcmp(key, sources[m->source].member) == 0)
		return true;
	return m->source == SOURCE_PASSPHRASE && (strcmp(key, "salt") == 0 || strcmp(key, "rounds") == 0);
}

static enum err parse_where(struct managed *m, struct err_why *why)
{
	const struct source_info *info = &sources[m->source];
	const json_t *where = json_object_get(m->conf, info->member);

	if (!where)
		return info->required ? bad_conf(why, "it does not say where the key is") : ERR_OK;
	if (!json_is_string(where) || json_string_length(where) == 0 || json_string_length(where) >= PATH_MAX)
		return bad_conf(why, "bad path or name");
	m->path = json_string_value(where);
	if (m->source == SOURCE_CREDENTIAL ? strchr(m->path, '/') || m->path[0] == '.' : m->path[0] != '/')
		return bad_conf(why, "bad path or name");
	return ERR_OK;
}

static enum err parse(struct managed *m, struct err_why *why)
{
	const char *source = json_string_value(json_object_get(m->conf, "source"));
	const char *volume = json_string_value(json_object_get(m->conf, "volume"));
	json_t *value;
	const char *key;
	size_t i;
	enum err e;

	for (i = 0; source && i < N_SOURCES; i++)
		if (strcmp(source, sources[i].name) == 0)
			break;
	if (!source)
		return bad_conf(why, "it has no source");
	if (i == N_SOURCES)
		return err_set(why, ERR_UNSUPPORTED, 0, "this program does not know the key source %.32s", source);
	m->source = (enum source)i;
	json_object_foreach(m->conf, key, value) if (!known_member(m, key)) return err_set(why, ERR_UNSUPPORTED, 0,
		"this program does not know %.32s in the description of the"
		" managed key",
		key);
	e = parse_where(m, why);
	if (e == ERR_OK && m->source == SOURCE_STORE)
		e = volume ? keystore_init(&m->store, m->path, volume, why) : bad_conf(why, "no volume id");
	if (e == ERR_OK && m->source == SOURCE_PASSPHRASE)
		e = parse_passphrase(m, why);
	return e;
}

static void managed_close(struct keyprov *p)
{
	struct managed *m = self(p);

	secret_free(m->pass);
	secret_free(m->kek);
	json_decref(m->conf);
	free(m);
}

static enum err take_passphrase(struct managed *m, const struct managed *like, struct err_why *why)
{
	if (secret_new(secret_len(like->pass), &m->pass) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	memcpy(secret_bytes(m->pass), secret_view(like->pass), secret_len(like->pass));
	return ERR_OK;
}

static enum err managed_open(
	const struct fips *f, const json_t *conf, const struct keyprov *like, struct keyprov **out, struct err_why *why)
{
	const struct managed *other = (const struct managed *)like;
	struct managed *m = calloc(1, sizeof(*m));
	enum err e;

	if (!m)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	m->fips = f;
	m->conf = json_deep_copy(conf);
	if (m->conf)
		e = parse(m, why);
	else
		e = err_set(why, ERR_NOMEM, 0, "out of memory");
	if (e == ERR_OK && m->source == SOURCE_PASSPHRASE && other && other->pass)
		e = take_passphrase(m, other, why);
	if (e != ERR_OK) {
		managed_close(&m->base);
		return e;
	}
	*out = &m->base;
	return ERR_OK;
}

static json_t *managed_describe(const struct keyprov *p)
{
	const struct managed *m = (const struct managed *)p;
	char salt[64];
	json_t *j = json_deep_copy(m->conf);

	if (!j)
		return NULL;
	(void)json_object_del(j, "volume"); /* the descriptor says it once */
	if (m->source != SOURCE_PASSPHRASE)
		return j;
	b64_encode(m->salt, SALT_BYTES, salt);
	if (json_object_set_new(j, "salt", json_string(salt)) != 0 ||
		json_object_set_new(j, "rounds", json_integer(m->rounds)) != 0) {
		json_decref(j);
		return NULL;
	}
	return j;
}

/* ---- the KEK ---- */

static enum err new_salt(struct managed *m, struct err_why *why)
{
	if (fips_random(m->fips, m->salt, SALT_BYTES) != ERR_OK)
		return err_set(why, ERR_FIPS, 0, "the FIPS provider gave no random bytes");
	m->rounds = ROUNDS_DEFAULT;
	secret_free(m->kek);
	m->kek = NULL;
	return ERR_OK;
}

/* Leaves the KEK in m->kek. */
static enum err derive(struct managed *m, struct err_why *why)
{
	enum err e = ERR_OK;

	if (m->kek)
		return ERR_OK;
	if (!m->pass)
		e = passphrase_read(m->path, m->rounds == 0, &m->pass, why);
	if (e == ERR_OK && secret_len(m->pass) < PASSPHRASE_MIN)
		return err_set(why, ERR_KEY_DENIED, 0, "wrong passphrase: this volume's has at least %d bytes",
			PASSPHRASE_MIN);
	if (e == ERR_OK && m->rounds == 0)
		e = new_salt(m, why);
	if (e == ERR_OK && secret_new(KEYFILE_KEY_BYTES, &m->kek) != ERR_OK)
		e = err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (e != ERR_OK)
		return e;
	e = fips_pbkdf2(m->fips, (const char *)secret_view(m->pass), secret_len(m->pass), m->salt, SALT_BYTES,
		m->rounds, secret_bytes(m->kek), KEYFILE_KEY_BYTES);
	if (e != ERR_OK) {
		secret_free(m->kek);
		m->kek = NULL;
		return err_set(why, e, 0, "the FIPS provider refused to derive a key from the passphrase");
	}
	return ERR_OK;
}

static enum err load_credential(const char *name, struct secret **kek, time_t *created, struct err_why *why)
{
	const char *dir = secure_getenv("CREDENTIALS_DIRECTORY");
	char shown[PATH_MAX];
	int n;

	if (!dir || dir[0] != '/')
		return err_set(why, ERR_KEY_UNAVAILABLE, 0,
			"there are no systemd credentials here (CREDENTIALS_DIRECTORY is not"
			" set); run as a service with LoadCredential=%.200s:PATH",
			name);
	n = snprintf(shown, sizeof(shown), "%s/%s", dir, name);
	if (n < 0 || n >= (int)sizeof(shown))
		return err_set(why, ERR_CONFIG, 0, "CREDENTIALS_DIRECTORY is too long");
	return keyfile_read(AT_FDCWD, shown, shown, KEYFILE_CREDENTIAL, kek, created, why);
}

/* kek: to be freed by the caller, of any source but the passphrase */
static enum err load(struct managed *m, unsigned version, struct secret **kek, time_t *created, struct err_why *why)
{
	switch (m->source) {
	case SOURCE_STORE:
		return keystore_load(&m->store, version, kek, created, why);
	case SOURCE_FILE:
		return keyfile_read(AT_FDCWD, m->path, m->path, KEYFILE_GIVEN, kek, created, why);
	case SOURCE_CREDENTIAL:
		return load_credential(m->path, kek, created, why);
	case SOURCE_PASSPHRASE:
		break;
	}
	return err_set(why, ERR_BUG, 0, "a passphrase is not a file");
}

static void fill_ref(const struct managed *m, unsigned version, time_t created, struct key_ref *ref)
{
	memset(ref, 0, sizeof(*ref));
	ref->version = version;
	ref->created = created;
	/* A label for people; the store's is the volume id, the others' names may be cut short. */
	if (m->source == SOURCE_STORE)
		snprintf(ref->id, sizeof(ref->id), "%s", m->store.volume);
	else
		snprintf(ref->id, sizeof(ref->id), "%s", sources[m->source].name);
}

static enum err managed_wrap(
	struct keyprov *p, const struct secret *key, struct wrapped *out, struct key_ref *ref, struct err_why *why)
{
	struct managed *m = self(p);
	struct secret *kek = NULL;
	unsigned version = 1;
	time_t created = 0;
	enum err e = ERR_OK;

	if (m->source == SOURCE_PASSPHRASE) {
		e = derive(m, why);
	} else {
		if (m->source == SOURCE_STORE)
			e = keystore_newest(&m->store, &version, &created, why);
		if (e == ERR_OK)
			e = load(m, version, &kek, &created, why);
	}
	if (e != ERR_OK)
		return e;
	e = fips_wrap(m->fips, kek ? kek : m->kek, key, out->bytes, sizeof(out->bytes), &out->len);
	secret_free(kek);
	if (e != ERR_OK)
		return err_set(why, e, 0, "the FIPS provider refused to wrap the key");
	fill_ref(m, version, created, ref);
	return ERR_OK;
}

/* The integrity check of KWP failed: wrong KEK, or the wrapped key was changed.  Nobody can tell which. */
static enum err denied(const struct managed *m, const struct key_ref *ref, struct err_why *why)
{
	switch (m->source) {
	case SOURCE_STORE:
		return err_set(why, ERR_KEY_DENIED, 0,
			"%.300s/v%u.key does not open this volume: the key file was replaced, or"
			" the descriptor was changed",
			m->store.path, ref->version);
	case SOURCE_FILE:
	case SOURCE_CREDENTIAL:
		return err_set(why, ERR_KEY_DENIED, 0, "the key in %s %.300s is not this volume's",
			m->source == SOURCE_FILE ? "file" : "credential", m->path);
	case SOURCE_PASSPHRASE:
		break;
	}
	return err_set(why, ERR_KEY_DENIED, 0, "wrong passphrase");
}

static enum err managed_unwrap(struct keyprov *p, const struct wrapped *in, const struct key_ref *ref,
	struct secret **key, struct err_why *why)
{
	struct managed *m = self(p);
	struct secret *kek = NULL;
	enum err e;

	if (m->source != SOURCE_PASSPHRASE)
		e = load(m, ref->version, &kek, NULL, why);
	else if (m->rounds == 0)
		e = err_set(why, ERR_CONFIG, 0, "this volume's key is not made from a passphrase");
	else
		e = derive(m, why);
	if (e != ERR_OK)
		return e;
	e = fips_unwrap(m->fips, kek ? kek : m->kek, in->bytes, in->len, key);
	secret_free(kek);
	if (e == ERR_CORRUPT)
		return denied(m, ref, why);
	if (e != ERR_OK)
		return err_set(why, e, 0, "the FIPS provider refused to unwrap the key");
	return ERR_OK;
}

/* ---- state and rotation ---- */

static enum err managed_state(
	struct keyprov *p, const struct key_ref *ref, enum key_state *out, struct key_ref *newest, struct err_why *why)
{
	struct managed *m = self(p);
	struct secret *kek = NULL;
	unsigned version = 1;
	time_t created = 0;
	enum err e = ERR_OK;

	if (m->source != SOURCE_PASSPHRASE)
		e = load(m, ref->version, &kek, &created, why);
	secret_free(kek);
	if (e == ERR_KEY_UNAVAILABLE) {
		*out = KEY_MISSING;
		return ERR_OK;
	}
	if (e == ERR_OK && m->source == SOURCE_STORE)
		e = keystore_newest(&m->store, &version, &created, why);
	if (e != ERR_OK)
		return e;
	*out = KEY_USABLE;
	fill_ref(m, version, created, newest);
	return ERR_OK;
}

static enum err rotate_store(struct managed *m, struct key_ref *newest, struct err_why *why)
{
	struct secret *kek;
	unsigned version = 0;
	enum err e;

	if (secret_new(KEYFILE_KEY_BYTES, &kek) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (fips_random(m->fips, secret_bytes(kek), KEYFILE_KEY_BYTES) != ERR_OK)
		e = err_set(why, ERR_FIPS, 0, "the FIPS provider gave no random bytes");
	else
		e = keystore_add(&m->store, kek, &version, why);
	secret_free(kek);
	if (e == ERR_OK)
		fill_ref(m, version, time(NULL), newest);
	return e;
}

static enum err managed_rotate(struct keyprov *p, struct key_ref *newest, struct err_why *why)
{
	struct managed *m = self(p);
	enum err e;

	switch (m->source) {
	case SOURCE_STORE:
		return rotate_store(m, newest, why);
	case SOURCE_PASSPHRASE:
		e = ERR_OK;
		if (!m->pass)
			e = passphrase_read(m->path, true, &m->pass, why);
		if (e == ERR_OK)
			e = new_salt(m, why);
		if (e == ERR_OK)
			fill_ref(m, 1, time(NULL), newest);
		return e;
	case SOURCE_FILE:
	case SOURCE_CREDENTIAL:
		break;
	}
	return err_set(why, ERR_UNSUPPORTED, 0,
		"a key from a %s is changed by you: make a new one and name it as the new"
		" managed key",
		sources[m->source].name);
}

static enum err managed_remove(struct keyprov *p, const struct key_ref *ref, struct err_why *why)
{
	struct managed *m = self(p);

	return m->source == SOURCE_STORE ? keystore_remove(&m->store, ref->version, why) : ERR_OK;
}

static enum err managed_prune(struct keyprov *p, const struct key_ref *keep, struct err_why *why)
{
	struct managed *m = self(p);

	return m->source == SOURCE_STORE ? keystore_prune(&m->store, keep->version, why) : ERR_OK;
}

const struct keyprov_ops managed_ops = {
	.name = "managed",
	.open = managed_open,
	.wrap = managed_wrap,
	.unwrap = managed_unwrap,
	.state = managed_state,
	.rotate = managed_rotate,
	.remove = managed_remove,
	.prune = managed_prune,
	.conf = managed_describe,
	.close = managed_close,
};
