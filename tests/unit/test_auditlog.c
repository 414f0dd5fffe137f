/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of keyprov/auditlog*.c against keyprov/AUDIT.md: what verify finds, rotation, failing calls, crashes. */
#include "keyprov/atomic_file.h"
#include "keyprov/auditlog_internal.h"
#include "keytest.h"
#include <dirent.h>
#include <limits.h>
#include <sys/prctl.h>

#define TAMPER_LINES 9
#define FILE_MAX     ((size_t)1 << 16)

/* ---- more durable steps (see keytest.h) ---- */

int ftruncate(int fd, off_t len)
{
	return (int)kt_do('t', SYS_ftruncate, fd, (long)len, 0, 0, 0);
}

/* ---- helpers ---- */

static struct volkeys *vk;
static char dir[128];
static unsigned dirs;
static struct auditlog_verdict verdict;
static struct err_why why;

static int setup(void **state)
{
	(void)state;
	kt_arm(0, 0);
	snprintf(dir, sizeof(dir), "%.80s/log%u", kt.dir, ++dirs);
	return 0;
}

static int group_start(void **state)
{
	if (kt_setup(state) != 0)
		return -1;
	vk = test_volume(kt.f, SUITE_GCM);
	return 0;
}

static int group_end(void **state)
{
	volkeys_free(vk);
	return kt_teardown(state);
}

static struct auditlog *log_open(bool keyed, size_t segment, unsigned max)
{
	struct auditlog_config cfg = {.dir = dir, .segment_bytes = segment, .segments_max = max};
	struct auditlog *a = NULL;
	enum err e;

	memcpy(cfg.volume, TEST_VOLUME, ID_BYTES);
	e = auditlog_open(kt.f, &cfg, &a, &why);
	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	if (keyed)
		assert_ok(auditlog_key(a, vk));
	return a;
}

static enum err say(struct auditlog *a, const char *event, bool sync)
{
	json_t *o = json_pack("{s:s, s:s, s:i}", "event", event, "detail", "text with \" and \n in it", "number", 7);
	enum err e = auditlog_append(a, o, sync, &why);

	json_decref(o);
	return e;
}

static void say_ok(struct auditlog *a, const char *event, bool sync)
{
	enum err e = say(a, event, sync);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
}

static bool verify(void)
{
	enum err e = auditlog_verify(kt.f, dir, TEST_VOLUME, vk, &verdict, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return verdict.sound;
}

static bool verify_chain(void)
{
	struct auditlog_verdict v;

	assert_ok(auditlog_verify(kt.f, dir, TEST_VOLUME, NULL, &v, &why));
	assert_false(v.seals_checked);
	return v.sound;
}

static void assert_sound(void)
{
	bool sound = verify();

	if (!sound)
		print_error("%s line %lu: %s\n", verdict.file, verdict.line, verdict.what);
	assert_true(sound);
	assert_true(verify_chain());
}

static const char *log_name(const char *ending)
{
	static char hex[AUDIT_HEX], name[4][AUDIT_NAME];
	static unsigned i;

	audit_volume_hex(TEST_VOLUME, hex);
	audit_name(hex, ending, name[++i % 4]);
	return kt_path(dir, name[i % 4]);
}

/* The file's bytes; lines[i] is the start of line i, lines[n] the end. */
struct text {
	char bytes[FILE_MAX];
	size_t len, n, lines[300];
};

static void text_read(const char *path, struct text *t)
{
	t->len = kt_read(path, t->bytes, sizeof(t->bytes));
	t->n = 0;
	t->lines[0] = 0;
	for (size_t i = 0; i < t->len; i++)
		if (t->bytes[i] == '\n')
			t->lines[++t->n] = i + 1;
}

static void assert_bad(size_t line, const char *word)
{
	if (verify() || verdict.line != line || (word && strncmp(verdict.what, word, strlen(word)) != 0))
		print_error("want %s line %zu, not line %lu %s\n", word ? word : "", line, verdict.line, verdict.what);
	assert_false(verdict.sound);
	assert_int_equal(verdict.line, line);
	if (word)
		assert_int_equal(strncmp(verdict.what, word, strlen(word)), 0);
}

/* A log of two writers and two lines without keys, all covered by the last. */
static struct text *tamper_log(void)
{
	struct text *t = malloc(sizeof(*t));
	struct auditlog *a = log_open(true, 0, 0), *b = log_open(true, 0, 0), *c = log_open(false, 0, 0);

	assert_non_null(t);
	say_ok(a, "one", true);
	say_ok(a, "two", false);
	say_ok(b, "three", true);
	say_ok(a, "four", true);
	say_ok(c, "five", true);
	say_ok(c, "six", true);
	say_ok(b, "seven", true);
	say_ok(b, "eight", false);
	say_ok(a, "nine", true);
	auditlog_close(a);
	auditlog_close(b);
	auditlog_close(c);
	assert_sound();
	assert_int_equal(verdict.lines, TAMPER_LINES);
	assert_int_equal(verdict.unsealed_end, 0);
	text_read(log_name("log"), t);
	assert_int_equal(t->n, TAMPER_LINES);
	return t;
}

static bool unsealed(size_t line)
{
	return line == 5 || line == 6;
}

/* ---- tests ---- */

static void empty_and_first(void **state)
{
	struct auditlog *a = NULL;

	(void)state;
	assert_int_equal(auditlog_verify(kt.f, dir, TEST_VOLUME, vk, &verdict, &why), ERR_NOT_FOUND);
	a = log_open(false, 0, 0);
	assert_int_equal(auditlog_verify(kt.f, dir, TEST_VOLUME, vk, &verdict, &why), ERR_NOT_FOUND);
	say_ok(a, "refused", true);
	assert_sound();
	assert_int_equal(verdict.lines, 1);
	assert_int_equal(verdict.unsealed_end, 1);
	assert_ok(auditlog_key(a, vk));
	assert_ok(auditlog_key(a, vk)); /* again: nothing */
	assert_sound();
	say_ok(a, "mount", true);
	say_ok(a, "lock", true);
	assert_sound();
	assert_int_equal(verdict.lines, 3);
	assert_int_equal(verdict.unsealed_end, 0);
	assert_int_equal(verdict.first_seq, 1);
	assert_int_equal(verdict.last_seq, 3);
	assert_true(verdict.seals_checked);
	assert_ok(auditlog_verify_own(a, vk, &verdict, &why));
	assert_true(verdict.sound);
	auditlog_close(a);
	assert_sound();
}

static void bad_events(void **state)
{
	static const char *const ours[] = {"time", "seq", "volume", "prev", "w", "n", "mac"};
	struct auditlog *a = log_open(true, 0, 0);
	char big[AUDIT_LINE_MAX];
	json_t *o;

	(void)state;
	for (size_t i = 0; i < COUNT(ours); i++) {
		o = json_pack("{s:s, s:i}", "event", "x", ours[i], 1);
		assert_int_equal(auditlog_append(a, o, false, &why), ERR_RANGE);
		json_decref(o);
	}
	o = json_pack("{s:i}", "event", 1);
	assert_int_equal(auditlog_append(a, o, false, &why), ERR_RANGE);
	json_decref(o);
	memset(big, 'x', sizeof(big));
	o = json_pack("{s:s, s:s#}", "event", "x", "detail", big, sizeof(big) - 1);
	assert_int_equal(auditlog_append(a, o, false, &why), ERR_RANGE);
	json_decref(o);
	say_ok(a, "good", true);
	auditlog_close(a);
	assert_sound();
	assert_int_equal(verdict.lines, 1);
}

/* The lines hold what FORMAT says: prev, seal and keys computed by hand. */
static void format(void **state)
{
	struct text *t = tamper_log();
	uint8_t hash[32], prev[32], k[32], epoch[64], line[96], next[96], mac[32], in[64], w[ID_BYTES];

	(void)state;
	assert_ok(audit_genesis(kt.f, TEST_VOLUME, prev));
	memcpy(in, "bcfs1 audit log", 15);
	memcpy(in + 15, TEST_VOLUME, ID_BYTES);
	assert_ok(fips_sha256(kt.f, in, 31, hash));
	assert_memory_equal(hash, prev, 32);
	for (size_t i = 0; i < t->n; i++) {
		const char *text = t->bytes + t->lines[i];
		size_t len = t->lines[i + 1] - t->lines[i];
		json_t *o = json_loadb(text, len, 0, NULL);

		assert_non_null(o);
		assert_int_equal(json_integer_value(json_object_get(o, "seq")), i + 1);
		assert_ok(audit_get_b64(o, "prev", hash, 32));
		assert_memory_equal(hash, prev, 32);
		assert_ok(fips_sha256(kt.f, text, len, prev));
		if (i == 1) { /* the first writer's second line */
			const char *at = strstr(text, ",\"mac\":");
			struct piece piece = {text, (size_t)(at - text)};

			assert_ok(audit_get_b64(o, "w", w, ID_BYTES));
			assert_int_equal(json_integer_value(json_object_get(o, "n")), 1);
			memcpy(in, "bcfs1 audit writer", 19);
			memcpy(in + 19, TEST_VOLUME, ID_BYTES);
			memcpy(in + 35, w, ID_BYTES);
			assert_ok(volkeys_mac(vk, MAC_AUDIT, in, 51, k));
			test_kbkdf(kt.f, k, "bcfs1 audit epoch", NULL, 0, epoch, 64);
			test_kbkdf(kt.f, epoch + 32, "bcfs1 audit line", NULL, 0, line, 96);
			test_kbkdf(kt.f, line, "bcfs1 audit line", NULL, 0, next, 96);
			assert_ok(fips_hmac(kt.f, next + 32, 32, &piece, 1, mac));
			assert_ok(audit_get_b64(o, "mac", hash, 32));
			assert_memory_equal(hash, mac, 32);
		}
		json_decref(o);
	}
	free(t);
}

static void keys_jump(void **state)
{
	static const uint64_t to[] = {0, 1, AUDIT_EPOCH - 1, AUDIT_EPOCH, AUDIT_EPOCH + 1, 3 * AUDIT_EPOCH + 5};
	struct audit_keys *a = locked_alloc(sizeof(*a)), *b = locked_alloc(sizeof(*b));

	(void)state;
	assert_ok(audit_keys_start(kt.f, vk, TEST_FILE, a));
	for (size_t i = 0; i < COUNT(to); i++) {
		assert_ok(audit_keys_start(kt.f, vk, TEST_FILE, b));
		assert_ok(audit_keys_jump(kt.f, b, to[i]));
		while (a->n < to[i])
			assert_ok(audit_keys_step(kt.f, a));
		assert_memory_equal(a, b, sizeof(*a));
	}
	assert_int_equal(audit_keys_jump(kt.f, b, 0), ERR_RANGE);
	assert_int_equal(audit_keys_jump(kt.f, b, AUDIT_N_MAX), ERR_RANGE);
	locked_free(a);
	locked_free(b);
}

static void every_byte_changed(void **state)
{
	struct text *t = tamper_log();
	size_t line = 0;

	(void)state;
	for (size_t i = 0; i < t->len; i++) {
		char c = t->bytes[i];

		if (i == t->lines[line])
			line++;
		t->bytes[i] = (char)(c ^ (1 << i % 7));
		kt_write(log_name("log"), t->bytes, t->len, 0600);
		t->bytes[i] = c;
		assert_false(verify());
		if (unsealed(line)) /* it, or its neighbor */
			assert_in_range(verdict.line, line - 1, line + 1);
		else if (i + 1 == t->len) /* no newline: cut off */
			assert_int_equal(verdict.line, TAMPER_LINES);
		else
			assert_int_equal(verdict.line, line);
	}
	free(t);
}

static void every_line_removed(void **state)
{
	struct text *t = tamper_log();
	char *bytes = malloc(FILE_MAX);

	(void)state;
	for (size_t i = 0; i < t->n; i++) {
		size_t len = t->lines[i + 1] - t->lines[i];

		memcpy(bytes, t->bytes, t->lines[i]);
		memcpy(bytes + t->lines[i], t->bytes + t->lines[i + 1], t->len - t->lines[i + 1]);
		kt_write(log_name("log"), bytes, t->len - len, 0600);
		assert_bad(i + 1, i + 1 == t->n ? "cut off" : "removed");
		assert_false(verify_chain());
	}
	free(bytes);
	free(t);
}

/* Line from is put in front of line to, once more. */
static void every_line_copied(void **state)
{
	struct text *t = tamper_log();
	char *bytes = malloc(FILE_MAX);

	(void)state;
	for (size_t from = 0; from < t->n; from++) {
		for (size_t to = 0; to <= t->n; to++) {
			size_t len = t->lines[from + 1] - t->lines[from], at = t->lines[to];

			memcpy(bytes, t->bytes, at);
			memcpy(bytes + at, t->bytes + t->lines[from], len);
			memcpy(bytes + at + len, t->bytes + at, t->len - at);
			kt_write(log_name("log"), bytes, t->len + len, 0600);
			assert_false(verify());
			if (from == to) /* the same twice: the second is the copy */
				assert_in_range(verdict.line, to + 1, to + 2);
			else
				assert_in_range(verdict.line, to > 2 ? to - 1 : 1, to + 1);
			assert_false(verify_chain());
		}
	}
	free(bytes);
	free(t);
}

static void every_pair_swapped(void **state)
{
	struct text *t = tamper_log();
	char *bytes = malloc(FILE_MAX);

	(void)state;
	for (size_t i = 0; i + 1 < t->n; i++) {
		size_t a = t->lines[i], b = t->lines[i + 1], c = t->lines[i + 2];

		memcpy(bytes, t->bytes, t->len);
		memcpy(bytes + a, t->bytes + b, c - b);
		memcpy(bytes + a + c - b, t->bytes + a, b - a);
		kt_write(log_name("log"), bytes, t->len, 0600);
		assert_false(verify());
		assert_in_range(verdict.line, i > 0 ? i : 1, i + 2);
		assert_false(verify_chain());
	}
	free(bytes);
	free(t);
}

static void every_byte_cut(void **state)
{
	struct text *t = tamper_log();
	size_t line = 1;

	(void)state;
	for (size_t i = 0; i < t->len; i++) {
		kt_write(log_name("log"), t->bytes, i, 0600);
		if (i == t->lines[line])
			line++;
		assert_bad(line, "cut off");
		assert_false(verify_chain());
	}
	assert_int_equal(unlink(log_name("log")), 0);
	assert_bad(0, "cut off");
	free(t);
}

/* A forged line without a seal that chains well, at each place; what is behind it has been chained anew or not. */
static void forged_lines(void **state)
{
	struct text *t = tamper_log();
	char *bytes = malloc(FILE_MAX);

	(void)state;
	for (size_t i = 0; i <= t->n; i++) {
		uint8_t prev[32];
		char *line = NULL;
		size_t len = 0, at = t->lines[i];
		json_t *o = json_pack("{s:s, s:i, s:s, s:s}", "time", "2026-01-01T00:00:00.000Z", "seq", (int)i + 1,
			"volume", "7465737420766f6c756d652069642031", "event", "forged");

		assert_ok(audit_genesis(kt.f, TEST_VOLUME, prev));
		if (i > 0)
			assert_ok(audit_hash(kt.f, t->bytes + t->lines[i - 1], at - t->lines[i - 1], prev));
		assert_int_equal(audit_set_b64(o, "prev", prev, 32), 0);
		assert_ok(audit_dump(kt.f, o, NULL, AUDIT_LINE_MAX, &line, &len));
		memcpy(bytes, t->bytes, at);
		memcpy(bytes + at, line, len);
		memcpy(bytes + at + len, t->bytes + at, t->len - at);
		kt_write(log_name("log"), bytes, t->len + len, 0600);
		if (i < t->n) {
			/* in front of unsealed lines the one behind it looks like the copy */
			assert_false(verify());
			assert_in_range(verdict.line, i + 1, unsealed(i + 1) ? i + 2 : i + 1);
			if (strncmp(verdict.what, "inserted", 8) != 0)
				print_error("%zu: line %lu %s\n", i, verdict.line, verdict.what);
			assert_int_equal(strncmp(verdict.what, "inserted", 8), 0);
		} else {
			assert_sound(); /* nothing seals the end yet: it is counted */
			assert_int_equal(verdict.unsealed_end, 1);
		}
		free(line);
		json_decref(o);
	}
	free(bytes);
	free(t);
}

static void head_tampered(void **state)
{
	struct text *t = tamper_log();
	char head[ATOMIC_PAGE + 1];
	size_t len = kt_read(log_name("head"), head, sizeof(head));

	(void)state;
	assert_int_equal(len, ATOMIC_PAGE);
	for (size_t i = 0; i < len; i += i < 300 ? 1 : 61) {
		head[i] ^= 1;
		kt_write(log_name("head"), head, len, 0600);
		head[i] ^= 1;
		assert_bad(0, "changed");
		assert_non_null(strstr(verdict.file, ".head"));
	}
	kt_write(log_name("head"), head, len, 0600);
	assert_sound();
	assert_int_equal(unlink(log_name("head")), 0);
	assert_bad(0, "removed");
	assert_false(verify_chain());
	kt_write(log_name("head"), "", 0, 0600);
	assert_bad(0, "changed");
	free(t);
}

/* Older head alone: nothing is lost. With the older log: not noticed, but by a writer that is still there. */
static void older_log(void **state)
{
	struct auditlog *a = log_open(true, 0, 0);
	struct text *old = malloc(sizeof(*old));
	char head[ATOMIC_PAGE + 1];
	size_t len;

	(void)state;
	say_ok(a, "one", true);
	say_ok(a, "two", true);
	text_read(log_name("log"), old);
	len = kt_read(log_name("head"), head, sizeof(head));
	say_ok(a, "three", true);
	say_ok(a, "four", true);
	kt_write(log_name("head"), head, len, 0600);
	assert_sound();
	kt_write(log_name("log"), old->bytes, old->len, 0600);
	assert_sound();
	assert_ok(auditlog_verify_own(a, vk, &verdict, &why));
	assert_false(verdict.sound);
	assert_int_equal(strncmp(verdict.what, "cut off", 7), 0);
	/* and it says so when it writes next */
	say_ok(a, "five", true);
	assert_false(verify());
	auditlog_close(a);
	assert_bad(3, "removed");
	free(old);
}

/* A writer that comes to a damaged log makes it no better, and says what it found. */
static void damage_stays_visible(void **state)
{
	struct text *t = tamper_log();
	struct auditlog *a;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		char head[ATOMIC_PAGE + 1];
		size_t len = kt_read(log_name("head"), head, sizeof(head));

		if (kind == 0) /* cut */
			kt_write(log_name("log"), t->bytes, t->lines[6], 0600);
		else if (kind == 1) /* cut in the middle of a line */
			kt_write(log_name("log"), t->bytes, t->lines[8] + 20, 0600);
		else
			assert_int_equal(unlink(log_name("head")), 0);
		a = log_open(true, 0, 0);
		say_ok(a, "later", true);
		auditlog_close(a);
		assert_false(verify());
		a = log_open(true, 0, 0);
		say_ok(a, "later", true);
		auditlog_close(a);
		assert_false(verify());
		kt_write(log_name("log"), t->bytes, t->len, 0600);
		kt_write(log_name("head"), head, len, 0600);
		assert_sound();
	}
	free(t);
}

static void two_writers(void **state)
{
	struct auditlog *a = log_open(true, 2000, 4), *b = log_open(true, 2000, 4), *c = log_open(false, 2000, 4);

	(void)state;
	for (unsigned i = 0; i < 120; i++) {
		say_ok(a, "a", i % 3 == 0);
		if (i % 2)
			say_ok(b, "b", i % 5 == 0);
		if (i % 7 == 0)
			say_ok(c, "c", i % 2);
		if (i % 10 == 0)
			assert_sound();
	}
	assert_ok(auditlog_sync(a, &why));
	assert_ok(auditlog_sync(b, &why));
	assert_sound();
	assert_true(verdict.first_seq > 1);
	assert_true(verdict.last_seq > 180);
	auditlog_close(a);
	auditlog_close(b);
	auditlog_close(c);
	assert_sound();
}

static unsigned segments(uint64_t *first, uint64_t *last)
{
	struct audit_segments s;
	char hex[AUDIT_HEX];
	int fd = open(dir, O_RDONLY | O_DIRECTORY);

	audit_volume_hex(TEST_VOLUME, hex);
	assert_ok(audit_list(fd, hex, &s, &why));
	close(fd);
	*first = s.first;
	*last = s.last;
	return (unsigned)s.count;
}

static void rotation(void **state)
{
	struct auditlog *a = log_open(true, 1500, 3);
	uint64_t first, last;
	char ending[8], copy[FILE_MAX];
	size_t len = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		say_ok(a, "fill", i % 4 == 0);
	auditlog_close(a);
	assert_sound();
	assert_int_equal(segments(&first, &last), 2);
	assert_int_equal(last, first + 1);
	assert_true(verdict.first_seq > 80);
	/* any of them gone is noticed */
	for (uint64_t n = first; n <= last; n++) {
		snprintf(ending, sizeof(ending), "log.%u", (unsigned)n);
		len = kt_read(log_name(ending), copy, sizeof(copy));
		assert_int_equal(unlink(log_name(ending)), 0);
		assert_bad(1, "removed");
		kt_write(log_name(ending), "", 0, 0600);
		assert_bad(1, "removed");
		kt_write(log_name(ending), copy, len - 1, 0600);
		assert_false(verify());
		kt_write(log_name(ending), copy, len, 0600);
		assert_sound();
	}
	/* one more at the end, which is a copy */
	snprintf(ending, sizeof(ending), "log.%u", (unsigned)last + 1);
	kt_write(log_name(ending), copy, len, 0600);
	assert_bad(1, "inserted");
	assert_int_equal(unlink(log_name(ending)), 0);
	assert_sound();
}

/* Without keys: grows to twice the number, then no more; the next writer trims. */
static void keyless_limit(void **state)
{
	struct auditlog *a = log_open(false, 1000, 2);
	uint64_t first, last;
	enum err e = ERR_OK;
	unsigned i;

	(void)state;
	for (i = 0; i < 1000 && e == ERR_OK; i++)
		e = say(a, "refused", true);
	assert_int_equal(e, ERR_RANGE);
	assert_true(i > 10);
	assert_int_equal(segments(&first, &last), 3);
	assert_sound();
	auditlog_close(a);
	a = log_open(true, 1000, 2);
	assert_int_equal(segments(&first, &last), 1);
	say_ok(a, "mount", true);
	assert_sound();
	auditlog_close(a);
}

/* Behind the head: any cut, and NUL bytes from anywhere on, are what a crash leaves. */
static void torn_ends(void **state)
{
	struct auditlog *a = log_open(true, 0, 0);
	struct text *t = malloc(sizeof(*t));
	char head[ATOMIC_PAGE + 1];
	size_t from, len;

	(void)state;
	say_ok(a, "one", true);
	say_ok(a, "two", true);
	text_read(log_name("log"), t);
	from = t->len;
	len = kt_read(log_name("head"), head, sizeof(head));
	say_ok(a, "three", false);
	say_ok(a, "four", false);
	auditlog_close(a);
	text_read(log_name("log"), t);
	assert_int_equal(t->n, 4);
	for (size_t i = from; i < t->len; i += 3) {
		for (int nuls = 0; nuls < 3; nuls++) {
			char *bytes = malloc(t->len);

			memcpy(bytes, t->bytes, t->len);
			/* cut; NULs till the end; a hole of NULs in the middle */
			memset(bytes + i, nuls ? 0 : 'x', nuls == 2 && i + 40 < t->len ? 40 : t->len - i);
			kt_write(log_name("log"), bytes, nuls ? t->len : i, 0600);
			kt_write(log_name("head"), head, len, 0600);
			assert_true(verify());
			a = log_open(i % 2, 0, 0);
			say_ok(a, "after the crash", true);
			assert_sound();
			if (!(i % 2))
				assert_ok(auditlog_key(a, vk));
			say_ok(a, "more", true);
			auditlog_close(a);
			assert_sound();
			assert_int_equal(verdict.torn_end, 0);
			free(bytes);
		}
	}
	free(t);
}

/* Everything an open log does, in small; what went wrong is returned. */
static unsigned exercise(void)
{
	struct auditlog_config cfg = {.dir = dir, .segment_bytes = 900, .segments_max = 2};
	struct auditlog *a = NULL, *b = NULL;
	unsigned failed = 0;

	memcpy(cfg.volume, TEST_VOLUME, ID_BYTES);
	if (auditlog_open(kt.f, &cfg, &a, &why) != ERR_OK || auditlog_open(kt.f, &cfg, &b, &why) != ERR_OK)
		failed++;
	if (a && b) {
		failed += say(b, "keyless", true) != ERR_OK;
		failed += auditlog_key(a, vk) != ERR_OK;
		for (unsigned i = 0; i < 14; i++)
			failed += say(i % 5 == 4 ? b : a, "exercise", i % 3 == 0) != ERR_OK;
		failed += auditlog_sync(a, &why) != ERR_OK;
		failed += say(a, "end", false) != ERR_OK;
	}
	auditlog_close(a);
	auditlog_close(b);
	return failed;
}

static void every_call_fails(void **state)
{
	static const int errors[] = {EIO, ENOSPC};
	struct auditlog *a;
	unsigned failed = 1, steps = 0;

	(void)state;
	for (size_t e = 0; e < COUNT(errors); e++) {
		for (unsigned at = 1;; at++) {
			kt_arm(at, errors[e]);
			failed = exercise();
			steps = kt_step;
			kt_arm(0, 0);
			assert_sound();
			a = log_open(true, 900, 2);
			say_ok(a, "after", true);
			auditlog_close(a);
			assert_sound();
			if (steps < at)
				break;
		}
		assert_int_equal(failed, 0);
		assert_true(steps > 30);
	}
}

/* Death before and behind each step; every other time with what was not synced gone. */
static void every_step_killed(void **state)
{
	bool ended = false;

	(void)state;
	for (unsigned at = 1; !ended; at++) {
		for (int behind = 0; behind < 2; behind++) {
			struct auditlog *a;
			int status;
			pid_t pid = fork();

			assert_true(pid >= 0);
			if (pid == 0) {
				kt_arm(at, behind ? -1 : 0);
				exercise();
				_exit(0);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFEXITED(status));
			ended = WEXITSTATUS(status) != KT_CRASHED;
			assert_sound();
			a = log_open(at % 3 != 0, 900, 2);
			say_ok(a, "after", true);
			auditlog_close(a);
			assert_sound();
		}
	}
}

static void append_until_killed(unsigned seed)
{
	struct auditlog_config cfg = {.dir = dir, .segment_bytes = 3000, .segments_max = 3};
	struct auditlog *a = NULL;

	memcpy(cfg.volume, TEST_VOLUME, ID_BYTES);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed assertion must not leave us behind */
	alarm(600);
	for (;;) {
		seed = seed * 1103515245 + 12345;
		if (!a && auditlog_open(kt.f, &cfg, &a, &why) != ERR_OK)
			_exit(1);
		if (seed >> 16 & 1 && auditlog_key(a, vk) != ERR_OK)
			_exit(2);
		for (unsigned i = seed >> 20 & 15; i > 0; i--)
			if (say(a, "stress", i % 4 == 0) == ERR_IO)
				_exit(3);
		if (seed >> 18 & 1) {
			auditlog_close(a);
			a = NULL;
		}
	}
}

/* Processes that append, rotate and trim are killed at any moment: never an alarm, from whoever looks. */
static void killed_at_random(void **state)
{
	const char *rounds_text = getenv("AUDIT_KILL_ROUNDS");
	unsigned rounds = rounds_text ? (unsigned)strtoul(rounds_text, NULL, 10) : 60;
	enum { PROCESSES = 4 };
	pid_t pids[PROCESSES] = {0};
	struct auditlog *first = log_open(true, 3000, 3);

	(void)state;
	say_ok(first, "first", true);
	auditlog_close(first);
	for (unsigned i = 0; i < rounds; i++) {
		unsigned who = i % PROCESSES;

		if (pids[who]) {
			int status;

			kill(pids[who], SIGKILL);
			assert_int_equal(waitpid(pids[who], &status, 0), pids[who]);
			assert_true(WIFSIGNALED(status));
		}
		pids[who] = fork();
		assert_true(pids[who] >= 0);
		if (pids[who] == 0)
			append_until_killed(i * 7919 + 1);
		assert_sound();
	}
	for (unsigned who = 0; who < PROCESSES; who++) {
		if (!pids[who])
			continue;
		kill(pids[who], SIGKILL);
		waitpid(pids[who], NULL, 0);
	}
	assert_sound();
	print_message("# %lu lines, first %lu, last %lu\n", verdict.lines, verdict.first_seq, verdict.last_seq);
	assert_true(verdict.last_seq > rounds);
}

/* A writer that lost its keys' source goes on sealing; the keys of earlier lines are not in memory any more. */
static void locked_writer(void **state)
{
	struct volkeys *other = test_volume(kt.f, SUITE_GCM);
	struct auditlog *a = log_open(false, 0, 0);
	struct audit_keys *k = locked_alloc(sizeof(*k));
	uint8_t masked[2][32];

	(void)state;
	assert_ok(auditlog_key(a, other));
	say_ok(a, "open", true);
	say_ok(a, "open", true);
	volkeys_free(other);
	say_ok(a, "locked", true);
	assert_sound();
	assert_int_equal(verdict.unsealed_end, 0);
	assert_ok(audit_keys_start(kt.f, vk, a->w, k));
	assert_ok(audit_keys_jump(kt.f, k, 1));
	for (size_t i = 0; i < 32; i++) {
		masked[0][i] = k->seal[i] ^ 0x5a;
		masked[1][i] = k->head[i] ^ 0x5a;
	}
	assert_true(test_scan(masked[0], 0x5a, 32) > 0); /* the scan can find it */
	locked_free(k);
	assert_int_equal(test_scan(masked[0], 0x5a, 32), 0);
	assert_int_equal(test_scan(masked[1], 0x5a, 32), 0);
	auditlog_close(a);
}

static void foreign_files(void **state)
{
	struct auditlog_config cfg = {.dir = dir};
	struct auditlog *a;

	(void)state;
	memcpy(cfg.volume, TEST_VOLUME, ID_BYTES);
	cfg.dir = "relative";
	assert_int_equal(auditlog_open(kt.f, &cfg, &a, &why), ERR_CONFIG);
	cfg.dir = dir;
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(auditlog_open(kt.f, &cfg, &a, &why), ERR_CONFIG);
	assert_int_equal(chmod(dir, 0700), 0);
	assert_int_equal(mkfifo(log_name("log"), 0600), 0);
	a = log_open(false, 0, 0);
	assert_int_equal(say(a, "x", true), ERR_CONFIG);
	assert_int_equal(unlink(log_name("log")), 0);
	assert_int_equal(symlink("/etc/passwd", log_name("log")), 0);
	assert_int_equal(say(a, "x", true), ERR_IO);
	assert_int_equal(unlink(log_name("log")), 0);
	say_ok(a, "x", true);
	auditlog_close(a);
	assert_sound();
}

static bool collect(void *arg, const char *line, size_t len)
{
	unsigned *n = arg;

	assert_int_equal(line[0], '{');
	assert_int_equal(line[len - 1], '}');
	return ++*n < 50;
}

static void reading(void **state)
{
	struct auditlog *a = log_open(true, 2000, 4);
	unsigned n = 0;

	(void)state;
	assert_int_equal(auditlog_read("/nonexistent", TEST_VOLUME, 5, collect, &n, &why), ERR_NOT_FOUND);
	for (unsigned i = 0; i < 20; i++)
		say_ok(a, "x", false);
	auditlog_close(a);
	assert_ok(auditlog_read(dir, TEST_VOLUME, ULONG_MAX, collect, &n, &why));
	assert_int_equal(n, 20);
	n = 0;
	assert_ok(auditlog_read(dir, TEST_VOLUME, 3, collect, &n, &why));
	assert_int_equal(n, 3);
	n = 48;
	assert_ok(auditlog_read(dir, TEST_VOLUME, ULONG_MAX, collect, &n, &why));
	assert_int_equal(n, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(empty_and_first, setup),
		cmocka_unit_test_setup(bad_events, setup),
		cmocka_unit_test_setup(format, setup),
		cmocka_unit_test_setup(keys_jump, setup),
		cmocka_unit_test_setup(every_byte_changed, setup),
		cmocka_unit_test_setup(every_line_removed, setup),
		cmocka_unit_test_setup(every_line_copied, setup),
		cmocka_unit_test_setup(every_pair_swapped, setup),
		cmocka_unit_test_setup(every_byte_cut, setup),
		cmocka_unit_test_setup(forged_lines, setup),
		cmocka_unit_test_setup(head_tampered, setup),
		cmocka_unit_test_setup(older_log, setup),
		cmocka_unit_test_setup(damage_stays_visible, setup),
		cmocka_unit_test_setup(two_writers, setup),
		cmocka_unit_test_setup(rotation, setup),
		cmocka_unit_test_setup(keyless_limit, setup),
		cmocka_unit_test_setup(torn_ends, setup),
		cmocka_unit_test_setup(every_call_fails, setup),
		cmocka_unit_test_setup(every_step_killed, setup),
		cmocka_unit_test_setup(killed_at_random, setup),
		cmocka_unit_test_setup(locked_writer, setup),
		cmocka_unit_test_setup(foreign_files, setup),
		cmocka_unit_test_setup(reading, setup),
	};
	int failed;

	/* thousands of syncs, which are not what is tested */
	if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	kt.f = test_start();
	failed = cmocka_run_group_tests(tests, group_start, group_end);
	return test_end(kt.f, failed);
}
