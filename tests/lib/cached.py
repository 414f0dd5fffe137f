#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""cached.py FD...: how many pages of the open files the kernel caches, in all (fincore would have to open them)."""
import ctypes
import mmap
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
CACHESTAT = 451  # on all architectures; Linux 6.5


def cachestat(fd):
    span = (ctypes.c_uint64 * 2)(0, 0)
    out = (ctypes.c_uint64 * 5)()
    if libc.syscall(CACHESTAT, fd, span, out, 0) != 0:
        raise OSError(ctypes.get_errno(), "cachestat")
    return out[0]


def mincore(fd):
    size = os.lseek(fd, 0, os.SEEK_END)
    if size == 0:
        return 0
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    pages = (ctypes.c_ubyte * ((size + 4095) // 4096))()
    if libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(size), pages) != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(p & 1 for p in pages)


total = 0
for number in sys.argv[1:]:
    try:
        total += cachestat(int(number))
    except OSError:
        total += mincore(int(number))
print(total)
