/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of keyprov/lock.c: one holder at a time, told by name, gone with its process. */
#include "keytest.h"

/* A child that locks the volume, says so on a pipe, and waits to be killed. */
static pid_t holder_start(void)
{
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct lock_holder h;
		struct volume *v;

		if (volume_open(kt.back, &v, NULL) != ERR_OK || volume_lock(v, "/mnt/a \"b\"", &h, NULL) != ERR_OK)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void holder_kill(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void two_processes(void **state)
{
	struct lock_holder h;
	struct err_why why;
	struct volume *v;
	char pid_text[32];
	pid_t pid;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	assert_int_equal(volume_lock_holder(v, &h), ERR_NOT_FOUND);
	pid = holder_start();
	assert_refused(volume_lock(v, "/mnt/c", &h, &why), ERR_EXISTS, why, "is already mounted on /mnt/a \"b\"");
	snprintf(pid_text, sizeof(pid_text), "process %d on ", (int)pid);
	assert_non_null(strstr(why.text, pid_text));
	assert_int_equal(h.pid, pid);
	assert_string_equal(h.mountpoint, "/mnt/a \"b\"");
	assert_true(h.host[0] != '\0');
	assert_int_equal(v->lock_fd, -1);
	memset(&h, 0, sizeof(h));
	assert_ok(volume_lock_holder(v, &h));
	assert_int_equal(h.pid, pid);
	holder_kill(pid);
	assert_int_equal(volume_lock_holder(v, &h), ERR_NOT_FOUND);
	assert_ok(volume_lock(v, "/mnt/c", &h, &why));
	assert_ok(volume_lock_holder(v, &h));
	assert_int_equal(h.pid, getpid());
	assert_string_equal(h.mountpoint, "/mnt/c");
	assert_int_equal(volume_lock(v, "/mnt/c", &h, &why), ERR_BUG);
	volume_close(v);
}

/* The daemon forks with the lock and writes its own pid. */
static void lock_over_fork(void **state)
{
	struct volume *v, *w;
	struct lock_holder h;
	int go[2], ready[2];
	char c;
	pid_t pid;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	assert_int_equal(volume_lock_update(v, "/x"), ERR_BUG);
	kt_lock(v);
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		c = volume_lock_update(v, "/mnt/daemon") == ERR_OK ? 'y' : 'n';
		(void)!write(ready[1], &c, 1);
		(void)!read(go[0], &c, 1);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	volume_close(v); /* the parent goes, the child keeps it */
	w = kt_open();
	assert_ok(volume_lock_holder(w, &h));
	assert_int_equal(h.pid, pid);
	assert_string_equal(h.mountpoint, "/mnt/daemon");
	assert_int_equal(write(go[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(volume_lock_holder(w, &h), ERR_NOT_FOUND);
	kt_lock(w);
	volume_close(w);
	close(go[0]);
	close(go[1]);
	close(ready[0]);
	close(ready[1]);
}

static void foreign_text(void **state)
{
	static const char *const texts[] = {"", "garbage", "[]", "{\"pid\":\"x\",\"host\":7}", "{\"pid\":0}"};
	struct lock_holder h;
	struct err_why why;
	struct volume *v;
	pid_t pid;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	pid = holder_start();
	for (size_t i = 0; i < COUNT(texts); i++) {
		int fd = open(kt_path(kt.back, VOLUME_LOCK), O_WRONLY | O_TRUNC);

		assert_int_equal(write(fd, texts[i], strlen(texts[i])), (ssize_t)strlen(texts[i]));
		close(fd);
		assert_refused(volume_lock(v, "/m", &h, &why), ERR_EXISTS, why, "in use by another process");
		assert_int_equal(h.pid, 0);
	}
	holder_kill(pid);
	volume_close(v);
}

static void bad_lock_file(void **state)
{
	const char *path;
	struct lock_holder h;
	struct err_why why;
	struct volume *v;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	path = kt_path(kt.back, VOLUME_LOCK);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(volume_lock_holder(v, &h), ERR_NOT_FOUND);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_refused(volume_lock(v, "/m", &h, &why), ERR_IO, why, "can't open the lock file");
	assert_int_equal(volume_lock_holder(v, &h), ERR_IO);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(volume_lock(v, "/m", &h, &why), ERR_CORRUPT, why, "not a regular file");
	assert_int_equal(unlink(path), 0);
	kt_lock(v); /* a lost one is made anew */
	volume_close(v);
}

/* Between volume_open and volume_lock someone else changed the key. */
static void descriptor_read_again(void **state)
{
	struct err_why why = {0};
	struct volume *v, *w;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	w = kt_open();
	assert_ok(volume_rotate(w, kt.f, NULL, &why));
	volume_close(w);
	assert_int_equal(v->key.version, 1);
	kt_lock(v);
	assert_int_equal(v->key.version, 2);
	volkeys_free(kt_unlock(v));
	volume_close(v);
}

/* Two readers of a directory they can't write share it; a writer is kept out meanwhile.  Needs a user that isn't root.
 */
static void shared_lock(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	kt_create(SUITE_GCM);
	assert_int_equal(chmod(kt.dir, 0755), 0);
	assert_int_equal(chmod(kt_path(kt.back, VOLUME_DESCRIPTOR), 0644), 0);
	assert_int_equal(chmod(kt_path(kt.back, VOLUME_LOCK), 0444), 0);
	assert_int_equal(chmod(kt.back, 0555), 0);
	pid = fork();
	if (pid == 0) {
		struct lock_holder h;
		struct volume *v, *w;

		if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
			_exit(2);
		if (volume_open(kt.back, &v, NULL) != ERR_OK || volume_open(kt.back, &w, NULL) != ERR_OK)
			_exit(3);
		if (volume_lock(v, "/m", &h, NULL) != ERR_OK || !v->lock_shared ||
			volume_lock_update(v, "/m") != ERR_OK)
			_exit(4);
		if (volume_lock(w, "/n", &h, NULL) != ERR_OK || !w->lock_shared)
			_exit(5);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(chmod(kt.back, 0700), 0);
}

/* Another process holds the volume: its key is not changed under it. */
static void rotate_while_mounted(void **state)
{
	struct volume *v, *w;
	struct err_why why;

	(void)state;
	kt_create(SUITE_GCM);
	v = kt_open();
	kt_lock(v);
	w = kt_open();
	assert_refused(volume_rotate(w, kt.f, NULL, &why), ERR_EXISTS, why, "already mounted on /mnt/test");
	volume_close(w);
	v->lock_shared = true;
	assert_refused(volume_rotate(v, kt.f, NULL, &why), ERR_IO, why, "read-only");
	volume_close(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_processes, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(lock_over_fork, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(foreign_text, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(bad_lock_file, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(descriptor_read_again, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(shared_lock, kt_setup, kt_teardown),
		cmocka_unit_test_setup_teardown(rotate_while_mounted, kt_setup, kt_teardown),
	};

	kt.f = test_start();
	return test_end(kt.f, cmocka_run_group_tests(tests, NULL, NULL));
}
