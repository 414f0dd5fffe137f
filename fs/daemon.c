/* SPDX-License-Identifier: Apache-2.0 */
/* daemon - see daemon.h. */
#include "fs/daemon.h"
#include "crypto/secret.h"

#include "fs/log.h"
#include "fs/mounts.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct word { /* from the child, in one write */
	int code;
	char text[sizeof(((struct err_why *)0)->text)];
};

struct child {
	int pipe; /* -1 once the word was given */
};

void daemon_notify(const char *state)
{
	const char *path = secure_getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len == 0 || len >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0'; /* abstract */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_line(LOG_WARN, "event=notify_failed err=\"%s\"", strerror(errno));
	close(fd);
}

static void send_word(struct child *c, int code, const char *text)
{
	struct word w = {.code = code};

	if (c->pipe < 0)
		return;
	snprintf(w.text, sizeof(w.text), "%s", text);
	if (write(c->pipe, &w, sizeof(w)) < 0)
		log_line(LOG_WARN, "event=parent_gone");
	close(c->pipe);
	c->pipe = -1;
}

/* The mount answers: nothing of the caller's terminal, session or directory is held from here on. */
static void background_up(void *arg)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (chdir("/") < 0)
		log_line(LOG_WARN, "event=chdir_failed");
	log_to_syslog();
	log_set_level(LOG_INFO_);
	if (fd >= 0) {
		dup2(fd, STDIN_FILENO);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		if (fd > STDERR_FILENO)
			close(fd);
	}
	send_word(arg, EXIT_OK, "");
}

static void foreground_up(void *arg)
{
	(void)arg;
	log_set_level(LOG_INFO_);
	daemon_notify("READY=1");
}

/* The child closed the pipe without a word: what became of it?  Leaves no dead mount behind. */
static int lost_child(pid_t pid, const char *mountpoint)
{
	struct mount_info at = {0};
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_INTERNAL;
	if (mounts_at(mountpoint, &at) == ERR_OK && at.is_ours)
		mounts_unmount(mountpoint, true);
	mount_info_clear(&at);
	if (WIFSIGNALED(status))
		cli_say("The daemon died of signal %d (%s) before the mount was up.", WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else
		cli_say("The daemon ended with code %d before the mount was up.", WEXITSTATUS(status));
	return EXIT_INTERNAL;
}

static int hear_word(int fd, pid_t pid, const char *mountpoint)
{
	struct word w = {0};
	size_t got = 0;

	while (got < sizeof(w)) {
		ssize_t n = read(fd, (char *)&w + got, sizeof(w) - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return lost_child(pid, mountpoint);
		got += (size_t)n;
	}
	w.text[sizeof(w.text) - 1] = '\0';
	if (w.code == EXIT_OK)
		return EXIT_OK;
	/* It still cleans up; when we return, nothing of it is left. */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	cli_say("%s", w.text[0] ? w.text : "The mount failed.");
	return w.code;
}

static int run_background(const struct serve_config *given)
{
	struct serve_config cfg = *given;
	struct child child;
	struct err_why why = {0};
	int fds[2], code;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		cli_say("No pipe could be made: %s.", strerror(errno));
		return EXIT_INTERNAL;
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		cli_say("No process could be started: %s.", strerror(errno));
		return EXIT_MEMORY;
	}
	if (pid > 0) {
		close(fds[1]);
		code = hear_word(fds[0], pid, cfg.mountpoint);
		close(fds[0]);
		return code;
	}
	/* Descriptors of the caller (pipes of a shell, say) would be kept open as long as the mount lasts. */
	child.pipe = STDERR_FILENO + 1;
	if (fds[1] != child.pipe && dup3(fds[1], child.pipe, O_CLOEXEC) < 0)
		_exit(EXIT_INTERNAL);
	close_range((unsigned)child.pipe + 1, ~0U, 0);
	cfg.up = background_up;
	cfg.up_arg = &child;
	code = serve(&cfg, &why);
	if (child.pipe < 0 && code != EXIT_OK)
		log_line(LOG_ERROR, "event=ended code=%d why=\"%s\"", code, why.text);
	send_word(&child, code == EXIT_OK ? EXIT_MOUNT_FAILED : code, why.text);
	/* The parent's buffers and exit handlers are not ours; ours are empty. */
	secret_teardown();
	_exit(code);
}

int daemon_run(const char *dir, const char *mountpoint, const struct mount_options *opt, const struct cli *cli,
	bool foreground)
{
	struct serve_config cfg = {.dir = dir, .mountpoint = mountpoint, .opt = opt, .cli = *cli};
	struct err_why why = {0};
	int code;

	log_set_level(LOG_WARN);
	if (!foreground)
		return run_background(&cfg);
	cfg.up = foreground_up;
	code = serve(&cfg, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text[0] ? why.text : "The mount failed.");
	return code;
}
