/* SPDX-License-Identifier: Apache-2.0 */
/* passphrase - see passphrase.h. */
#include "keyprov/passphrase.h"
#include "keyprov/atomic_file.h"
#include "keyprov/keyfile.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* Takes buf's first len bytes as the result. */
static enum err finish(const struct secret *buf, size_t len, struct secret **out, struct err_why *why)
{
	if (len == 0)
		return err_set(why, ERR_CONFIG, 0, "the passphrase is empty");
	if (len > PASSPHRASE_MAX)
		return err_set(why, ERR_CONFIG, 0, "the passphrase is longer than %d bytes", PASSPHRASE_MAX);
	if (secret_new(len, out) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	memcpy(secret_bytes(*out), secret_view(buf), len);
	return ERR_OK;
}

/* One byte at a time: what follows the line on a pipe belongs to somebody else. */
static enum err read_line(int fd, const char *what, struct secret **out, struct err_why *why)
{
	struct secret *buf;
	size_t len = 0;
	enum err e = ERR_OK;

	if (secret_new(PASSPHRASE_MAX + 1, &buf) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	while (len <= PASSPHRASE_MAX) {
		uint8_t *at = secret_bytes(buf) + len;
		ssize_t n = read(fd, at, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			e = err_set(
				why, ERR_IO, errno, "can't read the passphrase from %.300s: %s", what, strerror(errno));
		if (n <= 0 || *at == '\n')
			break;
		len++;
	}
	if (e == ERR_OK && len == 0)
		e = err_set(why, ERR_CONFIG, 0, "there is no passphrase on the first line of %.300s", what);
	else if (e == ERR_OK)
		e = finish(buf, len, out, why);
	secret_free(buf);
	return e;
}

static enum err from_file(const char *file, struct secret **out, struct err_why *why)
{
	int fd;
	enum err e = keyfile_open(AT_FDCWD, file, file, KEYFILE_GIVEN, &fd, NULL, why);

	if (e != ERR_OK)
		return e;
	e = read_line(fd, file, out, why);
	close(fd);
	return e;
}

/* ---- terminal ---- */

/* Signals that would end or stop us with the echo off. */
static void deadly(sigset_t *set)
{
	static const int list[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE, SIGALRM};

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		sigaddset(set, list[i]);
}

/* The terminal in canonical mode hands out whole lines.  Returns 1 for a line, 0 for a pending signal, -1 for an error.
 */
static int wait_line(int tty, int sigs, struct secret *buf, size_t *len)
{
	struct pollfd p[2] = {{.fd = tty, .events = POLLIN}, {.fd = sigs, .events = POLLIN}};
	ssize_t n;

	if (poll(p, 2, -1) < 0)
		return errno == EINTR ? 0 : -1;
	if (p[1].revents)
		return 0; /* not taken from sigs: it stays pending and is delivered when unblocked */
	n = read(tty, secret_bytes(buf), secret_len(buf));
	if (n < 0)
		return errno == EINTR ? 0 : -1;
	*len = (size_t)n;
	if (n > 0 && secret_view(buf)[n - 1] == '\n')
		(*len)--;
	return 1;
}

/* One question.  *again: stopped and continued; ask anew. */
static enum err ask_once(int tty, const char *prompt, struct secret *buf, size_t *len, bool *again, struct err_why *why)
{
	struct termios old, quiet;
	sigset_t block, before, pending;
	int sigs, r = -1, err = 0;

	*again = false;
	if (tcgetattr(tty, &old) != 0)
		return err_set(why, ERR_IO, errno, "can't turn off the terminal's echo: %s", strerror(errno));
	deadly(&block);
	sigs = signalfd(-1, &block, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigs < 0)
		return err_set(why, ERR_IO, errno, "can't watch for signals: %s", strerror(errno));
	pthread_sigmask(SIG_BLOCK, &block, &before);
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
	quiet.c_lflag |= ICANON | ISIG | ECHONL;
	if (tcsetattr(tty, TCSAFLUSH, &quiet) == 0) {
		if (atomic_file_write_all(tty, prompt, strlen(prompt)) == 0)
			r = wait_line(tty, sigs, buf, len);
		err = errno;
		tcsetattr(tty, TCSAFLUSH, &old);
	} else {
		err = errno;
	}
	sigpending(&pending);
	*again = r == 0 && sigismember(&pending, SIGTSTP) == 1;
	close(sigs);
	pthread_sigmask(SIG_SETMASK, &before, NULL); /* a pending signal does its work here */
	if (r < 0)
		return err_set(why, ERR_IO, err, "can't read the passphrase from the terminal: %s", strerror(err));
	if (r == 0 && !*again)
		return err_set(why, ERR_CONFIG, EINTR, "interrupted while waiting for the passphrase");
	return ERR_OK;
}

static enum err ask(int tty, const char *prompt, struct secret **out, struct err_why *why)
{
	struct secret *buf;
	size_t len = 0;
	bool again;
	enum err e;

	if (secret_new(PASSPHRASE_MAX + 2, &buf) != ERR_OK)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	do {
		e = ask_once(tty, prompt, buf, &len, &again, why);
	} while (e == ERR_OK && again);
	if (e == ERR_OK)
		e = finish(buf, len, out, why);
	secret_free(buf);
	return e;
}

static enum err from_terminal(bool fresh, struct secret **out, struct err_why *why)
{
	struct secret *second = NULL;
	enum err e;
	int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (tty < 0)
		return err_set(
			why, ERR_CONFIG, errno, "there is no terminal to ask for the passphrase; use passphrase:FILE");
	e = ask(tty, fresh ? "New passphrase: " : "Passphrase: ", out, why);
	if (e == ERR_OK && fresh && secret_len(*out) >= PASSPHRASE_MIN) {
		e = ask(tty, "Again: ", &second, why);
		if (e == ERR_OK && (secret_len(second) != secret_len(*out) ||
					   !secret_equal(secret_view(second), secret_view(*out), secret_len(second))))
			e = err_set(why, ERR_CONFIG, 0, "the two passphrases differ");
	}
	secret_free(second);
	close(tty);
	return e;
}

enum err passphrase_read(const char *file, bool fresh, struct secret **out, struct err_why *why)
{
	enum err e;

	*out = NULL;
	if (file)
		e = from_file(file, out, why);
	else if (isatty(STDIN_FILENO))
		e = from_terminal(fresh, out, why);
	else
		e = read_line(STDIN_FILENO, "standard input", out, why);
	if (e == ERR_OK && fresh && secret_len(*out) < PASSPHRASE_MIN)
		e = err_set(why, ERR_CONFIG, 0,
			"the passphrase is too short: FIPS mode wants at least %d bytes (112 bits)", PASSPHRASE_MIN);
	if (e != ERR_OK) {
		secret_free(*out);
		*out = NULL;
	}
	return e;
}
