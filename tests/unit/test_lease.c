/* SPDX-License-Identifier: Apache-2.0 */
/* lease: what follows from each answer of a key's keeper, with a clock made of numbers. */
#include "tests/unit/testlib.h"

#include "fs/lease.h"

#define S LEASE_SECOND
#define T (1000 * S) /* "now" in most cases */

static struct lease started(unsigned probe, unsigned length)
{
	struct lease l;

	lease_start(&l, probe, length, T);
	return l;
}

static void good(void **state)
{
	struct lease l = started(10, 600);

	(void)state;
	assert_int_equal(lease_end(&l), T + 600 * S);
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 10 * S, T + 11 * S), LEASE_GOOD);
	/* From when the probe began, not from when its answer came. */
	assert_int_equal(lease_end(&l), T + 610 * S);
	/* An older one, told late by somebody else, does not shorten it. */
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 5 * S, T + 12 * S), LEASE_GOOD);
	assert_int_equal(lease_end(&l), T + 610 * S);
}

/* "No" counts when it was said twice; a "yes" between makes it as if nothing had been. */
static void denied(void **state)
{
	struct lease l = started(10, 600);

	(void)state;
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + S, T + S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_OK, T + S, T + S), LEASE_GOOD);
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 2 * S, T + 2 * S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 2 * S, T + 2 * S), LEASE_REVOKED);
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 9 * S, T + 9 * S), LEASE_REVOKED);
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 10 * S, T + 10 * S), LEASE_GOOD);
	/* Silence between two denials is no "yes". */
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 20 * S, T + 20 * S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + 20 * S, T + 20 * S), LEASE_GRACE);
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 22 * S, T + 22 * S), LEASE_REVOKED);
}

static void grace(void **state)
{
	struct lease l = started(10, 60);

	(void)state;
	for (unsigned i = 1; i < 60; i++)
		assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + i * S, T + i * S), LEASE_GRACE);
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + 59 * S, T + 60 * S), LEASE_OVER);
	/* Back again. */
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 90 * S, T + 90 * S), LEASE_GOOD);
	assert_int_equal(lease_end(&l), T + 150 * S);
}

/* A success that is older than the lease by the time it is heard of (a suspend in the middle) proves nothing. */
static void slept(void **state)
{
	struct lease l = started(10, 60);

	(void)state;
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 10 * S, T + 5000 * S), LEASE_OVER);
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 5000 * S, T + 5001 * S), LEASE_GOOD);
	/* Never opened yet: any lease is over. */
	lease_start(&l, 10, 60, 0);
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T, T), LEASE_OVER);
}

/* Without a lease the first failure that is confirmed locks. */
static void strict(void **state)
{
	struct lease l = started(10, 0);

	(void)state;
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + 10 * S, T + 10 * S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + 10 * S, T + 11 * S), LEASE_OVER);
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 20 * S, T + 20 * S), LEASE_GOOD);
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + 30 * S, T + 30 * S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_OK, T + 30 * S, T + 30 * S), LEASE_GOOD);
	assert_int_equal(lease_judge(&l, PROBE_UNAVAILABLE, T + 40 * S, T + 40 * S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 40 * S, T + 40 * S), LEASE_CONFIRM);
	assert_int_equal(lease_judge(&l, PROBE_DENIED, T + 40 * S, T + 40 * S), LEASE_REVOKED);
	/* The gate's own limit leaves room for the next probe, and is no longer than that. */
	l = started(10, 0);
	assert_true(lease_end(&l) >= T + 12 * S);
	assert_true(lease_end(&l) <= T + 90 * S);
}

static void pauses(void **state)
{
	struct lease l = started(10, 600);
	uint64_t least = UINT64_MAX, most = 0, p;

	(void)state;
	for (uint32_t i = 0; i < 5000; i++) {
		p = lease_pause(&l, false, i * 2654435761u);
		least = p < least ? p : least;
		most = p > most ? p : most;
	}
	assert_true(least >= 8 * S && least < 8 * S + S / 10);
	assert_true(most <= 12 * S && most > 12 * S - S / 10);
	/* In trouble 1, 2, 4, 8, and never more than the interval. */
	for (unsigned i = 0; i < 8; i++) {
		static const unsigned want[] = {1, 2, 4, 8, 10, 10, 10, 10};

		(void)lease_judge(&l, PROBE_UNAVAILABLE, T + i, T + i);
		assert_int_equal(lease_pause(&l, false, 200), want[i] * S);
	}
	/* A locked volume is looked after quickly at first, even if the last answer was good. */
	l = started(3600, 86400);
	assert_int_equal(lease_pause(&l, true, 200), S);
	for (unsigned i = 0; i < 100; i++)
		(void)lease_judge(&l, PROBE_DENIED, T, T);
	assert_int_equal(lease_pause(&l, true, 200), 1024 * S);
	l = started(60, 86400);
	for (unsigned i = 0; i < 100; i++)
		lease_stumble(&l);
	assert_int_equal(lease_pause(&l, true, 200), 60 * S);
}

/* An interval that is too long for its lease would make the lease run out between two good probes. */
static void interval_fits(void **state)
{
	struct lease l = started(3600, 600);

	(void)state;
	assert_int_equal(lease_pause(&l, false, 200), 300 * S);
	l = started(10, 1);
	assert_int_equal(lease_pause(&l, false, 200), S / 2);
	/* Also with the longest jitter, and in trouble. */
	assert_true(lease_pause(&l, false, 400) < S);
	(void)lease_judge(&l, PROBE_UNAVAILABLE, T, T);
	assert_true(lease_pause(&l, false, 400) < S);
	l = started(3600, 0);
	assert_int_equal(lease_pause(&l, false, 200), 3600 * S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(denied),
		cmocka_unit_test(grace),
		cmocka_unit_test(slept),
		cmocka_unit_test(strict),
		cmocka_unit_test(pauses),
		cmocka_unit_test(interval_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
