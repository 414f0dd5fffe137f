/* SPDX-License-Identifier: Apache-2.0 */
/* flock, fcntl and open-file-description locks between two processes. */
#include "diff.h"

#include <signal.h>
#include <sys/file.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum how { FLOCK, POSIX_LOCK, OFD };
static const char *const how_names[] = {"flock", "fcntl", "OFD"};

struct want {
	enum how how;
	int type; /* F_RDLCK, F_WRLCK, F_UNLCK */
	off_t start, len;
	bool wait;
};

static int do_lock(int fd, const struct want *w)
{
	if (w->how == FLOCK) {
		int op = w->type == F_RDLCK ? LOCK_SH : w->type == F_WRLCK ? LOCK_EX : LOCK_UN;
		return flock(fd, op | (w->wait ? 0 : LOCK_NB));
	}
	struct flock l = {.l_type = (short)w->type, .l_whence = SEEK_SET, .l_start = w->start,
		.l_len = w->len};
	int cmd = w->how == OFD ? (w->wait ? F_OFD_SETLKW : F_OFD_SETLK) : w->wait ? F_SETLKW : F_SETLK;
	return fcntl(fd, cmd, &l);
}

static int other_tries(const char *path, const struct want *w)
{
	pid_t p = fork();
	if (p == 0) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		_exit(fd < 0 ? 254 : do_lock(fd, w) < 0 ? errno : 0);
	}
	return (int)reap(p);
}

/* One holds a, another tries b; then the first unlocks or closes and the other tries again. */
static long conflict(const char *path, const struct want *a, const struct want *b, int by)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), second = -1;
	if (fd < 0)
		return -1;
	long r = do_lock(fd, a) < 0 ? errno : 0;
	r = r * 1000 + other_tries(path, b);
	if (by == 0) {
		struct want un = *a;
		un.type = F_UNLCK;
		do_lock(fd, &un);
	} else if (by == 1) {
		close(fd);
		fd = -1;
	} else { /* closing any descriptor drops fcntl locks, but no others */
		second = open(path, O_RDWR | O_CLOEXEC);
		close(second);
	}
	r = r * 1000 + other_tries(path, b);
	if (fd >= 0)
		close(fd);
	return r;
}

/* F_GETLK: what is in the way; the process is checked, not compared. */
static long tell(const char *path, const struct want *a, const struct want *b, int cmd)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	pid_t self = getpid();
	if (fd < 0 || do_lock(fd, a) < 0)
		return -1;
	pid_t p = fork();
	if (p == 0) {
		struct flock l = {.l_type = (short)b->type, .l_whence = SEEK_SET, .l_start = b->start,
			.l_len = b->len};
		int other = open(path, O_RDWR | O_CLOEXEC);
		if (other < 0 || fcntl(other, cmd, &l) < 0)
			_exit(100 + (errno == EINVAL));
		if (l.l_type == F_UNLCK)
			_exit(0);
		if (a->how == POSIX_LOCK && l.l_pid != self)
			_exit(50);
		_exit(1 + l.l_type * 2 + (l.l_start == a->start && l.l_len == a->len ? 20 : 0));
	}
	long r = reap(p);
	close(fd);
	return r;
}

/* The other waits for the lock; it has to get it when the first lets go. */
static long handover(const char *path, enum how how)
{
	struct want w = {.how = how, .type = F_WRLCK, .start = 0, .len = 0, .wait = true};
	struct want un = {.how = how, .type = F_UNLCK};
	int ready[2];
	char c = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pipe2(ready, O_CLOEXEC) < 0 || do_lock(fd, &w) < 0)
		return -1;
	pid_t p = fork();
	if (p == 0) {
		int other = open(path, O_RDWR | O_CLOEXEC);
		struct want nb = w;
		nb.wait = false;
		bool refused = do_lock(other, &nb) < 0 && errno == EAGAIN;
		if (write(ready[1], &c, 1) != 1)
			_exit(99);
		_exit(do_lock(other, &w) < 0 ? 98 : refused ? 7 : 8);
	}
	if (read(ready[0], &c, 1) != 1 || do_lock(fd, &un) < 0)
		return -1;
	long r = reap(p);
	close(fd);
	close(ready[0]);
	close(ready[1]);
	return r;
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* A wait that a signal breaks. */
static long interrupted(const char *path, enum how how)
{
	struct want w = {.how = how, .type = F_WRLCK, .wait = true};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || do_lock(fd, &w) < 0)
		return -1;
	pid_t p = fork();
	if (p == 0) {
		struct sigaction sa = {.sa_handler = on_alarm};
		sigaction(SIGALRM, &sa, NULL);
		int other = open(path, O_RDWR | O_CLOEXEC);
		ualarm(20000, 20000); /* again and again: one may come too early */
		_exit(do_lock(other, &w) < 0 ? errno : 0);
	}
	long r = reap(p);
	close(fd);
	return r;
}

static long bad_fds(const char *path, int flags, int type, enum how how)
{
	struct want w = {.how = how, .type = type, .len = 10};
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = do_lock(fd, &w);
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

void test_locks(void)
{
	static const int types[] = {F_RDLCK, F_WRLCK};
	static const off_t ranges[][2] = {{0, 0}, {0, 10}, {5, 10}, {10, 10}, {100, 0}, {1ll << 33, 5}};
	fresh("locks");
	R(put("f", "some text"));
	R(mkdir("d", 0755));
	for (int ha = 0; ha < 3; ha++) {
		for (int hb = 0; hb < 3; hb++) {
			for (int i = 0; i < 4; i++) {
				for (size_t r = 0; r < COUNT(ranges) * COUNT(ranges); r++) {
					struct want a = {ha, types[i & 1], ranges[r % COUNT(ranges)][0], ranges[r % COUNT(ranges)][1], false};
					struct want b = {hb, types[i >> 1], ranges[r / COUNT(ranges)][0], ranges[r / COUNT(ranges)][1], false};
					if ((ha == FLOCK && r % COUNT(ranges)) || (hb == FLOCK && r / COUNT(ranges)))
						continue;
					/* every third combination of ranges is enough to time */
					if (ha != FLOCK && hb != FLOCK && (r + (size_t)i) % 3)
						continue;
					ctx("%s type %d %ld+%ld, then %s type %d %ld+%ld", how_names[ha], a.type, (long)a.start,
						(long)a.len, how_names[hb], b.type, (long)b.start, (long)b.len);
					T(conflict("f", &a, &b, (int)(r % 3)));
					if (hb != FLOCK)
						T(tell("f", &a, &b, hb == OFD ? F_OFD_GETLK : F_GETLK));
				}
			}
		}
		ctx("%s", how_names[ha]);
		T(handover("f", ha));
		T(interrupted("f", ha));
		T(bad_fds("f", O_RDONLY, F_WRLCK, ha));
		T(bad_fds("f", O_RDONLY, F_RDLCK, ha));
		T(bad_fds("f", O_WRONLY, F_RDLCK, ha));
		T(bad_fds("f", O_PATH, F_RDLCK, ha));
		T(bad_fds("d", O_RDONLY, F_RDLCK, ha));
		T(bad_fds("d", O_RDONLY, F_WRLCK, ha));
		T(bad_fds("f", O_RDWR, 77, ha));
	}
}
