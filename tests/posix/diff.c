/* SPDX-License-Identifier: Apache-2.0 */
#include "diff.h"

#include <dirent.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <grp.h>

#include "main.h"

const char *const who_names[WHO_COUNT] = {"root", "owner", "group", "member", "other"};
const char *const type_names[TYPE_COUNT] = {"file", "dir", "fifo", "block", "char", "sock", "link"};
const char *const side_names[2] = {"reference", "tested"};

int side;
mode_t use_umask;
bool any_done;

static const struct {
	uid_t uid;
	gid_t gid;
	gid_t groups[2];
	int group_count;
} who_ids[WHO_COUNT] = {
	[ROOT] = {0, 0, {0, 0}, 0},
	[OWNER] = {UID_OWNER, GID_OWNER, {GID_SECOND, 0}, 1},
	[GROUP] = {UID_GROUP, GID_OWNER, {0, 0}, 0},
	[MEMBER] = {UID_MEMBER, GID_MEMBER, {GID_OWNER, 0}, 1},
	[OTHER] = {UID_OTHER, GID_OTHER, {0, 0}, 0},
};

static struct {
	int root[2];
	int dir[2];
	char name[64];
	char title[256];
	char variant[512];
	unsigned number;
	enum who who;
	bool switched;
	unsigned long checks;
	unsigned long bad;
	unsigned long shown;
} st = {.dir = {-1, -1}};

#define SHOWN_MAX 30 /* per group of tests */

static void die(const char *what)
{
	fprintf(stderr, "posixdiff: %s: %s\n", what, strerror(errno));
	exit(2);
}

unsigned long checks_done(void)
{
	return st.checks;
}

unsigned long mismatches(void)
{
	return st.bad;
}

void diff_start(int reference, int tested)
{
	st.root[0] = reference;
	st.root[1] = tested;
}

/* The raw calls change the calling thread alone, and only the effective ids. */
static void become(enum who w)
{
	if (syscall(SYS_setgroups, who_ids[w].group_count, who_ids[w].groups) < 0 ||
		syscall(SYS_setresgid, -1, who_ids[w].gid, -1) < 0 ||
		syscall(SYS_setresuid, -1, who_ids[w].uid, -1) < 0)
		die("cannot change the user");
	prctl(PR_SET_DUMPABLE, 1);
}

void as(enum who w)
{
	st.who = w;
}

void enter(bool as_root)
{
	if (fchdir(st.dir[side]) < 0)
		die("cannot enter the test directory");
	umask(as_root ? 0 : use_umask);
	if (!as_root && st.who != ROOT) {
		become(st.who);
		st.switched = true;
	}
}

void leave(void)
{
	int err = errno;
	if (st.switched) {
		if (syscall(SYS_setresuid, -1, 0, -1) < 0)
			die("cannot become root again");
		become(ROOT);
		st.switched = false;
	}
	errno = err;
}

void diff_drop(void)
{
	for (side = 0; side < 2; side++) {
		if (st.dir[side] < 0)
			continue;
		if (fchdir(st.root[side]) < 0)
			die("cannot leave the test directory");
		close(st.dir[side]);
		st.dir[side] = -1;
		if (rm_rf(st.name) < 0)
			die("cannot remove the test directory");
	}
}

void fresh(const char *fmt, ...)
{
	va_list ap;
	diff_drop();
	va_start(ap, fmt);
	vsnprintf(st.title, sizeof(st.title), fmt, ap);
	va_end(ap);
	st.variant[0] = 0;
	st.who = ROOT;
	use_umask = 022;
	snprintf(st.name, sizeof(st.name), "case%u", st.number++);
	umask(0);
	for (side = 0; side < 2; side++) {
		if (fchdir(st.root[side]) < 0 || (rm_rf(st.name) < 0 && errno != ENOENT))
			die("cannot remove what an earlier run has left");
		if (mkdirat(st.root[side], st.name, 0777) < 0)
			die("cannot make the test directory");
		st.dir[side] = openat(st.root[side], st.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (st.dir[side] < 0)
			die("cannot open the test directory");
	}
}

void diff_use(const char *name)
{
	snprintf(st.title, sizeof(st.title), "%s", name);
	for (side = 0; side < 2; side++) {
		st.dir[side] = openat(st.root[side], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (st.dir[side] < 0)
			die(name);
	}
}

void diff_section(void)
{
	st.shown = 0;
}

void diff_keep(void)
{
	for (side = 0; side < 2; side++) {
		close(st.dir[side]);
		st.dir[side] = -1;
	}
}

void ctx(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(st.variant, sizeof(st.variant), fmt, ap);
	va_end(ap);
}

static void complain(const char *expr, const char *a, const char *b)
{
	st.bad++;
	if (++st.shown > SHOWN_MAX) {
		if (st.shown == SHOWN_MAX + 1)
			printf("MISMATCH (further ones are counted, not shown)\n");
		return;
	}
	printf("MISMATCH %s%s%s [%s] %s\n    reference: %s\n    tested:    %s\n", st.title,
		st.variant[0] ? ": " : "", st.variant, who_names[st.who], expr, a, b);
}

static const char *describe(const struct result *r, char buf[static 64])
{
	if (r->ret >= 0)
		snprintf(buf, 64, "%ld", r->ret);
	else
		snprintf(buf, 64, "%ld %s", r->ret,
			strerrorname_np(r->err) ? strerrorname_np(r->err) : "?");
	return buf;
}

bool compare(const char *expr, const struct result r[2])
{
	char a[64], b[64];
	st.checks++;
	any_done = r[0].ret >= 0 || r[1].ret >= 0;
	if (r[0].ret == r[1].ret && r[0].err == r[1].err)
		return true;
	complain(expr, describe(&r[0], a), describe(&r[1], b));
	return false;
}

bool compare_ok(const char *expr, const struct result r[2])
{
	char a[64], b[64];
	st.checks++;
	if (r[0].ret >= 0 && r[0].ret == r[1].ret)
		return true;
	complain(expr, describe(&r[0], a), describe(&r[1], b));
	return false;
}

static void stat_text(const char *path, char *buf, size_t len)
{
	struct stat s;
	if (lstat(path, &s) < 0) {
		snprintf(buf, len, "%s", strerrorname_np(errno));
		return;
	}
	snprintf(buf, len, "mode %o uid %u gid %u nlink %lu size %lld rdev %lx",
		(unsigned)s.st_mode, s.st_uid, s.st_gid, (unsigned long)s.st_nlink,
		S_ISDIR(s.st_mode) ? -1ll : (long long)s.st_size, (unsigned long)s.st_rdev);
}

void S(const char *path)
{
	char text[2][256], expr[300];
	for (side = 0; side < 2; side++) {
		enter(true);
		stat_text(path, text[side], sizeof(text[side]));
		leave();
	}
	st.checks++;
	if (strcmp(text[0], text[1]) == 0)
		return;
	snprintf(expr, sizeof(expr), "lstat(%.200s)", path);
	complain(expr, text[0], text[1]);
}

/* ---- whole trees ---- */

struct text {
	char *data;
	size_t len, cap;
};

static void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	for (;;) {
		va_start(ap, fmt);
		int n = vsnprintf(t->data + t->len, t->cap - t->len, fmt, ap);
		va_end(ap);
		if (n >= 0 && (size_t)n < t->cap - t->len) {
			t->len += (size_t)n;
			return;
		}
		t->cap = t->cap * 2 + (size_t)n + 1024;
		t->data = realloc(t->data, t->cap);
		if (!t->data)
			die("no memory");
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void walk(struct text *t, const char *path);

static void walk_dir(struct text *t, const char *path)
{
	char **names = NULL;
	size_t n = 0;
	DIR *d = opendir(path);
	if (!d) {
		text_add(t, "%s: opendir %s\n", path, strerrorname_np(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		names = realloc(names, (n + 1) * sizeof(*names));
		names[n++] = strdup(e->d_name);
	}
	closedir(d);
	if (n)
		qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		char *sub = NULL;
		if (asprintf(&sub, "%s/%s", path, names[i]) < 0)
			die("no memory");
		walk(t, sub);
		free(sub);
		free(names[i]);
	}
	free(names);
}

static void walk(struct text *t, const char *path)
{
	char buf[4200];
	struct stat s;
	stat_text(path, buf, sizeof(buf));
	text_add(t, "%s: %s", path, buf);
	if (lstat(path, &s) == 0) {
		if (S_ISLNK(s.st_mode)) {
			ssize_t n = readlink(path, buf, sizeof(buf) - 1);
			buf[n < 0 ? 0 : n] = 0;
			text_add(t, " -> %s", n < 0 ? strerrorname_np(errno) : buf);
		}
		if (S_ISREG(s.st_mode) && s.st_size <= 1 << 24)
			text_add(t, " content %lx", (unsigned long)content(path));
	}
	text_add(t, "\n");
	if (S_ISDIR(s.st_mode))
		walk_dir(t, path);
}

/* The first line that differs is what a reader needs. */
static void complain_lines(char *a, char *b)
{
	char *sa = NULL, *sb = NULL;
	char *la = strtok_r(a, "\n", &sa), *lb = strtok_r(b, "\n", &sb);
	while (la && lb && strcmp(la, lb) == 0) {
		la = strtok_r(NULL, "\n", &sa);
		lb = strtok_r(NULL, "\n", &sb);
	}
	complain("tree", la ? la : "(end)", lb ? lb : "(end)");
}

void TREE(void)
{
	struct text t[2] = {{0}};
	for (side = 0; side < 2; side++) {
		enter(true);
		text_add(&t[side], "%s", "");
		walk(&t[side], ".");
		leave();
	}
	st.checks++;
	if (strcmp(t[0].data, t[1].data) != 0)
		complain_lines(t[0].data, t[1].data);
	free(t[0].data);
	free(t[1].data);
}

/* ---- times ---- */

#define SNAP_MAX 8

static struct {
	const char *path[SNAP_MAX];
	struct stat before[2][SNAP_MAX];
	bool there[2][SNAP_MAX];
	int count;
} shot;

static bool later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static void shoot(struct stat out[2][SNAP_MAX], bool there[2][SNAP_MAX])
{
	for (side = 0; side < 2; side++) {
		enter(true);
		for (int i = 0; i < shot.count; i++)
			there[side][i] = lstat(shot.path[i], &out[side][i]) == 0;
		leave();
	}
}

void snap(const char *a, ...)
{
	va_list ap;
	struct timespec newest = {0}, now;
	shot.count = 0;
	va_start(ap, a);
	for (const char *p = a; p && shot.count < SNAP_MAX; p = va_arg(ap, const char *))
		shot.path[shot.count++] = p;
	va_end(ap);
	shoot(shot.before, shot.there);
	for (int s = 0; s < 2; s++) {
		for (int i = 0; i < shot.count; i++) {
			if (shot.there[s][i] && later(&shot.before[s][i].st_ctim, &newest))
				newest = shot.before[s][i].st_ctim;
		}
	}
	do {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (!later(&now, &newest));
}

static void change_text(bool was, bool is, const struct stat *b, const struct stat *a, bool atime,
	char out[static 64])
{
	if (!was || !is) {
		snprintf(out, 64, "%s, %s", was ? "was there" : "was not there",
			is ? "is there" : "is not there");
		return;
	}
	snprintf(out, 64, "changed:%s%s%s",
		atime && memcmp(&a->st_atim, &b->st_atim, sizeof(a->st_atim)) != 0 ? " atime" : "",
		memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) != 0 ? " mtime" : "",
		memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) != 0 ? " ctime" : "");
}

void moved(const char *what, bool with_atime)
{
	static struct stat after[2][SNAP_MAX];
	bool there[2][SNAP_MAX];
	shoot(after, there);
	for (int i = 0; i < shot.count; i++) {
		char text[2][64], expr[300];
		for (int s = 0; s < 2; s++)
			change_text(shot.there[s][i], there[s][i], &shot.before[s][i],
				&after[s][i], with_atime, text[s]);
		st.checks++;
		if (strcmp(text[0], text[1]) == 0)
			continue;
		snprintf(expr, sizeof(expr), "%s: times of %s", what, shot.path[i]);
		complain(expr, text[0], text[1]);
	}
}
