/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAMES	 12	/* files and as many directories of one actor */
#define FILE_MAX (300 << 10)
#define LEN_MAX	 (40 << 10)
#define SHARED_BLOCKS 64

static atomic_bool failed;

bool model_failed(void)
{
	return failed;
}

void differ(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (!atomic_exchange(&failed, true)) {
		printf("DIFFERENT: ");
		vprintf(fmt, ap);
		printf("\n");
	}
	va_end(ap);
}

static uint64_t rnd(struct actor *a, uint64_t below)
{
	a->random ^= a->random << 13;
	a->random ^= a->random >> 7;
	a->random ^= a->random << 17;
	return (a->random * 0x2545f4914f6cdd1dull >> 16) % below;
}

void actor_init(struct actor *a, const struct options *opt, unsigned number)
{
	a->opt = opt;
	a->number = number;
	a->random = (opt->seed * 1000003 + number + 1) * 0x9e3779b97f4a7c15ull | 1;
	snprintf(a->name, sizeof(a->name), "t%u", number);
	for (int s = 0; s < 2; s++) {
		char path[4096];
		snprintf(path, sizeof(path), "%s/%s", opt->root[s], a->name);
		if (mkdir(path, 0755) < 0)
			differ("mkdir %s: %s", path, strerror(errno));
		snprintf(path, sizeof(path), "%s/shared", opt->root[s]);
		int fd = opt->shared ? open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644) : -1;
		if (fd >= 0)
			close(fd);
	}
}

/* One operation with its arguments drawn, so that both sides do the same. */
struct op {
	int what;
	char a[96], b[96]; /* paths below the root */
	off_t at, at2;
	size_t len;
	uint8_t seed;
};

struct outcome {
	long ret;
	int err;
	uint8_t *data; /* what was read */
	size_t len;
};

static void fill(uint8_t *p, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static long mapped(int fd, const struct op *o, struct outcome *r, bool write)
{
	struct stat s;
	if (fstat(fd, &s) < 0)
		return -1;
	if (s.st_size == 0)
		return 0;
	uint8_t *m = mmap(NULL, (size_t)s.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return -1;
	size_t at = (size_t)(o->at % s.st_size);
	size_t n = o->len < (size_t)s.st_size - at ? o->len : (size_t)s.st_size - at;
	if (write)
		fill(m + at, n, o->seed);
	memcpy(r->data, m + at, n);
	r->len = n;
	munmap(m, (size_t)s.st_size);
	return (long)n;
}

static long copied(int fd, const char *to, const struct op *o)
{
	int out = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct stat a, b;
	long r = -1, total = 0;
	off_t in = o->at, at = o->at2;
	if (out < 0 || fstat(fd, &a) < 0 || fstat(out, &b) < 0)
		return -1;
	if (a.st_ino == b.st_ino) /* an overlap is refused, or not, by how far it gets */
		r = 0;
	else
		do {
			r = copy_file_range(fd, &in, out, &at, o->len - (size_t)total, 0);
			total += r > 0 ? r : 0;
		} while (r > 0 && (size_t)total < o->len);
	close(out);
	return r < 0 ? -1 : total;
}

static long on_file(const char *path, const char *to, const struct op *o, struct outcome *r)
{
	int flags = o->what == 1 ? O_APPEND : 0;
	int fd = open(path, O_RDWR | flags | (o->what <= 1 ? O_CREAT : 0) | O_CLOEXEC, 0644);
	long ret = -1;
	if (fd < 0)
		return -1;
	switch (o->what) {
	case 0:
		fill(r->data, o->len, o->seed);
		ret = pwrite(fd, r->data, o->len, o->at);
		break;
	case 1:
		fill(r->data, o->len, o->seed);
		ret = lseek(fd, 0, SEEK_END) > FILE_MAX ? 0 : write(fd, r->data, o->len / 4);
		break;
	case 2: ret = ftruncate(fd, o->at); break;
	case 3: ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, o->at, (off_t)o->len); break;
	case 4: ret = fallocate(fd, FALLOC_FL_ZERO_RANGE, o->at, (off_t)o->len); break;
	case 5: ret = fallocate(fd, 0, o->at, (off_t)o->len); break;
	case 6:
	case 7:
		ret = pread(fd, r->data, o->len, o->at);
		r->len = ret > 0 ? (size_t)ret : 0;
		break;
	case 8: ret = mapped(fd, o, r, false); break;
	case 9: ret = mapped(fd, o, r, true); break;
	case 10: ret = copied(fd, to, o); break;
	case 11: ret = o->seed % 2 ? fsync(fd) : fdatasync(fd); break;
	case 12:
		fill(r->data, o->len % 1000, o->seed);
		ret = fsetxattr(fd, "user.model", r->data, o->len % 1000, 0);
		break;
	default: ret = lseek(fd, 0, SEEK_END); break;
	}
	int err = errno;
	close(fd);
	errno = err;
	return ret;
}

#define FILE_OPS 14

static long on_names(const char *a, const char *b, const char *dir, const struct op *o)
{
	switch (o->what - FILE_OPS) {
	case 0: return rename(a, b);
	case 1: return link(a, b);
	case 2: return unlink(a);
	case 3: return mkdir(dir, 0755);
	case 4: return rmdir(dir);
	case 5: return symlink(o->a, b);
	case 6: return chmod(a, o->seed % 2 ? 0644 : 0600);
	default: return renameat2(AT_FDCWD, a, AT_FDCWD, b, o->seed % 2 ? RENAME_EXCHANGE : RENAME_NOREPLACE);
	}
}

#define NAME_OPS 8

static void both(struct actor *a, const struct op *o, unsigned step)
{
	static _Thread_local uint8_t data[2][LEN_MAX + 1];
	struct outcome r[2];
	for (int s = 0; s < 2; s++) {
		char x[4096], y[4096], dir[4096];
		snprintf(x, sizeof(x), "%s/%s", a->opt->root[s], o->a);
		snprintf(y, sizeof(y), "%s/%s", a->opt->root[s], o->b);
		snprintf(dir, sizeof(dir), "%s/%s/d%u", a->opt->root[s], a->name, o->seed % NAMES);
		r[s] = (struct outcome){.data = data[s]};
		errno = 0;
		r[s].ret = o->what < FILE_OPS ? on_file(x, y, o, &r[s]) : on_names(x, y, dir, o);
		r[s].err = r[s].ret < 0 ? errno : 0;
	}
	if (r[0].ret != r[1].ret || r[0].err != r[1].err || r[0].len != r[1].len ||
		memcmp(r[0].data, r[1].data, r[0].len) != 0)
		differ("seed %lu thread %u step %u operation %d %s %s at %lld len %zu: tested %ld (%s), model %ld (%s)",
			a->opt->seed, a->number, step, o->what, o->a, o->b, (long long)o->at, o->len, r[0].ret,
			strerror(r[0].err), r[1].ret, strerror(r[1].err));
}

/* Each thread's own bytes of each block, some of them across a sector's edge. */
static void shared_write(struct actor *a)
{
	size_t width = 16384 / a->opt->threads;
	off_t at = (off_t)(rnd(a, SHARED_BLOCKS) * 16384 + a->number * width);
	uint8_t buf[16384], back[16384], seed = (uint8_t)rnd(a, 256);
	fill(buf, width, seed);
	for (int s = 0; s < 2; s++) {
		char path[4096];
		snprintf(path, sizeof(path), "%s/shared", a->opt->root[s]);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0 || pwrite(fd, buf, width, at) != (ssize_t)width ||
			pread(fd, back, width, at) != (ssize_t)width || memcmp(buf, back, width) != 0)
			differ("shared file, thread %u at %lld: %s", a->number, (long long)at, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
}

void act(struct actor *a, unsigned step)
{
	struct op o = {0};
	if (a->opt->shared && rnd(a, 3) == 0) {
		shared_write(a);
		return;
	}
	uint64_t pick = rnd(a, 100);
	o.what = pick < 25 ? 0 : pick < 75 ? 1 + (int)rnd(a, FILE_OPS - 1) : FILE_OPS + (int)rnd(a, NAME_OPS);
	o.seed = (uint8_t)rnd(a, 256);
	o.at = (off_t)rnd(a, rnd(a, 20) ? FILE_MAX : 20000);
	o.at2 = (off_t)rnd(a, FILE_MAX);
	o.len = 1 + (size_t)rnd(a, rnd(a, 2) ? LEN_MAX : 5000);
	for (int i = 0; i < 2; i++) {
		char *to = i ? o.b : o.a;
		unsigned dir = (unsigned)rnd(a, 2 * NAMES), file = (unsigned)rnd(a, NAMES);
		if (dir < NAMES)
			snprintf(to, sizeof(o.a), "%s/d%u/f%u", a->name, dir, file);
		else
			snprintf(to, sizeof(o.a), "%s/f%u", a->name, file);
	}
	both(a, &o, step);
}
