/* SPDX-License-Identifier: Apache-2.0 */
/* The gate: every callback is behind it, who may enter when, whom a lock gives up, and by which errno. */
#include "tests/unit/testlib.h"

#undef COUNT
#include "fs/gate_internal.h"
#include "fs/gate_ops.h"
#include <pthread.h>
#include <time.h>

/* What a callback said: libfuse's own answer is replaced by this one. */
static struct fips *fips;
static int answered;
static struct fsys *mounted;

int __wrap_fuse_reply_err(fuse_req_t req, int err);
void *__wrap_fuse_req_userdata(fuse_req_t req);

int __wrap_fuse_reply_err(fuse_req_t req, int err)
{
	(void)req;
	answered = err;
	return 0;
}

void *__wrap_fuse_req_userdata(fuse_req_t req)
{
	(void)req;
	return mounted;
}

static int setup(void **state)
{
	struct fsys *fs = calloc(1, sizeof(*fs));

	fs->gate = gate_new();
	mounted = fs;
	*state = fs;
	return fs->gate ? 0 : -1;
}

static int teardown(void **state)
{
	struct fsys *fs = *state;

	gate_free(fs);
	free(fs);
	return 0;
}

/* ---- the table ---- */

/* Arguments that crash whoever looks at them. */
#define CALL_FREE(name)
#define CALL_OWN(name)
#define CALL_GATED(name)                                                                                               \
	answered = -1;                                                                                                 \
	call((void (*)(void))fsys_ops.name);                                                                           \
	if (answered != ENOKEY)                                                                                        \
		fail_msg(#name ": %d", answered);                                                                      \
	gated++;
#define CALL(class, name, parameters, arguments) CALL_##class(name)

/* The wrappers hand arguments on without a look; any of the right kind of register will do. */
static void call(void (*function)(void))
{
	union {
		void (*any)(void);
		void (*nine)(fuse_req_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
			uintptr_t);
	} u = {.any = function};

	u.nine(NULL, 0, 0, 0, 0, 0, 0, 0, 0);
}

static void test_refused(void **state)
{
	unsigned gated = 0;

	gate_start_locked(*state, GATE_WAITING);
	GATE_OPS(CALL)
	assert_int_equal(gated, 24);
}

/* Every member of libfuse's table that is set is in our list, and what is gated there is not the bare callback. */
static void test_complete(void **state)
{
	void (*const *all)(void) = (void (*const *)(void)) & fsys_ops;
	unsigned set = 0, listed = 1; /* init */

	(void)state;
#define COUNT_ONE(class, name, parameters, arguments) listed++;
	GATE_OPS(COUNT_ONE)
	for (size_t k = 0; k < sizeof(fsys_ops) / sizeof(*all); k++)
		set += all[k] != NULL;
	assert_int_equal(set, listed);
#define BARE_FREE(name)
#define BARE_OWN(name)				 assert_true(fsys_ops.name != op_##name);
#define BARE_GATED(name)			 assert_true(fsys_ops.name != op_##name);
#define BARE(class, name, parameters, arguments) BARE_##class(name)
	GATE_OPS(BARE)
}

static void test_own(void **state)
{
	struct fuse_file_info fi = {.writepage = 0};
	struct inode i = {.key = {.ino = 4711}};
	uint64_t ino = 0;

	gate_start_locked(*state, GATE_WAITING);
	fsys_ops.getattr(NULL, (fuse_ino_t)(uintptr_t)&i, NULL);
	assert_int_equal(answered, ENOKEY);
	answered = 0;
	fsys_ops.statx(NULL, (fuse_ino_t)(uintptr_t)&i, 0, 0, NULL);
	assert_int_equal(answered, ENOKEY);
	answered = 0;
	fsys_ops.write(NULL, (fuse_ino_t)(uintptr_t)&i, "x", 1, 0, &fi);
	assert_int_equal(answered, ENOKEY);
	assert_int_equal(gate_undrained(*state, &ino, 1), 0);
	/* a page that the kernel writes back too late is remembered */
	fi.writepage = 1;
	fsys_ops.write(NULL, (fuse_ino_t)(uintptr_t)&i, "x", 1, 0, &fi);
	assert_int_equal(answered, ENOKEY);
	assert_int_equal(gate_undrained(*state, &ino, 1), 1);
	assert_int_equal(ino, 4711);
}

/* ---- who may enter ---- */

static void test_states(void **state)
{
	struct fsys *fs = *state;
	enum gate_reason reason;

	assert_int_equal(gate_state(fs, &reason, NULL), GATE_OPEN);
	assert_int_equal(gate_enter(fs), 0);
	gate_leave(fs);
	gate_set_grace(fs, true);
	assert_int_equal(gate_state(fs, NULL, NULL), GATE_GRACE);
	assert_int_equal(gate_enter(fs), 0);
	gate_leave(fs);
	gate_set_grace(fs, false);
	assert_int_equal(gate_state(fs, NULL, NULL), GATE_OPEN);
	gate_start_locked(fs, GATE_WAITING);
	gate_set_grace(fs, true); /* of an open one only */
	assert_int_equal(gate_state(fs, &reason, NULL), GATE_LOCKED);
	assert_int_equal(reason, GATE_WAITING);
	assert_int_equal(gate_enter(fs), ENOKEY);
	assert_false(gate_enter_quietly(fs));
	gate_unlock(fs);
	assert_int_equal(gate_enter(fs), 0);
	gate_leave(fs);
}

static void test_deadline(void **state)
{
	struct fsys *fs = *state;

	gate_set_deadline(fs, gate_clock() + UINT64_C(3600000000000));
	assert_int_equal(gate_enter(fs), 0);
	gate_leave(fs);
	gate_set_deadline(fs, gate_clock());
	assert_int_equal(gate_enter(fs), ENOKEY);
	gate_set_deadline(fs, 1);
	assert_int_equal(gate_enter(fs), ENOKEY);
	/* dirty pages that came before may still be written */
	assert_int_equal(gate_enter_writeback(fs, 1), 0);
	gate_leave_writeback(fs);
	gate_set_deadline(fs, 0);
	assert_int_equal(gate_enter(fs), 0);
	gate_leave(fs);
	/* and a lock is a lock, whatever the lease says */
	gate_set_deadline(fs, gate_clock() + UINT64_C(3600000000000));
	gate_start_locked(fs, GATE_UNAVAILABLE);
	assert_int_equal(gate_enter(fs), ENOKEY);
}

/* ---- locking, with keys ---- */

static struct volkeys *keys(void)
{
	uint8_t id[ID_BYTES] = {1};
	struct secret *key;
	struct volkeys *vk;

	assert_int_equal(secret_new(VOLUME_KEY_BYTES, &key), ERR_OK);
	assert_int_equal(volkeys_new(fips, SUITE_GCM, id, key, NULL, &vk), ERR_OK);
	secret_free(key);
	return vk;
}

static void start(struct fsys *fs)
{
	fs->vk = keys();
	pthread_mutex_init(&fs->table, NULL);
}

static void end(struct fsys *fs)
{
	volkeys_free(fs->vk);
	pthread_mutex_destroy(&fs->table);
}

static void test_lock(void **state)
{
	struct fsys *fs = *state;
	struct gate_report r;
	enum gate_reason reason;
	uint8_t id[ID_BYTES];

	start(fs);
	assert_false(gate_last_report(fs, &r));
	assert_int_equal(volkeys_random_id(fs->vk, id), ERR_OK);
	gate_lock(fs, GATE_REVOKED, &r);
	assert_int_equal(gate_state(fs, &reason, NULL), GATE_LOCKED);
	assert_int_equal(reason, GATE_REVOKED);
	assert_int_equal(volkeys_random_id(fs->vk, id), ERR_KEY_UNAVAILABLE);
	assert_int_equal(gate_enter(fs), EKEYREVOKED);
	assert_int_equal(gate_enter_writeback(fs, 1), EKEYREVOKED);
	assert_true(r.verified);
	assert_string_equal(r.note, "");
	assert_true(r.started <= r.closed && r.closed <= r.drained && r.drained <= r.wiped && r.wiped <= r.purged &&
		    r.purged <= r.done);
	/* again: the reason only */
	gate_lock(fs, GATE_MANUAL, &r);
	assert_int_equal(r.reason, GATE_MANUAL);
	assert_int_equal(gate_enter(fs), ENOKEY);
	assert_true(gate_last_report(fs, &r));
	assert_int_equal(r.refused, 3);
	assert_true(r.first_refused >= r.started);
	end(fs);
}

struct slow {
	struct fsys *fs;
	_Atomic int step;
	bool gets_key, gets_answer;
};

/* A request that hangs over a lock and an unlock. */
static void *hang(void *arg)
{
	struct slow *s = arg;
	const struct timespec ts = {0, 1000000};

	assert_int_equal(gate_enter(s->fs), 0);
	atomic_store(&s->step, 1);
	while (atomic_load(&s->step) != 2)
		nanosleep(&ts, NULL);
	s->gets_key = gate_is_current(s->fs);
	s->gets_answer = gate_reply_begin(s->fs);
	if (s->gets_answer)
		gate_reply_end(s->fs);
	gate_leave(s->fs);
	return NULL;
}

static void test_given_up(void **state)
{
	struct fsys *fs = *state;
	struct slow s = {.fs = fs};
	const struct timespec ts = {0, 1000000};
	struct gate_report r;
	pthread_t t;

	start(fs);
	pthread_create(&t, NULL, hang, &s);
	while (atomic_load(&s.step) != 1)
		nanosleep(&ts, NULL);
	gate_lock(fs, GATE_MANUAL, &r);
	assert_non_null(strstr(r.note, "given up"));
	gate_unlock(fs);
	atomic_store(&s.step, 2);
	pthread_join(t, NULL);
	assert_false(s.gets_key);
	assert_false(s.gets_answer);
	/* the next one is not */
	assert_int_equal(gate_enter(fs), 0);
	assert_true(gate_is_current(fs));
	assert_true(gate_reply_begin(fs));
	gate_reply_end(fs);
	gate_leave(fs);
	end(fs);
}

/* Many who go in and out while it is locked and unlocked: never is one inside of a locked gate. */
struct crowd {
	struct fsys *fs;
	_Atomic bool stop, shut, bad;
	_Atomic unsigned long in;
};

static void *go(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop)) {
		if (gate_enter(c->fs) != 0) {
			sched_yield();
			continue;
		}
		if (atomic_load(&c->shut))
			atomic_store(&c->bad, true);
		atomic_fetch_add(&c->in, 1);
		gate_leave(c->fs);
	}
	return NULL;
}

static void test_crowd(void **state)
{
	struct crowd c = {.fs = *state};
	struct secret *key;
	pthread_t t[8];

	start(c.fs);
	assert_int_equal(secret_new(VOLUME_KEY_BYTES, &key), ERR_OK);
	for (int k = 0; k < 8; k++)
		pthread_create(&t[k], NULL, go, &c);
	for (int k = 0; k < 30; k++) {
		unsigned long before;

		gate_lock(c.fs, GATE_MANUAL, NULL);
		atomic_store(&c.shut, true);
		sched_yield();
		atomic_store(&c.shut, false);
		assert_int_equal(volkeys_load(c.fs->vk, key, NULL), ERR_OK);
		before = atomic_load(&c.in);
		gate_unlock(c.fs);
		while (atomic_load(&c.in) == before)
			sched_yield();
	}
	atomic_store(&c.stop, true);
	for (int k = 0; k < 8; k++)
		pthread_join(t[k], NULL);
	assert_false(atomic_load(&c.bad));
	secret_free(key);
	end(c.fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_complete, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_states, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
