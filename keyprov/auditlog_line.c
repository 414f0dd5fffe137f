/* SPDX-License-Identifier: Apache-2.0 */
/* auditlog_line - the texts of lines and heads, and the keys that seal them; AUDIT.md sections 2 to 4. */
#include "crypto/secret.h"
#include "keyprov/atomic_file.h"
#include "keyprov/auditlog_internal.h"
#include <stdlib.h>
#include <string.h>

#define LABEL_WRITER  "bcfs1 audit writer"
#define LABEL_EPOCH   "bcfs1 audit epoch"
#define LABEL_LINE    "bcfs1 audit line"
#define LABEL_GENESIS "bcfs1 audit log"
#define MAC_TEXT      43u
#define MAC_START     ",\"mac\":\""
#define MAC_END	      "\"}"
#define MAC_ROOM      (sizeof(MAC_START) - 1 + MAC_TEXT + sizeof(MAC_END) - 1)
#define NUMBER_MAX    ((json_int_t)1 << 62)

static enum err load_epoch(const struct fips *f, struct audit_keys *k)
{
	uint8_t out[64];
	enum err e = fips_kbkdf(f, k->epoch, sizeof(k->epoch), LABEL_EPOCH, NULL, 0, out, sizeof(out));

	if (e == ERR_OK) {
		memcpy(k->epoch, out, 32);
		memcpy(k->line, out + 32, 32);
	}
	secret_wipe(out, sizeof(out));
	return e;
}

static enum err load_line(const struct fips *f, struct audit_keys *k)
{
	uint8_t out[96];
	enum err e = fips_kbkdf(f, k->line, sizeof(k->line), LABEL_LINE, NULL, 0, out, sizeof(out));

	if (e == ERR_OK) {
		memcpy(k->line, out, 32);
		memcpy(k->seal, out + 32, 32);
		memcpy(k->head, out + 64, 32);
	}
	secret_wipe(out, sizeof(out));
	return e;
}

enum err audit_keys_start(
	const struct fips *f, struct volkeys *vk, const uint8_t w[static ID_BYTES], struct audit_keys *k)
{
	uint8_t in[sizeof(LABEL_WRITER) + 2 * ID_BYTES] = LABEL_WRITER; /* its NUL is the separator */
	enum err e;

	memcpy(in + sizeof(LABEL_WRITER), volkeys_volume_id(vk), ID_BYTES);
	memcpy(in + sizeof(LABEL_WRITER) + ID_BYTES, w, ID_BYTES);
	k->n = 0;
	e = volkeys_mac(vk, MAC_AUDIT, in, sizeof(in), k->epoch);
	if (e == ERR_OK)
		e = load_epoch(f, k);
	return e == ERR_OK ? load_line(f, k) : e;
}

enum err audit_keys_step(const struct fips *f, struct audit_keys *k)
{
	enum err e = (k->n + 1) % AUDIT_EPOCH == 0 ? load_epoch(f, k) : ERR_OK;

	if (e == ERR_OK)
		e = load_line(f, k);
	if (e == ERR_OK)
		k->n++;
	return e;
}

enum err audit_keys_jump(const struct fips *f, struct audit_keys *k, uint64_t n)
{
	enum err e = ERR_OK;

	if (n < k->n || n >= AUDIT_N_MAX)
		return ERR_RANGE;
	if (n / AUDIT_EPOCH > k->n / AUDIT_EPOCH) {
		while (e == ERR_OK && n / AUDIT_EPOCH > k->n / AUDIT_EPOCH) {
			e = load_epoch(f, k);
			k->n = (k->n / AUDIT_EPOCH + 1) * AUDIT_EPOCH;
		}
		if (e == ERR_OK)
			e = load_line(f, k);
	}
	while (e == ERR_OK && k->n < n)
		e = audit_keys_step(f, k);
	return e;
}

enum err audit_hash(const struct fips *f, const char *line, size_t len, uint8_t out[static AUDIT_HASH])
{
	return fips_sha256(f, line, len, out);
}

enum err audit_genesis(const struct fips *f, const uint8_t volume[static ID_BYTES], uint8_t out[static AUDIT_HASH])
{
	char in[sizeof(LABEL_GENESIS) - 1 + ID_BYTES];

	memcpy(in, LABEL_GENESIS, sizeof(LABEL_GENESIS) - 1);
	memcpy(in + sizeof(LABEL_GENESIS) - 1, volume, ID_BYTES);
	return fips_sha256(f, in, sizeof(in), out);
}

int audit_set_b64(json_t *o, const char *name, const void *bytes, size_t len)
{
	char text[AUDIT_HASH_TEXT];

	b64_encode(bytes, len, text);
	return json_object_set_new(o, name, json_string(text));
}

enum err audit_get_b64(const json_t *o, const char *name, uint8_t *out, size_t len)
{
	const json_t *s = json_object_get(o, name);
	size_t got = 0;
	enum err e;

	if (!json_is_string(s))
		return ERR_CORRUPT;
	e = b64_decode(json_string_value(s), json_string_length(s), out, len, &got);
	return e == ERR_OK && got == len ? ERR_OK : ERR_CORRUPT;
}

enum err audit_get_number(const json_t *o, const char *name, uint64_t *out)
{
	const json_t *n = json_object_get(o, name);
	json_int_t value = json_integer_value(n);

	if (!json_is_integer(n) || value < 0 || value > NUMBER_MAX)
		return ERR_CORRUPT;
	*out = (uint64_t)value;
	return ERR_OK;
}

/* Does text end in the MAC that the object has?  Then covered is what is in front of it. */
static enum err find_mac(const char *text, size_t len, const json_t *o, uint8_t mac[static 32], size_t *covered)
{
	const char *value = json_string_value(json_object_get(o, "mac"));
	const char *tail;

	if (!value || strlen(value) != MAC_TEXT || len < MAC_ROOM)
		return ERR_CORRUPT;
	tail = text + len - MAC_ROOM;
	if (memcmp(tail, MAC_START, sizeof(MAC_START) - 1) != 0 ||
		memcmp(tail + sizeof(MAC_START) - 1, value, MAC_TEXT) != 0 ||
		memcmp(tail + sizeof(MAC_START) - 1 + MAC_TEXT, MAC_END, sizeof(MAC_END) - 1) != 0)
		return ERR_CORRUPT;
	*covered = len - MAC_ROOM;
	return audit_get_b64(o, "mac", mac, 32);
}

enum err audit_line_parse(const char *text, size_t len, const char *volume, struct audit_line *out)
{
	const char *of;
	enum err e;

	*out = (struct audit_line){.o = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL)};
	of = json_string_value(json_object_get(out->o, "volume"));
	out->event = json_string_value(json_object_get(out->o, "event"));
	e = audit_get_number(out->o, "seq", &out->seq);
	if (!of || strcmp(of, volume) != 0 || !out->event || out->seq == 0)
		e = ERR_CORRUPT;
	if (e == ERR_OK)
		e = audit_get_b64(out->o, "prev", out->prev, AUDIT_HASH);
	out->sealed = json_object_get(out->o, "w") || json_object_get(out->o, "n") || json_object_get(out->o, "mac");
	if (e == ERR_OK && out->sealed) {
		e = audit_get_b64(out->o, "w", out->w, ID_BYTES);
		if (e == ERR_OK)
			e = audit_get_number(out->o, "n", &out->n);
		if (e == ERR_OK)
			e = out->n < AUDIT_N_MAX ? find_mac(text, len, out->o, out->mac, &out->covered) : ERR_CORRUPT;
	}
	if (e != ERR_OK)
		audit_line_clear(out);
	return e;
}

void audit_line_clear(struct audit_line *l)
{
	json_decref(l->o);
	l->o = NULL;
	l->event = NULL;
}

enum err audit_mac_check(const struct fips *f, const uint8_t key[static 32], const char *text, size_t covered,
	const uint8_t mac[static 32])
{
	const struct piece in = {text, covered};
	uint8_t want[32];
	enum err e = fips_hmac(f, key, 32, &in, 1, want);

	if (e == ERR_OK && !secret_equal(want, mac, sizeof(want)))
		e = ERR_CORRUPT;
	secret_wipe(want, sizeof(want));
	return e;
}

enum err audit_dump(const struct fips *f, const json_t *o, const uint8_t *key, size_t cap, char **text, size_t *len)
{
	size_t need = json_dumpb(o, NULL, 0, JSON_COMPACT);
	uint8_t mac[32];
	enum err e = ERR_OK;
	char *buf;

	if (need < 2 || need + MAC_ROOM + 1 > cap)
		return need < 2 ? ERR_NOMEM : ERR_RANGE;
	buf = malloc(need + MAC_ROOM + 2);
	if (!buf || json_dumpb(o, buf, need, JSON_COMPACT) != need) {
		free(buf);
		return ERR_NOMEM;
	}
	if (key) {
		const struct piece in = {buf, --need}; /* the closing brace goes behind the MAC */

		e = fips_hmac(f, key, 32, &in, 1, mac);
		memcpy(buf + need, MAC_START, sizeof(MAC_START) - 1);
		need += sizeof(MAC_START) - 1;
		b64_encode(mac, sizeof(mac), buf + need);
		need += MAC_TEXT;
		memcpy(buf + need, MAC_END, sizeof(MAC_END) - 1);
		need += sizeof(MAC_END) - 1;
	}
	buf[need++] = '\n';
	if (e != ERR_OK) {
		free(buf);
		return e;
	}
	*text = buf;
	*len = need;
	return ERR_OK;
}

/* ---- head ---- */

static enum err head_parse(json_t *o, const char *volume, size_t len, struct audit_head *out)
{
	const char *of = json_string_value(json_object_get(o, "volume"));
	enum err e = of && strcmp(of, volume) == 0 && json_integer_value(json_object_get(o, "version")) == 1
			     ? ERR_OK
			     : ERR_CORRUPT;

	if (e == ERR_OK)
		e = audit_get_number(o, "seq", &out->seq);
	if (e == ERR_OK)
		e = audit_get_number(o, "segment", &out->segment);
	if (e == ERR_OK)
		e = audit_get_number(o, "offset", &out->offset);
	if (e == ERR_OK)
		e = audit_get_number(o, "n", &out->n);
	if (e == ERR_OK)
		e = audit_get_b64(o, "hash", out->hash, AUDIT_HASH);
	if (e == ERR_OK)
		e = audit_get_b64(o, "w", out->w, ID_BYTES);
	if (e == ERR_OK)
		e = find_mac(out->text, len, o, out->mac, &out->covered);
	return e == ERR_OK && (out->n >= AUDIT_N_MAX || out->segment == 0) ? ERR_CORRUPT : e;
}

enum err audit_head_read(int dirfd, const char *volume, struct audit_head *out, struct err_why *why)
{
	char name[AUDIT_NAME], *page = NULL;
	size_t len = 0;
	json_t *o;
	enum err e;

	audit_name(volume, "head", name);
	e = atomic_file_read(dirfd, name, ATOMIC_PAGE, &page, &len, why);
	if (e != ERR_OK)
		return e;
	memset(out, 0, sizeof(*out));
	/* one page: the text, then spaces, then a newline */
	e = len == ATOMIC_PAGE && page[len - 1] == '\n' ? ERR_OK : ERR_CORRUPT;
	if (e == ERR_OK) {
		len--;
		while (len > 0 && page[len - 1] == ' ')
			len--;
		e = len > 0 && len < sizeof(out->text) ? ERR_OK : ERR_CORRUPT;
	}
	if (e == ERR_OK) {
		memcpy(out->text, page, len);
		o = json_loadb(page, len, JSON_REJECT_DUPLICATES, NULL);
		e = head_parse(o, volume, len, out);
		json_decref(o);
	}
	free(page);
	return e == ERR_OK ? e : err_set(why, e, 0, "%s is damaged", name);
}

enum err audit_head_check(const struct fips *f, struct volkeys *vk, const struct audit_head *h)
{
	struct audit_keys *k = locked_alloc(sizeof(*k));
	enum err e = k ? audit_keys_start(f, vk, h->w, k) : ERR_NOMEM;

	if (e == ERR_OK)
		e = audit_keys_jump(f, k, h->n);
	if (e == ERR_OK)
		e = audit_mac_check(f, k->head, h->text, h->covered, h->mac);
	locked_free(k);
	return e;
}

enum err audit_head_write(const struct fips *f, int dirfd, const char *volume, const struct audit_head *h,
	const uint8_t key[static 32], bool first, struct err_why *why)
{
	json_t *o = json_pack("{s:i, s:s, s:I, s:I, s:I}", "version", 1, "volume", volume, "seq", (json_int_t)h->seq,
		"segment", (json_int_t)h->segment, "offset", (json_int_t)h->offset);
	char name[AUDIT_NAME], page[ATOMIC_PAGE], *text = NULL;
	size_t len = 0;
	enum err e = ERR_NOMEM;

	audit_name(volume, "head", name);
	if (o && audit_set_b64(o, "hash", h->hash, AUDIT_HASH) == 0 && audit_set_b64(o, "w", h->w, ID_BYTES) == 0 &&
		json_object_set_new(o, "n", json_integer((json_int_t)h->n)) == 0)
		e = audit_dump(f, o, key, AUDIT_HEAD_BYTES, &text, &len);
	json_decref(o);
	if (e != ERR_OK)
		return err_set(why, e, 0, "the audit log's head can't be made: %s", err_text(e));
	len--; /* the newline is the page's last byte */
	if (first) {
		memset(page, ' ', sizeof(page));
		memcpy(page, text, len);
		page[sizeof(page) - 1] = '\n';
		e = atomic_file_replace(dirfd, name, page, sizeof(page), NULL, why);
	} else {
		e = atomic_file_page(dirfd, name, text, len, why);
	}
	free(text);
	return e;
}
