/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the passphrase source: from a file, from standard input, and typed on a terminal. */
#include "keyprov/passphrase.h"
#include "keytest.h"
#include <poll.h>
#include <termios.h>

/* ---- passphrase ---- */

static void passphrase_file(void **state)
{
	const char *path = kt_path(kt.dir, "pass");
	struct secret *key = test_secret(1, 32), *back;
	struct keyprov *p, *q;
	struct err_why why;
	struct key_ref ref, newest;
	struct wrapped w, again;
	enum key_state ks;
	json_t *j;

	(void)state;
	kt_write(path, "too short..13\n", 14, 0600);
	p = kt_provider(kt_conf("passphrase:%s", path), NULL);
	assert_refused(keyprov_wrap(p, key, &w, &ref, &why), ERR_CONFIG, why, "at least 14 bytes");
	assert_refused(keyprov_unwrap(p, &(struct wrapped){.len = 40}, &ref, &back, &why), ERR_CONFIG, why,
		"not made from a passphrase");
	kt_write(path, "correct horse battery\nsecond line\n", 34, 0600);
	assert_ok(keyprov_rotate(p, &ref, &why));
	assert_ok(keyprov_wrap(p, key, &w, &ref, &why));
	assert_int_equal(ref.version, 1);
	assert_ok(keyprov_state(p, &ref, &ks, &newest, &why));
	assert_int_equal(ks, KEY_USABLE);
	j = managed_ops.conf(p);
	assert_int_equal(json_integer_value(json_object_get(j, "rounds")), 600000);
	assert_int_equal(json_string_length(json_object_get(j, "salt")), 43);
	assert_null(json_object_get(j, "volume"));
	q = kt_provider(j, NULL);
	assert_ok(keyprov_unwrap(q, &w, &ref, &back, &why));
	assert_memory_equal(secret_view(back), secret_view(key), 32);
	secret_free(back);
	keyprov_close(q);
	/* wrong ones, long and short */
	kt_write(path, "correct horse batterz\n", 22, 0600);
	q = kt_provider(managed_ops.conf(p), NULL);
	assert_refused(keyprov_unwrap(q, &w, &ref, &back, &why), ERR_KEY_DENIED, why, "wrong passphrase");
	keyprov_close(q);
	kt_write(path, "short", 5, 0600);
	q = kt_provider(managed_ops.conf(p), NULL);
	assert_refused(keyprov_unwrap(q, &w, &ref, &back, &why), ERR_KEY_DENIED, why, "wrong passphrase");
	keyprov_close(q);
	/* like: the passphrase is not read again */
	q = kt_provider(managed_ops.conf(p), p);
	assert_ok(keyprov_unwrap(q, &w, &ref, &back, &why));
	secret_free(back);
	keyprov_close(q);
	/* a new salt makes another KEK of the same passphrase */
	assert_ok(keyprov_rotate(p, &newest, &why));
	assert_ok(keyprov_wrap(p, key, &again, &newest, &why));
	assert_memory_not_equal(again.bytes, w.bytes, 40);
	assert_int_equal(keyprov_unwrap(p, &w, &ref, &back, &why), ERR_KEY_DENIED);
	secret_free(key);
	keyprov_close(p);
}

static void passphrase_errors(void **state)
{
	const char *path = kt_path(kt.dir, "pass");
	struct secret *pass;
	struct err_why why;
	char text[1100];

	(void)state;
	assert_refused(passphrase_read(path, true, &pass, &why), ERR_KEY_UNAVAILABLE, why, "is missing");
	kt_write(path, "", 0, 0600);
	assert_refused(passphrase_read(path, false, &pass, &why), ERR_CONFIG, why, "no passphrase on the first line");
	kt_write(path, "\nabc\n", 5, 0600);
	assert_refused(passphrase_read(path, false, &pass, &why), ERR_CONFIG, why, "no passphrase on the first line");
	kt_write(path, "good enough a passphrase", 24, 0644);
	assert_refused(passphrase_read(path, true, &pass, &why), ERR_CONFIG, why, "open to others");
	assert_null(pass);
	memset(text, 'p', sizeof(text));
	kt_write(path, text, 1024, 0600);
	assert_ok(passphrase_read(path, true, &pass, &why));
	assert_int_equal(secret_len(pass), 1024);
	secret_free(pass);
	kt_write(path, text, 1025, 0600);
	assert_refused(passphrase_read(path, true, &pass, &why), ERR_CONFIG, why, "longer than 1024");
}

/* Standard input that is no terminal: its first line, and not a byte more. */
static void passphrase_stdin(void **state)
{
	int old = dup(STDIN_FILENO), p[2];
	struct secret *pass;
	struct err_why why;
	char rest[16];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(dup2(p[0], STDIN_FILENO), STDIN_FILENO);
	assert_int_equal(write(p[1], "a fine passphrase\nrest", 22), 22);
	assert_ok(passphrase_read(NULL, true, &pass, &why));
	assert_int_equal(secret_len(pass), 17);
	assert_memory_equal(secret_view(pass), "a fine passphrase", 17);
	secret_free(pass);
	assert_int_equal(read(p[0], rest, sizeof(rest)), 4);
	close(p[1]);
	assert_refused(passphrase_read(NULL, true, &pass, &why), ERR_CONFIG, why, "standard input");
	assert_int_equal(dup2(old, STDIN_FILENO), STDIN_FILENO);
	close(old);
	close(p[0]);
}

/* ---- terminal ---- */

struct tty {
	int master;
	pid_t child;
	char seen[1024]; /* what the terminal showed */
};

/* A child on a terminal of its own, which asks once; its status tells the result. */
static void tty_start(struct tty *t, bool fresh)
{
	const char *name;

	memset(t, 0, sizeof(*t));
	t->master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(t->master >= 0);
	assert_int_equal(grantpt(t->master), 0);
	assert_int_equal(unlockpt(t->master), 0);
	name = ptsname(t->master);
	t->child = fork();
	if (t->child == 0) {
		struct err_why why = {0};
		struct secret *pass;
		struct termios after;
		enum err e;

		signal(SIGINT, SIG_DFL); /* ignored in whatever a shell put into the background */
		if (setsid() < 0 || dup2(open(name, O_RDWR), STDIN_FILENO) != STDIN_FILENO)
			_exit(90);
		e = passphrase_read(NULL, fresh, &pass, &why);
		if (tcgetattr(STDIN_FILENO, &after) != 0 || !(after.c_lflag & ECHO))
			_exit(91); /* the echo must be on again */
		if (e == ERR_OK)
			_exit(secret_len(pass) == 17 && memcmp(secret_view(pass), "a fine passphrase", 17) == 0 ? 0
														: 92);
		_exit(strstr(why.text, "differ")	? 1
			: strstr(why.text, "too short") ? 2
			: strstr(why.text, "empty")	? 3
							: 93);
	}
}

/* Waits for the prompt, then types. */
static void tty_answer(struct tty *t, const char *prompt, const char *line)
{
	size_t len = 0;

	t->seen[0] = '\0';
	while (!strstr(t->seen, prompt)) {
		struct pollfd p = {.fd = t->master, .events = POLLIN};
		ssize_t n;

		assert_int_equal(poll(&p, 1, 10000), 1);
		n = read(t->master, t->seen + len, sizeof(t->seen) - 1 - len);
		assert_true(n > 0);
		len += (size_t)n;
		t->seen[len] = '\0';
		assert_null(strstr(t->seen, "fine"));
	}
	assert_int_equal(write(t->master, line, strlen(line)), (ssize_t)strlen(line));
}

static int tty_end(struct tty *t)
{
	int status;

	assert_int_equal(waitpid(t->child, &status, 0), t->child);
	close(t->master);
	return status;
}

static void passphrase_terminal(void **state)
{
	struct tty t;

	(void)state;
	tty_start(&t, false);
	tty_answer(&t, "Passphrase: ", "a fine passphrase\n");
	assert_int_equal(tty_end(&t), 0);
	tty_start(&t, true);
	tty_answer(&t, "New passphrase: ", "a fine passphrase\n");
	tty_answer(&t, "Again: ", "a fine passphrase\n");
	assert_int_equal(tty_end(&t), 0);
	tty_start(&t, true);
	tty_answer(&t, "New passphrase: ", "a fine passphrase\n");
	tty_answer(&t, "Again: ", "another passphrase\n");
	assert_int_equal(WEXITSTATUS(tty_end(&t)), 1);
	tty_start(&t, true);
	tty_answer(&t, "New passphrase: ", "short\n");
	assert_int_equal(WEXITSTATUS(tty_end(&t)), 2);
	tty_start(&t, false);
	tty_answer(&t, "Passphrase: ", "\n");
	assert_int_equal(WEXITSTATUS(tty_end(&t)), 3);
}

/* ^C ends the process, with the echo on again. */
static void passphrase_interrupt(void **state)
{
	struct termios after;
	struct tty t;
	int status;

	(void)state;
	tty_start(&t, false);
	tty_answer(&t, "Passphrase: ", "half a pass\003");
	assert_int_equal(waitpid(t.child, &status, 0), t.child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
	assert_int_equal(tcgetattr(t.master, &after), 0);
	assert_true(after.c_lflag & ECHO);
	close(t.master);
}

static void passphrase_stop(void **state)
{
	struct tty t;
	int status;

	(void)state;
	tty_start(&t, false);
	tty_answer(&t, "Passphrase: ", "");
	/* the child leads an orphaned group, where ^Z is ignored; this is the same signal from elsewhere */
	assert_int_equal(kill(t.child, SIGSTOP), 0);
	assert_int_equal(waitpid(t.child, &status, WUNTRACED), t.child);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(kill(t.child, SIGCONT), 0);
	assert_int_equal(kill(t.child, SIGTSTP), 0);
	tty_answer(&t, "Passphrase: ", "a fine passphrase\n"); /* asked again */
	assert_int_equal(tty_end(&t), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(passphrase_file, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(passphrase_errors, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(passphrase_stdin, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(passphrase_terminal, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(passphrase_interrupt, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(passphrase_stop, kt_setup, kt_teardown),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
