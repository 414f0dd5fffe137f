#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TIMEOUT: 90
#
# A lease does not outlive a sleep, and clocks that are set don't matter. The clock is a library's: CLOCK_BOOTTIME goes
# ahead of CLOCK_MONOTONIC as in a suspend, by what a file says.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/vault.sh"
. "$(dirname "$0")/../lib/revoke.sh"

need_root
"${CC:-cc}" -shared -fPIC -O1 -o "$T/clock.so" -x c - <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
static long ahead(const char *name)
{
	char text[32] = "";
	const char *path = getenv(name);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *out)
{
	if (syscall(SYS_clock_gettime, id, out) != 0)
		return -1;
	if (id == CLOCK_BOOTTIME || id == CLOCK_REALTIME)
		out->tv_sec += ahead(id == CLOCK_BOOTTIME ? "CLOCK_SLEPT" : "CLOCK_SET");
	return 0;
}
/* Those for a moment are of CLOCK_BOOTTIME. */
int timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *old)
{
	struct itimerspec w = *when;

	if (w.it_value.tv_sec && w.it_value.tv_sec != INT32_MAX) {
		w.it_value.tv_sec -= ahead("CLOCK_SLEPT");
		if (w.it_value.tv_sec <= 0)
			w.it_value.tv_sec = 1;
	}
	return (int)syscall(SYS_timerfd_settime, fd, flags, &w, old);
}
C
emu_start
vol_init
cmk_set "$VOL" 600
echo 0 >"$T/slept"
echo 0 >"$T/set"
expect 0 env LD_PRELOAD="$T/clock.so" CLOCK_SLEPT="$T/slept" CLOCK_SET="$T/set" "$BCFS" mount "$VOL" "$MNT"
on_exit "umount -l '$MNT' 2>/dev/null"
echo "$MARK" >"$MNT/file"
exec 9<"$MNT/file"

# The vault can't be reached, and the clock is set to and fro: nothing happens.
emu port close vault >/dev/null
until_true 60 gate_is GRACE none || fail "no grace: $(show_gate)"
for years in 10 -10; do
	echo $((years * 31536000)) >"$T/set"
	last_seconds 2 gate_is GRACE none || fail "a clock that was set ends the lease: $(show_gate)"
	[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
done
echo 0 >"$T/set"

# A short sleep is within the lease, a long one is not: the very next request is refused.
echo 100 >"$T/slept"
[ "$(cat "$MNT/file")" = "$MARK" ] || fail "the file is not what it was"
echo 1000 >"$T/slept"
refused "$NO" touch "$MNT/new"
locks_with unavailable "$NO"
emu port open vault >/dev/null
heals

# The vault answers: after a long sleep it is open as soon as it was asked again.
echo 9000 >"$T/slept"
refused "$NO" touch "$MNT/new"
until_true 60 touch "$MNT/new" || fail "it does not open again: $(show_gate)"
heals
exec 9<&-
expect 0 "$BCFS" umount "$MNT"
