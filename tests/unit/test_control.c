/* SPDX-License-Identifier: Apache-2.0 */
/* control: the socket of a running mount, with clients of every kind side by side. */
#include "tests/unit/runtime.h"

#include "fs/control.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HEX	"00112233445566778899aabbccddeeff"
#define SECONDS 30 /* generous: the machine may be busy */
#define MANY	80 /* more than the daemon's places */

static struct control *control;
static char path[CONTROL_PATH_CAP + 64];

/* "slow" requests, answered when the test says so. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t tickets[2 * MANY];
	unsigned n;
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static json_t *answer(void *arg, const struct control_request *r, bool *later)
{
	assert_ptr_equal(arg, &slow);
	if (strcmp(r->name, "status") == 0)
		return json_pack("{s:s, s:s, s:i}", "mountpoint", "/mnt/here", "volume", HEX, "uid", (int)r->uid);
	if (strcmp(r->name, "echo") == 0)
		return json_pack("{s:O}", "args", r->args);
	if (strcmp(r->name, "slow") != 0)
		return NULL;
	pthread_mutex_lock(&slow.lock);
	assert_true(slow.n < COUNT(slow.tickets));
	slow.tickets[slow.n++] = r->ticket;
	pthread_cond_signal(&slow.cond);
	pthread_mutex_unlock(&slow.lock);
	*later = true;
	return NULL;
}

static void wait_for_slow(unsigned n)
{
	pthread_mutex_lock(&slow.lock);
	while (slow.n < n)
		pthread_cond_wait(&slow.cond, &slow.lock);
	pthread_mutex_unlock(&slow.lock);
}

static int dial(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(path) < sizeof(addr.sun_path));
	memcpy(addr.sun_path, path, strlen(path) + 1);
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Everything until the daemon closes; "" if it closes without a word. */
static char *hear(int fd, char *out, size_t cap)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len + 1 < cap && poll(&p, 1, SECONDS * 1000) > 0) {
		n = recv(fd, out + len, cap - 1 - len, 0);
		len += n > 0 ? (size_t)n : 0;
	}
	assert_true(n <= 0);
	out[len] = '\0';
	close(fd);
	return out;
}

static json_t *ask(const char *request, const json_t *args)
{
	struct err_why why = {0};
	json_t *o = NULL;

	assert_ok(control_ask_args(HEX, NULL, geteuid(), request, args, SECONDS, &o, &why));
	return o;
}

static int start(void **state)
{
	const struct control_handler h = {.answer = answer, .arg = &slow};
	char dir[CONTROL_PATH_CAP];
	struct err_why why = {0};

	(void)state;
	slow.n = 0;
	if (!control_home(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/" HEX ".sock", dir);
	return control_start(HEX, &h, &control, &why) == ERR_OK ? 0 : -1;
}

static int stop(void **state)
{
	struct stat st;

	(void)state;
	if (!control)
		return 0;
	control_stop(control);
	control = NULL;
	return stat(path, &st) < 0 && errno == ENOENT ? 0 : -1;
}

static void asked(void **state)
{
	json_t *args = json_pack("{s:s, s:[i, i]}", "uri", "https://v/keys/k", "n", 1, 2), *o;
	struct stat st;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	o = ask("status", NULL);
	assert_int_equal(json_integer_value(json_object_get(o, "uid")), geteuid());
	json_decref(o);
	o = ask("echo", args);
	assert_true(json_equal(json_object_get(o, "args"), args));
	json_decref(o);
	o = ask("echo", NULL);
	assert_int_equal(json_object_size(json_object_get(o, "args")), 0);
	json_decref(o);
	o = ask("nonsense", NULL);
	assert_string_equal(json_string_value(json_object_get(o, "error")), "This request is not known.");
	json_decref(o);
	json_decref(args);
}

/* While requests wait, others are answered; then each gets its own answer. */
static void slow_ones_wait(void **state)
{
	int fd[10];
	char text[256], want[64];

	(void)state;
	for (size_t i = 0; i < COUNT(fd); i++) {
		fd[i] = dial();
		say(fd[i], "{\"request\":\"slow\"}\n");
		wait_for_slow((unsigned)i + 1);
	}
	json_decref(ask("status", NULL));
	for (size_t i = COUNT(fd); i-- > 0;)
		control_reply(control, slow.tickets[i], json_pack("{s:i}", "n", (int)i));
	for (size_t i = 0; i < COUNT(fd); i++) {
		snprintf(want, sizeof(want), "{\"n\":%zu}\n", i);
		assert_string_equal(hear(fd[i], text, sizeof(text)), want);
	}
}

/* Clients that go away, talk nonsense, say nothing or too much harm nobody. */
static void bad_clients(void **state)
{
	static const char *const lines[] = {"\n", "x\n", "[]\n", "null\n", "{\"request\":7}\n",
		"{\"request\":\"status\",\"args\":[]}\n", "{\"request\":\"status\",\"request\":\"status\"}\n",
		"{\"request\":\"status\"} trailing\n", "\xff\xfe\n"};
	char text[4096], *big = malloc(100000);
	int silent[5], fd;

	(void)state;
	for (size_t i = 0; i < COUNT(silent); i++)
		silent[i] = dial();
	for (size_t i = 0; i < COUNT(lines); i++) {
		fd = dial();
		say(fd, lines[i]);
		assert_non_null(strstr(hear(fd, text, sizeof(text)), "not known"));
	}
	/* gone while it waits */
	fd = dial();
	say(fd, "{\"request\":\"slow\"}\n");
	wait_for_slow(1);
	close(fd);
	json_decref(ask("status", NULL));
	control_reply(control, slow.tickets[0], json_object());
	/* gone before it has finished */
	fd = dial();
	say(fd, "{\"request\":");
	close(fd);
	/* in pieces, and with the writing side closed */
	fd = dial();
	say(fd, "{\"request\":");
	json_decref(ask("status", NULL));
	say(fd, "\"status\"}\n");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_non_null(strstr(hear(fd, text, sizeof(text)), "/mnt/here"));
	/* without an end */
	assert_non_null(big);
	memset(big, 'a', 100000);
	fd = dial();
	for (size_t done = 0; done < 100000;) {
		ssize_t n = send(fd, big + done, 100000 - done, MSG_NOSIGNAL);

		if (n < 0)
			break;
		done += (size_t)n;
	}
	close(fd);
	free(big);
	json_decref(ask("status", NULL));
	for (size_t i = 0; i < COUNT(silent); i++)
		close(silent[i]);
}

/* More clients than places: the others are served as places come free. */
static void crowd(void **state)
{
	int fd[MANY];
	char text[256];

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		fd[i] = dial();
	/* The first have the places; they get their answers and leave. */
	for (unsigned i = 0; i < MANY; i++)
		say(fd[i], "{\"request\":\"status\"}\n");
	for (unsigned i = 0; i < MANY; i++)
		assert_non_null(strstr(hear(fd[i], text, sizeof(text)), "/mnt/here"));
}

/* What is asked by mount point goes to the right daemon only; all of them can be asked at once. */
static void count_answers(void *arg, const json_t *o)
{
	unsigned *n = arg;

	if (strcmp(json_string_value(json_object_get(o, "mountpoint")), "/mnt/here") == 0)
		++*n;
}

static void by_mountpoint(void **state)
{
	struct err_why why = {0};
	unsigned heard = 0;
	json_t *o = NULL;

	(void)state;
	assert_ok(control_ask(NULL, "/mnt/here", geteuid(), "echo", SECONDS, &o, &why));
	json_decref(o);
	assert_int_equal(control_ask(NULL, "/mnt/there", geteuid(), "slow", SECONDS, &o, &why), ERR_NOT_FOUND);
	assert_int_equal(slow.n, 0);
	assert_true(control_ask_all(geteuid(), "status", NULL, SECONDS, count_answers, &heard) >= 1);
	assert_int_equal(heard, 1);
}

/* The end, with clients in every phase. */
static void stopped(void **state)
{
	char text[256];
	int fd[3];

	fd[0] = dial();
	fd[1] = dial();
	say(fd[1], "{\"request\":\"slow\"}\n");
	fd[2] = dial();
	say(fd[2], "{\"request\":\"slow\"}\n");
	wait_for_slow(2);
	control_reply(control, slow.tickets[0], json_pack("{s:s}", "last", "words"));
	assert_int_equal(stop(state), 0);
	assert_string_equal(hear(fd[0], text, sizeof(text)), "");
	assert_string_equal(hear(fd[1], text, sizeof(text)), "{\"last\":\"words\"}\n");
	assert_string_equal(hear(fd[2], text, sizeof(text)), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(asked, start, stop),
		cmocka_unit_test_setup_teardown(slow_ones_wait, start, stop),
		cmocka_unit_test_setup_teardown(bad_clients, start, stop),
		cmocka_unit_test_setup_teardown(crowd, start, stop),
		cmocka_unit_test_setup_teardown(by_mountpoint, start, stop),
		cmocka_unit_test_setup_teardown(stopped, start, stop),
	};

	runtime_start();
	return runtime_end(cmocka_run_group_tests(tests, NULL, NULL));
}
