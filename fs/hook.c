/* SPDX-License-Identifier: Apache-2.0 */
/* hook - see hook.h. */
#include "fs/hook.h"

#include "fs/log.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAITING	       16u
#define PROGRAM_MS     30000
#define LAST_MS	       1000 /* for all that are left at the end of the mount */
#define STEP_MS	       100
#define CANNOT_EXECUTE 127

struct change {
	char state[16], reason[16];
};

struct hook {
	char *program, *volume, *mountpoint;
	pthread_t thread;
	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t cond;
	struct change waiting[WAITING];
	unsigned n;
	bool stop;

	int last_ms; /* of the thread alone: what is left once stop is set */
};

enum err hook_check(const char *program, struct err_why *why)
{
	struct stat st;

	if (program[0] != '/')
		return err_set(
			why, ERR_CONFIG, 0, "The program of on_state_change=%.200s needs an absolute path.", program);
	if (stat(program, &st) < 0)
		return err_set(why, ERR_CONFIG, errno, "The program of on_state_change=%.200s can't be found: %s.",
			program, strerror(errno));
	if (!S_ISREG(st.st_mode) || access(program, X_OK) < 0)
		return err_set(why, ERR_CONFIG, 0, "%.200s, given with on_state_change=, is no program.", program);
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(why, ERR_CONFIG, 0,
			"%.200s, given with on_state_change=, could be changed by others: it has to be root's or your "
			"own, and writable by its owner only.",
			program);
	return ERR_OK;
}

/* In a child that shares our memory: system calls only. */
static void become(char *const *argv, int null)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char lang[] = "LANG=C.UTF-8";
	static char *const env[] = {path, lang, NULL};
	sigset_t none;

	umask(022); /* ours is 0 */
	sigemptyset(&none);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		_exit(CANNOT_EXECUTE);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	if (chdir("/") == 0)
		execve(argv[0], argv, env);
	_exit(CANNOT_EXECUTE);
}

static pid_t start(const struct hook *h, struct change *c)
{
	char *const argv[] = {h->program, c->state, c->reason, h->volume, h->mountpoint, NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid;

	if (null < 0)
		return -1;
	/* Not fork(): it would copy the page tables of everything we have, keys included, for an exec.  posix_spawn()
	 * can't give the child a umask of its own. */
	pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
	if (pid == 0)
		become(argv, null); /* NOLINT(clang-analyzer-unix.Vfork): it makes system calls only */
	close(null);
	return pid;
}

static bool stopping(struct hook *h)
{
	bool stop;

	pthread_mutex_lock(&h->lock);
	stop = h->stop;
	pthread_mutex_unlock(&h->lock);
	return stop;
}

static void run(struct hook *h, struct change *c)
{
	struct err_why why = {0};
	struct pollfd p = {.events = POLLIN};
	bool over = false;
	int status = 0, left = PROGRAM_MS;
	pid_t pid;

	if (hook_check(h->program, &why) != ERR_OK) {
		log_line(LOG_WARN, "event=hook_refused why=\"%s\"", why.text);
		return;
	}
	pid = start(h, c);
	if (pid < 0) {
		log_line(LOG_WARN, "event=hook_failed err=\"%s\"", strerror(errno));
		return;
	}
	p.fd = pidfd_open(pid, 0);
	for (; p.fd >= 0 && !over && left > 0 && h->last_ms > 0; left -= STEP_MS) {
		if (stopping(h))
			h->last_ms -= STEP_MS;
		over = poll(&p, 1, STEP_MS) > 0;
	}
	if (!over && kill(pid, SIGKILL) == 0)
		log_line(LOG_WARN, "event=hook_killed program=%s", h->program);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (p.fd >= 0)
		close(p.fd);
	if (over && WIFEXITED(status) && WEXITSTATUS(status) != 0)
		log_line(LOG_WARN, "event=hook_failed program=%s code=%d", h->program, WEXITSTATUS(status));
}

static void *hook_thread(void *arg)
{
	struct hook *h = arg;
	struct change c;

	for (;;) {
		pthread_mutex_lock(&h->lock);
		while (h->n == 0 && !h->stop)
			pthread_cond_wait(&h->cond, &h->lock);
		if (h->n == 0 || h->last_ms <= 0) {
			pthread_mutex_unlock(&h->lock);
			return NULL;
		}
		c = h->waiting[0];
		memmove(h->waiting, h->waiting + 1, --h->n * sizeof(c));
		pthread_mutex_unlock(&h->lock);
		run(h, &c);
	}
}

void hook_tell(struct hook *h, const char *state, const char *reason)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	if (h->n == WAITING) {
		memmove(h->waiting, h->waiting + 1, --h->n * sizeof(h->waiting[0]));
		log_line(LOG_WARN, "event=hook_left_out");
	}
	snprintf(h->waiting[h->n].state, sizeof(h->waiting[0].state), "%s", state);
	snprintf(h->waiting[h->n].reason, sizeof(h->waiting[0].reason), "%s", reason);
	h->n++;
	pthread_cond_signal(&h->cond);
	pthread_mutex_unlock(&h->lock);
}

static void hook_free(struct hook *h)
{
	free(h->program);
	free(h->volume);
	free(h->mountpoint);
	pthread_cond_destroy(&h->cond);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

enum err hook_start(
	const char *program, const char *volume, const char *mountpoint, struct hook **out, struct err_why *why)
{
	struct hook *h;
	enum err e = hook_check(program, why);

	if (e != ERR_OK)
		return e;
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory for on_state_change.");
	h->last_ms = LAST_MS;
	h->program = strdup(program);
	h->volume = strdup(volume);
	h->mountpoint = strdup(mountpoint);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->cond, NULL);
	if (!h->program || !h->volume || !h->mountpoint || pthread_create(&h->thread, NULL, hook_thread, h) != 0) {
		hook_free(h);
		return err_set(why, ERR_NOMEM, EAGAIN, "No thread could be started for on_state_change.");
	}
	*out = h;
	return ERR_OK;
}

void hook_stop(struct hook *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_signal(&h->cond);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	hook_free(h);
}
