/* SPDX-License-Identifier: Apache-2.0 */
/* Contents: writes at edges, sizes, holes, far offsets, mappings, copies. */
#include "diff.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Where pages, sectors and their payloads end. */
static const long edges[] = {0, 1, 15, 3935, 3936, 3937, 4063, 4064, 4065, 4095, 4096, 4097, 7999,
	8000, 8001, 8192, 12064, 12065, 65536, 69024, 131071, 131072, 200001};

static uint8_t pattern[1 << 18];

static long write_at(const char *path, int flags, off_t at, size_t len, unsigned seed)
{
	int fd = open(path, O_WRONLY | O_CREAT | flags | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	long r = pwrite(fd, pattern + seed % 251, len, at);
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

static long read_at(const char *path, off_t at, size_t len)
{
	static uint8_t buf[1 << 18];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = pread(fd, buf, len, at);
	int err = errno;
	close(fd);
	errno = err;
	return r < 0 ? -1 : (long)((hash_bytes(HASH_START, buf, (size_t)r) >> 4) * 2) + (r & 1);
}

static long size_of(const char *path)
{
	struct stat s;
	return stat(path, &s) < 0 ? -1 : s.st_size;
}

static long alloc(const char *path, int mode, off_t at, off_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = fallocate(fd, mode, at, len);
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

/* 0 if every hole SEEK_HOLE tells of reads as zeros, the walk ends at the size, and goes forward. */
static long holes_honest(const char *path)
{
	static uint8_t buf[1 << 16];
	struct stat s;
	off_t at = 0, hole, data;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &s) < 0)
		return -1;
	while (at < s.st_size) {
		hole = lseek(fd, at, SEEK_HOLE);
		if (hole < at || hole > s.st_size)
			return 1;
		if (hole == s.st_size)
			break;
		data = lseek(fd, hole, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			data = s.st_size;
		if (data <= hole || data > s.st_size)
			return 2;
		for (off_t p = hole; p < data;) {
			size_t want = data - p < (off_t)sizeof(buf) ? (size_t)(data - p) : sizeof(buf);
			ssize_t n = pread(fd, buf, want, p);
			if (n <= 0)
				return 3;
			for (ssize_t i = 0; i < n; i++) {
				if (buf[i])
					return 4;
			}
			p += n;
			if (p - hole > 1 << 20 && data - p > 1 << 20)
				p = data - (1 << 20); /* both ends are enough of a large one */
		}
		at = data;
	}
	long r = lseek(fd, s.st_size, SEEK_DATA) >= 0 || errno != ENXIO ? 5 : 0;
	if (r == 0 && (lseek(fd, s.st_size, SEEK_HOLE) >= 0 || errno != ENXIO))
		r = 6;
	close(fd);
	return r;
}

static void sizes(void)
{
	for (size_t a = 0; a < COUNT(edges); a++) {
		fresh("truncate to and fro");
		for (size_t b = 0; b < COUNT(edges); b++) {
			ctx("%ld to %ld", edges[a], edges[b]);
			R(write_at("f", O_TRUNC, 0, (size_t)edges[a], (unsigned)b));
			T(truncate("f", edges[b]));
			T(size_of("f"));
			T(content("f"));
			T(truncate("f", edges[a]));
			T(content("f"));
			T(write_at("f", 0, edges[b] + 100, 50, 7));
			T(content("f"));
		}
		TREE();
	}
}

static void writes(void)
{
	static const size_t lens[] = {1, 100, 3936, 4064, 4096, 5000, 8192, 40000};
	for (size_t a = 0; a < COUNT(edges); a++) {
		fresh("writes at edges");
		R(write_at("f", 0, 0, 20000, 1));
		for (size_t l = 0; l < COUNT(lens); l++) {
			ctx("%zu bytes at %ld", lens[l], edges[a]);
			T(write_at("f", 0, edges[a], lens[l], (unsigned)(a * 31 + l)));
			T(size_of("f"));
			T(content("f"));
			T(read_at("f", edges[a] ? edges[a] - 1 : 0, lens[l] + 2));
			T(read_at("f", edges[a], 1));
			T(write_at("f", O_APPEND, 0, lens[l], 3));
			T(read_at("f", 100, 100000));
		}
		T(content("f"));
	}
}

static void allocations(void)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	static const long at[] = {0, 1, 3936, 4000, 8000, 8192, 30000, 140000, 300000};
	static const long len[] = {1, 64, 4064, 4096, 10000, 100000};
	for (size_t m = 0; m < COUNT(modes); m++) {
		fresh("fallocate");
		for (size_t a = 0; a < COUNT(at); a++) {
			for (size_t l = 0; l < COUNT(len); l++) {
				ctx("mode %d, %ld bytes at %ld", modes[m], len[l], at[a]);
				R(write_at("f", O_TRUNC, 0, 150000, (unsigned)(a + l)));
				T(alloc("f", modes[m], at[a], len[l]));
				T(size_of("f"));
				T(content("f"));
				T(holes_honest("f"));
				T(write_at("f", 0, at[a] + 10, 20, 9));
				T(truncate("f", at[a] + 5000));
				T(truncate("f", 160000));
				T(content("f"));
			}
		}
		ctx("mode %d, bad arguments", modes[m]);
		T(alloc("f", modes[m], -1, 10));
		T(alloc("f", modes[m], 0, 0));
		T(alloc("f", modes[m], 10, -1));
		T(alloc("f", modes[m], 0x7ffffffffffff000, 4096));
	}
	T(alloc("f", FALLOC_FL_PUNCH_HOLE, 0, 100));
	T(alloc("f", 0x4000, 0, 100));
}

static void far_away(void)
{
	static const off_t far[] = {65536 + 4000, 1 << 20, (1ll << 31) - 5, 1ll << 31, (1ll << 32) - 3,
		(1ll << 32) + 1, 1ll << 33, (1ll << 32) * 4096 / 4064 - 10, 1ll << 40,
		(1ll << 40) + 4063};
	for (size_t i = 0; i < COUNT(far); i++) {
		fresh("far offsets");
		ctx("at %lld", (long long)far[i]);
		R(write_at("f", 0, 0, 100, 1));
		T(write_at("f", 0, far[i], 5000, 2));
		T(size_of("f"));
		T(read_at("f", far[i] - 100, 6000));
		T(read_at("f", 0, 5000));
		T(read_at("f", far[i] / 2, 5000));
		T(read_at("f", far[i] + 5000, 10));
		T(read_at("f", far[i] + 4999, 10));
		T(holes_honest("f"));
		T(write_at("f", 0, far[i] / 2, 5000, 3));
		T(read_at("f", far[i] / 2 - 10, 6000));
		T(holes_honest("f"));
		T(truncate("f", far[i] + 1));
		T(read_at("f", far[i] - 5, 10));
		T(truncate("f", far[i] * 2));
		T(size_of("f"));
		T(read_at("f", far[i] - 5, 10));
		T(alloc("f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, far[i] / 2, 2500));
		T(read_at("f", far[i] / 2 - 10, 6000));
		T(truncate("f", 50));
		T(content("f"));
	}
}

/* How far a file may reach is the filesystem's own affair: compared on like filesystems only. */
void test_limits(void)
{
	fresh("too far");
	R(put("f", "x"));
	static const off_t too_far[] = {1ll << 62, 0x7fffffffffffffff, 0x7ffffffffffff000};
	for (size_t i = 0; i < COUNT(too_far); i++) {
		ctx("%lld", (long long)too_far[i]);
		T(truncate("f", too_far[i]));
		T(write_at("f", 0, too_far[i], 10, 1));
		T(read_at("f", too_far[i], 10));
		T(size_of("f"));
	}
}

static long limited(const char *path, int what)
{
	struct rlimit old, small = {50000, 0};
	long r = -1;
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || setrlimit(RLIMIT_FSIZE, &small) < 0)
		return -1;
	switch (what) {
	case 0: r = pwrite(fd, pattern, 1000, 49500); break;
	case 1: r = pwrite(fd, pattern, 1000, 50000); break;
	case 2: r = ftruncate(fd, 50001); break;
	case 3: r = fallocate(fd, 0, 0, 60000); break;
	default: r = ftruncate(fd, 50000); break;
	}
	int err = errno;
	setrlimit(RLIMIT_FSIZE, &old);
	close(fd);
	errno = err;
	return r;
}

/* ---- mappings ---- */

static long map_writes(const char *path, size_t len, unsigned seed, int sync)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	uint8_t *m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return -1;
	for (size_t i = seed % 97; i < len; i += 997 + seed)
		m[i] = (uint8_t)(i + seed);
	if (sync == 1 && msync(m, len, MS_SYNC) < 0)
		return -1;
	if (sync == 2 && fsync(fd) < 0)
		return -1;
	/* What is written here has to be seen by read, and the other way round. */
	uint8_t b[16], c;
	if (pread(fd, b, 16, 0) < 0 || memcmp(b, m, len < 16 ? len : 16) != 0)
		return -2;
	c = (uint8_t)~m[len / 2];
	if (pwrite(fd, &c, 1, (off_t)(len / 2)) != 1 || m[len / 2] != c)
		return -3;
	munmap(m, len);
	close(fd);
	return 0;
}

static long map_read(const char *path, size_t len, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	uint8_t *m = mmap(NULL, len, PROT_READ, flags, fd, 0);
	close(fd);
	if (m == MAP_FAILED)
		return -1;
	long r = (long)(hash_bytes(HASH_START, m, len) >> 2);
	munmap(m, len);
	return r;
}

static void mappings(void)
{
	static const size_t lens[] = {1, 100, 3936, 4096, 4097, 8192, 100000, 200000};
	fresh("mappings");
	for (size_t l = 0; l < COUNT(lens); l++) {
		for (unsigned seed = 0; seed < 12; seed++) {
			ctx("%zu bytes, seed %u", lens[l], seed);
			R(write_at("f", O_TRUNC, 0, lens[l], seed));
			T(map_writes("f", lens[l], seed, (int)(seed % 3)));
			T(map_read("f", lens[l], MAP_SHARED));
			T(map_read("f", lens[l], MAP_PRIVATE));
			T(content("f"));
			T(size_of("f"));
			T(truncate("f", (off_t)lens[l] / 2));
			T(truncate("f", (off_t)lens[l]));
			T(map_read("f", lens[l], MAP_SHARED));
		}
	}
}

/* ---- copies inside the kernel, vectors, append ---- */

static long copy_range(const char *from, const char *to, off_t in, off_t out, size_t len, unsigned fl)
{
	int a = open(from, O_RDONLY | O_CLOEXEC), b = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	long total = 0, r = -1;
	if (a >= 0 && b >= 0) {
		do {
			r = copy_file_range(a, &in, b, &out, len - (size_t)total, fl);
			total += r > 0 ? r : 0;
		} while (r > 0 && total < (long)len);
	}
	int err = errno;
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	errno = err;
	return r < 0 ? -1 : total;
}

static long send(const char *from, const char *to, size_t len)
{
	int a = open(from, O_RDONLY | O_CLOEXEC), b = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (a < 0 || b < 0)
		return -1;
	long r = sendfile(b, a, NULL, len);
	close(a);
	close(b);
	return r;
}

static long vectors(const char *path, int flags, off_t at)
{
	struct iovec v[3] = {{pattern, 10}, {pattern + 500, 5000}, {pattern + 7, 1}};
	int fd = open(path, O_RDWR | O_CREAT | flags | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	long r = pwritev2(fd, v, 3, at, flags & O_APPEND ? 0 : RWF_DSYNC);
	close(fd);
	return r;
}

static void copies(void)
{
	static const off_t ins[] = {0, 1, 4064, 50000, 99999, 100000, 200000};
	static const off_t outs[] = {0, 5, 8000, 100000, 150000};
	static const size_t lens[] = {0, 1, 4064, 30000, 200000};
	fresh("copy_file_range");
	R(write_at("a", 0, 0, 100000, 3));
	for (size_t i = 0; i < COUNT(ins); i++) {
		for (size_t o = 0; o < COUNT(outs); o++) {
			for (size_t l = 0; l < COUNT(lens); l++) {
				ctx("%zu bytes from %ld to %ld", lens[l], (long)ins[i], (long)outs[o]);
				T(copy_range("a", "b", ins[i], outs[o], lens[l], 0));
				T(content("b"));
				T(size_of("b"));
			}
		}
	}
	T(copy_range("a", "a", 0, 10, 100, 0)); /* overlapping */
	T(copy_range("a", "a", 0, 50000, 10000, 0));
	T(copy_range("a", "b", 0, 0, 10, 1));
	T(copy_range(".", "b", 0, 0, 10, 0));
	T(content("a"));
	T(send("a", "c", 100000));
	T(content("c"));
	T(vectors("v", 0, 0));
	T(vectors("v", 0, 3930));
	T(vectors("v", O_APPEND, 0));
	T(vectors("v", O_APPEND, 100));
	T(content("v"));
}

/* Several descriptors on one file see one file. */
static long two_descriptors(const char *path, unsigned seed)
{
	uint8_t buf[5000];
	int a = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int b = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	if (a < 0 || b < 0)
		return -1;
	uint64_t h = HASH_START;
	for (unsigned i = 0; i < 40; i++) {
		unsigned n = (seed * 977 + i * 331) % 4500;
		ssize_t r;
		if (i % 3 == 0)
			r = write(b, pattern + i, n);
		else if (i % 3 == 1)
			r = pwrite(a, pattern + i, n, (off_t)(i * 700));
		else
			r = ftruncate(a, (off_t)(n + i * 500));
		h = hash_bytes(h, &r, sizeof(r));
		r = pread(i % 2 ? a : b, buf, sizeof(buf), (off_t)(i * 300));
		h = hash_bytes(h, buf, r > 0 ? (size_t)r : 0);
		r = lseek(b, 0, SEEK_END);
		h = hash_bytes(h, &r, sizeof(r));
	}
	close(a);
	close(b);
	return (long)(h >> 2);
}

void test_data(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)((i * 2654435761u) >> 13 | 1);
	sizes();
	writes();
	allocations();
	far_away();
	fresh("file size limit");
	for (int i = 0; i < 5; i++) {
		ctx("operation %d", i);
		T(limited("f", i));
		T(size_of("f"));
	}
	mappings();
	copies();
	fresh("two descriptors");
	for (unsigned i = 0; i < 50; i++) {
		ctx("seed %u", i);
		T(two_descriptors("f", i));
		T(content("f"));
	}
}
