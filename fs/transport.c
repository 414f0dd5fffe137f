/* SPDX-License-Identifier: Apache-2.0 */
/* transport - see transport.h.  The linker's --wrap options for it are in the Makefile. */
#include "fs/transport.h"

#include "crypto/secret.h"
#include "fs/fsys.h"
#include "fs/gate_internal.h"
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

#define WAKE	    SIGUSR2
#define STEP_NS	    500000L
#define STACK_BYTES (192u << 10) /* more than any request needs */
#define ENTRIES_MAX 64u
#define ALL_XMM                                                                                                        \
	"memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",    \
		"xmm12", "xmm13", "xmm14", "xmm15"

/* FUSE over io_uring, as in <linux/fuse.h> of 6.14: header of the request or answer, arguments, and this. */
#define RING_HEADER_BYTES 128u
struct ring_in_out {
	uint64_t flags, commit_id;
	uint32_t payload_size, padding;
	uint64_t reserved;
};

struct ring_entry { /* known from its first request on */
	fuse_req_t req;
	struct fuse_out_header *out; /* was the header of the request */
	struct ring_in_out *in_out;
	char *payload;
	size_t payload_size;
	uint32_t opcode;
	unsigned epoch, wiped;
	bool pending; /* answered, not handed over yet */
};

struct thread {
	struct thread *prev, *next; /* threads.list */
	pthread_t id;
	_Atomic bool waiting;	/* in a call that waits for requests */
	_Atomic unsigned wiped; /* the last round that it has done */
	/* io_uring */
	_Atomic uint64_t begun, flushed; /* batches of requests */
	_Atomic bool submitting;	 /* hanging in no request */
	_Atomic bool spoilt;		 /* requests not looked at yet may have been wiped */
	uint64_t target;		 /* of who locks */
	bool in_batch;
	unsigned n_entries;
	struct ring_entry entry[ENTRIES_MAX];
};

static struct {
	pthread_mutex_t lock;
	struct thread *list; /* under lock */
	_Atomic unsigned round, epoch;
	_Atomic int code;
	_Atomic bool shut;
} threads = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t at_end;
static _Thread_local struct thread *self;

static void woken(int sig)
{
	(void)sig; /* the call that waited comes back */
}

static void forget_thread(void *arg)
{
	struct thread *t = arg;

	pthread_mutex_lock(&threads.lock);
	DL_DELETE(threads.list, t);
	pthread_mutex_unlock(&threads.lock);
	free(t);
}

static void start(void)
{
	struct sigaction sa = {.sa_handler = woken};

	sigemptyset(&sa.sa_mask);
	sigaction(WAKE, &sa, NULL);
	pthread_key_create(&at_end, forget_thread);
}

/* NULL: without memory it goes unnoticed, and a lock will say that it could not be verified. */
static struct thread *me(void)
{
	if (self)
		return self;
	pthread_once(&once, start);
	self = calloc(1, sizeof(*self));
	if (!self)
		return NULL;
	self->id = pthread_self();
	atomic_init(&self->wiped, atomic_load(&threads.round));
	pthread_mutex_lock(&threads.lock);
	DL_APPEND(threads.list, self);
	pthread_mutex_unlock(&threads.lock);
	pthread_setspecific(at_end, self);
	return self;
}

/* Ciphers leave plaintext and powers of their GHASH key in vector registers, and a signal puts these on the stack. */
static void registers_clear(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile(".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
				 "vpxorq %%zmm\\n, %%zmm\\n, %%zmm\\n\n\t"
				 ".endr" ::
					 : "memory");
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroall" ::: ALL_XMM);
	else
		__asm__ volatile(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
				 "pxor %%xmm\\n, %%xmm\\n\n\t"
				 ".endr" ::
					 : ALL_XMM);
#elif defined(__aarch64__)
	/* the lower halves of 8 to 15 belong to the caller */
	__asm__ volatile(".irp n, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
			 "movi v\\n\\().2d, #0\n\t"
			 ".endr\n\t"
			 ".irp n, 8,9,10,11,12,13,14,15\n\t"
			 "mov v\\n\\().d[1], xzr\n\t"
			 ".endr" ::
				 : "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19",
			 "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

static __attribute__((noinline)) void below_scrub(void)
{
	uint8_t below[STACK_BYTES];

	secret_wipe(below, sizeof(below));
}

/* In this order: a signal that comes later finds nothing to put below what is wiped. */
void stack_scrub(void)
{
	registers_clear();
	below_scrub();
}

/* ---- /dev/fuse ---- */

struct fuse_chan;
int __real_fuse_session_receive_buf_internal(struct fuse_session *se, struct fuse_buf *buf, struct fuse_chan *ch)
	__attribute__((weak));
int __wrap_fuse_session_receive_buf_internal(struct fuse_session *se, struct fuse_buf *buf, struct fuse_chan *ch);

int __wrap_fuse_session_receive_buf_internal(struct fuse_session *se, struct fuse_buf *buf, struct fuse_chan *ch)
{
	struct thread *t = me();
	unsigned round;
	int rc;

	if (t) {
		atomic_store(&t->waiting, true);
		round = atomic_load(&threads.round);
		if (buf->mem && round != atomic_load(&t->wiped))
			secret_wipe(buf->mem, buf->mem_size);
		else if (buf->mem && atomic_load(&threads.shut) && buf->size <= buf->mem_size)
			secret_wipe(buf->mem, buf->size);
		if (round != atomic_load(&t->wiped)) {
			stack_scrub();
			atomic_store(&t->wiped, round);
		}
	}
	rc = __real_fuse_session_receive_buf_internal(se, buf, ch);
	if (t)
		atomic_store(&t->waiting, false);
	return rc;
}

/* ---- io_uring ---- */

struct io_uring;
void __real_fuse_session_process_uring_cqe(struct fuse_session *se, fuse_req_t req, struct fuse_in_header *in,
	void *arguments, void *payload, size_t len) __attribute__((weak));
void __wrap_fuse_session_process_uring_cqe(
	struct fuse_session *se, fuse_req_t req, struct fuse_in_header *in, void *arguments, void *payload, size_t len);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned n) __attribute__((weak));
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n);

static struct ring_entry *entry_of(
	struct thread *t, fuse_req_t req, struct fuse_in_header *in, char *arguments, char *payload)
{
	struct ring_entry *e;
	char *p;

	for (unsigned k = 0; k < t->n_entries; k++) {
		if (t->entry[k].req == req)
			return &t->entry[k];
	}
	if (t->n_entries == ENTRIES_MAX)
		return NULL;
	e = &t->entry[t->n_entries++];
	e->req = req;
	e->out = (struct fuse_out_header *)(void *)in;
	e->in_out = (struct ring_in_out *)(void *)(arguments + RING_HEADER_BYTES);
	e->payload = payload;
	if (fuse_req_get_payload(req, &p, &e->payload_size, NULL) != 0)
		e->payload_size = 0;
	return e;
}

void __wrap_fuse_session_process_uring_cqe(
	struct fuse_session *se, fuse_req_t req, struct fuse_in_header *in, void *arguments, void *payload, size_t len)
{
	struct thread *t = me();
	struct ring_entry *e = t ? entry_of(t, req, in, arguments, payload) : NULL;

	if (t && !t->in_batch) {
		t->in_batch = true;
		atomic_fetch_add(&t->begun, 1); /* before the gate is looked at */
	}
	if (e) {
		e->opcode = in->opcode;
		e->epoch = atomic_load(&threads.epoch);
	}
	__real_fuse_session_process_uring_cqe(se, req, in, arguments, payload, len);
	if (!e)
		return;
	e->pending = true;
	/* the kernel has not got it back yet, and an errno has no content */
	if (atomic_load(&threads.shut) && e->out->error != 0)
		secret_wipe(e->payload, e->payload_size);
}

static bool has_content(uint32_t opcode)
{
	return opcode == FUSE_READ || opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS || opcode == FUSE_READLINK ||
	       opcode == FUSE_GETXATTR || opcode == FUSE_LISTXATTR;
}

/* Answers that were given up while this thread hung in another request of the same batch. */
static void take_back(struct thread *t)
{
	unsigned epoch = atomic_load(&threads.epoch);

	for (unsigned k = 0; k < t->n_entries; k++) {
		struct ring_entry *e = &t->entry[k];

		if (e->pending && e->epoch != epoch && e->out->error == 0 && has_content(e->opcode)) {
			e->out->error = -atomic_load(&threads.code);
			e->out->len = 0;
			e->in_out->payload_size = 0;
		}
	}
}

/*
 * The kernel puts requests into entries only while this thread is in the kernel, so none comes in the middle of a wipe
 * unless this thread is interrupted then.  What has come by the end of it may have lost its content; it is refused
 * without being looked at, since the gate is not opened before it has been through (transport_open).
 */
static void ring_wipe(struct thread *t, unsigned round)
{
	bool all = true;

	atomic_store(&t->spoilt, true);
	if (!atomic_load(&threads.shut)) {
		atomic_store(&t->spoilt, false);
		return;
	}
	for (unsigned k = 0; k < t->n_entries; k++) {
		struct ring_entry *e = &t->entry[k];

		if (e->wiped == round)
			continue;
		if (e->pending && e->out->error == 0) {
			all = false; /* an answer on its way; next time */
			continue;
		}
		secret_wipe(e->payload, e->payload_size);
		e->wiped = round;
	}
	stack_scrub();
	if (all)
		atomic_store(&t->wiped, round);
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
	struct thread *t = self; /* NULL: another ring than libfuse's, or no request so far */
	unsigned round;
	int rc;

	if (!t)
		return __real_io_uring_submit_and_wait(ring, n);
	atomic_store(&t->submitting, true);
	/* what had come by the end of the last wipe has been served since */
	atomic_store(&t->spoilt, false);
	if (t->in_batch)
		take_back(t);
	round = atomic_load(&threads.round);
	if (round != atomic_load(&t->wiped))
		ring_wipe(t, round);
	atomic_store(&t->waiting, true);
	rc = __real_io_uring_submit_and_wait(ring, n);
	atomic_store(&t->waiting, false);
	for (unsigned k = 0; t->in_batch && k < t->n_entries; k++)
		t->entry[k].pending = false;
	t->in_batch = false;
	atomic_store(&t->flushed, atomic_load(&t->begun));
	atomic_store(&t->submitting, false);
	return rc;
}

/* ---- who locks ---- */

static bool is_flushed(const struct thread *t)
{
	return atomic_load(&t->flushed) >= t->target;
}

static bool is_not_submitting(const struct thread *t)
{
	return !atomic_load(&t->submitting) || is_flushed(t);
}

static bool is_wiped(const struct thread *t)
{
	return atomic_load(&t->wiped) == atomic_load(&threads.round);
}

static bool is_sound(const struct thread *t)
{
	return !atomic_load(&t->spoilt);
}

/* Wakes those that wait for requests, until it is true of every thread. */
static bool wait_all(bool (*is)(const struct thread *t), uint64_t until)
{
	const struct timespec step = {0, STEP_NS};

	for (;;) {
		struct thread *t = NULL;
		bool all = true;

		pthread_mutex_lock(&threads.lock);
		DL_FOREACH(threads.list, t)
		{
			if (is(t))
				continue;
			all = false;
			if (atomic_load(&t->waiting))
				pthread_kill(t->id, WAKE);
		}
		pthread_mutex_unlock(&threads.lock);
		if (all)
			return true;
		if (gate_clock() >= until)
			return false;
		nanosleep(&step, NULL);
	}
}

bool transport_flush(uint64_t until)
{
	struct thread *t = NULL;

	pthread_mutex_lock(&threads.lock);
	DL_FOREACH(threads.list, t)
	t->target = atomic_load(&t->begun);
	pthread_mutex_unlock(&threads.lock);
	return wait_all(is_flushed, until);
}

void transport_give_up(int code)
{
	atomic_store(&threads.code, code);
	atomic_fetch_add(&threads.epoch, 1);
	/* those on their way into the kernel may have looked before; the others will look */
	wait_all(is_not_submitting, UINT64_MAX);
}

bool transport_wipe(uint64_t until)
{
	atomic_store(&threads.shut, true);
	atomic_fetch_add(&threads.round, 1);
	return wait_all(is_wiped, until);
}

void transport_open(void)
{
	atomic_store(&threads.shut, false);
	wait_all(is_sound, UINT64_MAX);
}
