/* SPDX-License-Identifier: Apache-2.0 */
/* serve_mount - attaching a volume to the kernel, the request loop, signals; see serve.h. */
#include "fs/audit.h"
#include "fs/gate.h"
#include "fs/log.h"
#include "fs/mounts.h"
#include "fs/serve.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define URING_PARAMETER "/sys/module/fuse/parameters/enable_uring"
#define MIN_THREADS	10u
#define READY_SECONDS	60
#define MESSAGE_CAP	256

/* libfuse has one log function for the process and gives it no argument. */
static struct {
	pthread_mutex_t lock;
	char last[MESSAGE_CAP]; /* the newest message while mounting */
	bool mounting;
	bool uring_failed;
} fuse_messages = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fuse_message(enum fuse_log_level level, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void fuse_message(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[MESSAGE_CAP];
	const char *start = text;

	if (level > FUSE_LOG_INFO)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(start, "fuse: ", 6) == 0)
		start += 6;
	pthread_mutex_lock(&fuse_messages.lock);
	if (strstr(start, "uring")) /* it falls back by itself; the status tells */
		fuse_messages.uring_failed = true;
	if (fuse_messages.mounting)
		snprintf(fuse_messages.last, sizeof(fuse_messages.last), "%s", start);
	else
		log_line(strstr(start, "uring") || strstr(start, "qid") ? LOG_INFO_ : LOG_WARN,
			"event=libfuse message=\"%s\"", start);
	pthread_mutex_unlock(&fuse_messages.lock);
}

bool uring_wanted(enum uring_choice choice, const char **reason)
{
	char c = 0;
	int fd;

	if (choice == URING_OFF) {
		*reason = "turned off by -o no_io_uring";
		return false;
	}
	fd = open(URING_PARAMETER, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, &c, 1) != 1)
			c = 0;
		close(fd);
	}
	if (c == 'Y' || c == '1') {
		*reason = "the kernel offers it";
		return true;
	}
	*reason = fd < 0 ? "this kernel has no FUSE over io_uring (it came with 6.14)"
			 : "FUSE over io_uring is turned off in the kernel (" URING_PARAMETER ")";
	if (choice == URING_ON)
		cli_say("%s; going on with /dev/fuse.", *reason);
	return false;
}

bool serve_uses_uring(const struct mounted *m)
{
	bool failed;

	pthread_mutex_lock(&fuse_messages.lock);
	failed = fuse_messages.uring_failed;
	pthread_mutex_unlock(&fuse_messages.lock);
	return m->uring_asked && !failed && strcmp(fsys_transport(m->fs), "io_uring") == 0;
}

int serve_attach(struct mounted *m, struct err_why *why)
{
	char program[] = "blobcryptfs", dash_o[] = "-o";
	char *list = options_for_fuse(m->cfg->opt, m->cfg->dir, m->uring_asked, geteuid() == 0);
	char *argv[] = {program, dash_o, list, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct mount_info at = {0};
	bool mounted;

	if (!list)
		return cli_why(why, EXIT_MEMORY, "There is not enough memory to mount.");
	if (access("/dev/fuse", R_OK | W_OK) < 0 && errno == EACCES) {
		free(list);
		return cli_why(why, EXIT_PERMISSION,
			"/dev/fuse is closed to users on this machine, so only root can mount. "
			"Root can open it: chmod 0666 /dev/fuse");
	}
	/* What libfuse takes from the environment has an option of ours. */
	unsetenv("FUSE_URING_ENABLE");
	unsetenv("FUSE_URING_QUEUE_DEPTH");
	fuse_messages.mounting = true;
	fuse_set_log_func(fuse_message);
	m->fuse = fuse_session_new(&args, &fsys_ops, sizeof(fsys_ops), m->fs);
	fuse_opt_free_args(&args);
	free(list);
	if (m->fuse)
		gate_attach(m->fs, m->fuse);
	mounted = m->fuse && fuse_session_mount(m->fuse, m->cfg->mountpoint) == 0;
	fuse_messages.mounting = false;
	if (!mounted)
		return cli_why(why, EXIT_MOUNT_FAILED, "%s can't be mounted: %s.", m->cfg->mountpoint,
			fuse_messages.last[0] ? fuse_messages.last : "fusermount3 refused, see its message");
	if (mounts_at(m->cfg->mountpoint, &at) == ERR_OK)
		m->dev = at.dev;
	mount_info_clear(&at);
	if (geteuid() == 0 && m->cfg->opt->userspace)
		mounts_remember(m->cfg->dir, m->cfg->mountpoint, m->cfg->opt->userspace);
	return EXIT_OK;
}

/* Does the mount point answer, and is it ours that does? */
static int probe(struct mounted *m)
{
	const char *at = m->cfg->mountpoint;
	struct statfs fs;
	struct stat st;

	if (statfs(at, &fs) < 0 || stat(at, &st) < 0)
		return cli_why(&m->probe_why, EXIT_MOUNT_FAILED, "%s was mounted but does not answer: %s.", at,
			strerror(errno));
	if (fs.f_type != FUSE_SUPER_MAGIC)
		return cli_why(
			&m->probe_why, EXIT_MOUNT_FAILED, "%s was unmounted again while it was being mounted.", at);
	if (st.st_dev != m->dev)
		return cli_why(
			&m->probe_why, EXIT_MOUNT_FAILED, "Something else was mounted over %s at the same time.", at);
	return EXIT_OK;
}

static void *announce(void *arg)
{
	struct mounted *m = arg;
	struct timespec until;
	int rc;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += READY_SECONDS;
	do {
		rc = sem_timedwait(&m->ready, &until);
	} while (rc < 0 && errno == EINTR);
	if (atomic_load(&m->loop_ended))
		return NULL;
	if (rc < 0)
		m->probe_code = cli_why(&m->probe_why, EXIT_MOUNT_FAILED,
			"The kernel did not take up the mount within %d seconds.", READY_SECONDS);
	else
		m->probe_code = probe(m);
	if (m->probe_code != EXIT_OK) {
		fuse_session_exit(m->fuse);
		return NULL;
	}
	atomic_store(&m->is_up, true);
	m->cfg->up(m->cfg->up_arg);
	audit_key_event("mount", m->read_only ? "read-only" : "read-write", NULL);
	if (!m->fips->is_fips)
		audit_key_event("non_fips", "mounted without a FIPS provider (allow_non_fips)", NULL);
	if (m->uring_asked && !serve_uses_uring(m))
		log_line(LOG_WARN, "event=no_io_uring detail=\"the kernel or its settings refused\"");
	return NULL;
}

/* Unmounts as a user would, so that dirty pages of mmaps are written while we still serve; then ends the loop. */
static void *leave(void *arg)
{
	struct mounted *m = arg;
	int fd = open(m->cfg->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0) {
		if (fstat(fd, &st) == 0 && st.st_dev == m->dev)
			syncfs(fd);
		close(fd);
	}
	if (mounts_unmount(m->cfg->mountpoint, false) == 0 || mounts_unmount(m->cfg->mountpoint, true) == 0)
		log_line(LOG_INFO_, "event=signal_unmount");
	fuse_session_exit(m->fuse);
	return NULL;
}

static void *signals(void *arg)
{
	struct mounted *m = arg;
	struct signalfd_siginfo info;
	struct pollfd p[2] = {{.fd = m->stop_fd, .events = POLLIN}, {.events = POLLIN}};
	sigset_t handled;
	pthread_t leaver;
	bool leaving = false;

	sigemptyset(&handled);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	p[1].fd = signalfd(-1, &handled, SFD_CLOEXEC);
	while (p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			break;
		if (!(p[1].revents & POLLIN) || read(p[1].fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
			continue;
		/* The second one means now. */
		if (leaving || !atomic_load(&m->is_up) || pthread_create(&leaver, NULL, leave, m) != 0) {
			atomic_store(&m->told_to_end, true);
			fuse_session_exit(m->fuse);
		} else {
			leaving = true;
		}
	}
	if (leaving)
		pthread_join(leaver, NULL);
	if (p[1].fd >= 0)
		close(p[1].fd);
	return NULL;
}

unsigned serve_threads(const struct mount_options *o)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (o->max_threads)
		return o->max_threads;
	return cores * 2 > (long)MIN_THREADS ? (unsigned)cores * 2 : MIN_THREADS;
}

static int run_loop(struct mounted *m, struct err_why *why)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int rc;

	if (!config)
		return cli_why(why, EXIT_MEMORY, "There is not enough memory to mount.");
	fuse_loop_cfg_set_max_threads(config, m->max_threads);
	/* As a user /dev/fuse may be closed to us: fusermount3 gave us the one descriptor. */
	fuse_loop_cfg_set_clone_fd(config, access("/dev/fuse", R_OK | W_OK) == 0);
	rc = fuse_session_loop_mt(m->fuse, config);
	fuse_loop_cfg_destroy(config);
	/* over io_uring, requests that are cut off count as errors, also when that was asked for */
	if (rc < 0 && !atomic_load(&m->told_to_end))
		return cli_why(why, EXIT_INTERNAL, "Serving %s ended: %s.", m->cfg->mountpoint, strerror(-rc));
	return EXIT_OK;
}

/*
 * Closes the connection to the kernel, so that threads of ours that wait for an answer from the mount, which nobody
 * gives any more, come back.  The descriptor's number stays taken, since libfuse is going to close it.
 */
static void cut_connection(struct mounted *m)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	dup3(fd, fuse_session_fd(m->fuse), O_CLOEXEC);
	close(fd);
}

int serve_loop(struct mounted *m, struct err_why *why)
{
	const uint64_t one = 1;
	pthread_t announcer, signaller;
	int code;

	if (pthread_create(&announcer, NULL, announce, m) != 0)
		return cli_why(why, EXIT_MEMORY, "No thread could be started.");
	if (pthread_create(&signaller, NULL, signals, m) != 0) {
		atomic_store(&m->loop_ended, true);
		sem_post(&m->ready);
		pthread_join(announcer, NULL);
		return cli_why(why, EXIT_MEMORY, "No thread could be started.");
	}
	code = run_loop(m, why);
	atomic_store(&m->loop_ended, true);
	sem_post(&m->ready);
	cut_connection(m);
	pthread_join(announcer, NULL);
	while (write(m->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(signaller, NULL);
	if (atomic_load(&m->is_up) || code != EXIT_OK)
		return code;
	if (m->probe_code != EXIT_OK) {
		*why = m->probe_why;
		return m->probe_code;
	}
	return cli_why(why, EXIT_MOUNT_FAILED, "%s was unmounted before it was up.", m->cfg->mountpoint);
}

void serve_detach(struct mounted *m)
{
	struct mount_info at = {0};

	if (!m->fuse)
		return;
	gate_attach(m->fs, NULL);
	fuse_session_destroy(m->fuse);
	m->fuse = NULL;
	/* Only if it is still ours that is mounted there, not what somebody has mounted since. */
	if (m->dev && mounts_at(m->cfg->mountpoint, &at) == ERR_OK && at.is_ours && at.dev == m->dev)
		mounts_unmount(m->cfg->mountpoint, true);
	mount_info_clear(&at);
}
