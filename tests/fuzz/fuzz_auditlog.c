/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log.  First byte even: the rest are edits of a good log, three bytes each; whatever they make of it, only
 * the log itself, with unsealed bytes behind its end at most, is sound.  Odd: the rest are the files, as they are.
 * RUNS: 2500
 */
#include "keyprov/auditlog_internal.h"

#define HEX	   "66757a7a20766f6c756d652069642031"
#define FUZZ_FILES HEX ".log", HEX ".head", HEX ".lock"
#include "fuzzlib.h"

#define LINES 6

static char good[16384], head[4096];
static size_t good_len;
static int dirfd_;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct auditlog_config cfg = {0};
	struct auditlog *a = NULL;
	int fd;

	(void)argc;
	(void)argv;
	fuzz_start();
	dirfd_ = fuzz_directory();
	cfg.dir = fuzz_path;
	memcpy(cfg.volume, FUZZ_VOLUME, ID_BYTES);
	check(auditlog_open(fuzz_fips, &cfg, &a, NULL) == ERR_OK);
	for (unsigned i = 0; i < LINES; i++) {
		json_t *o = json_pack("{s:s, s:i}", "event", "fuzz", "i", i);

		check(i != 1 || auditlog_key(a, fuzz_keys) == ERR_OK);
		check(auditlog_append(a, o, true, NULL) == ERR_OK);
		json_decref(o);
	}
	auditlog_close(a);
	fd = openat(dirfd_, HEX ".log", O_RDONLY | O_CLOEXEC);
	good_len = (size_t)read(fd, good, sizeof(good));
	close(fd);
	fd = openat(dirfd_, HEX ".head", O_RDONLY | O_CLOEXEC);
	check(good_len < sizeof(good) && read(fd, head, sizeof(head)) == (ssize_t)sizeof(head));
	close(fd);
	return 0;
}

/* What is at the place a, one of 256, of a text of len bytes. */
static size_t place(uint8_t a, uint8_t b, size_t len)
{
	return len ? (a * 256u + b) % len : 0;
}

static size_t edit(uint8_t *text, size_t len, size_t cap, const uint8_t *d)
{
	size_t at = place(d[1], d[2], len), line;
	uint8_t *newline;

	if (len == 0)
		return 0;
	switch (d[0] % 6) {
	case 0: /* a bit */
		text[at] ^= (uint8_t)(1u << (d[0] / 6 % 8));
		return len;
	case 1: /* a byte gone */
		memmove(text + at, text + at + 1, len - at - 1);
		return len - 1;
	case 2: /* cut */
		return at;
	case 3: /* a byte more */
		if (len == cap)
			return len;
		memmove(text + at + 1, text + at, len - at);
		text[at] = d[0];
		return len + 1;
	case 4:	 /* a line gone */
	default: /* a line copied to the end */
		newline = memrchr(text, '\n', at);
		at = newline ? (size_t)(newline + 1 - text) : 0;
		newline = memchr(text + at, '\n', len - at);
		line = newline ? (size_t)(newline + 1 - text) - at : len - at;
		if (d[0] % 6 == 4) {
			memmove(text + at, text + at + line, len - at - line);
			return len - line;
		}
		if (len + line > cap)
			return len;
		memmove(text + len, text + at, line);
		return len + line;
	}
}

static bool verify(struct volkeys *vk, struct auditlog_verdict *v)
{
	struct err_why why = {0};
	enum err e = auditlog_verify(fuzz_fips, fuzz_path, FUZZ_VOLUME, vk, v, &why);

	check(e == ERR_OK);
	check(v->sound || (v->what[0] && v->file[0]));
	return v->sound;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t text[32768];
	struct auditlog_verdict v;
	size_t len = good_len, at;

	if (size < 4)
		return 0;
	if (data[0] & 1) {
		at = place(data[1], data[2], size - 3);
		fuzz_write(dirfd_, HEX ".log", data + 3, at);
		fuzz_write(dirfd_, HEX ".head", data + 3 + at, size - 3 - at);
		check(!verify(fuzz_keys, &v)); /* there is a head, and it is none of ours */
		verify(NULL, &v);
		return 0;
	}
	memcpy(text, good, good_len);
	for (size_t i = 1; i + 3 <= size && i < 64; i += 3)
		len = edit(text, len, sizeof(text), data + i);
	fuzz_write(dirfd_, HEX ".log", text, len);
	fuzz_write(dirfd_, HEX ".head", head, sizeof(head));
	if (verify(fuzz_keys, &v))
		check(len >= good_len && memcmp(text, good, good_len) == 0);
	verify(NULL, &v);
	return 0;
}
