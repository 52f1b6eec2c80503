# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the C library does with freed memory, each time in a process of its own."""

import os
import subprocess
import sys

import pytest

MMAPPED = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = (ctypes.c_size_t,), (ctypes.c_void_p,)
class Mallinfo(ctypes.Structure):
    _fields_ = [(f, ctypes.c_size_t) for f in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype = Mallinfo
libc.free(libc.malloc(5 << 20))
before = libc.mallinfo2().hblks
libc.malloc(1 << 20)
print(libc.mallinfo2().hblks - before)
"""
"""Prints how many blocks of 1 MB, after one of 5 MB was freed, are given back as soon as freed."""

HEAPS = """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.malloc.argtypes = (ctypes.c_size_t,)
started = threading.Barrier(5)
def work():
    libc.malloc(1000)
    started.wait()
for _ in range(4):
    threading.Thread(target=work).start()
started.wait()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)
libc.fflush.argtypes = (ctypes.c_void_p,)
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(out)
"""
"""Prints one element <heap> for each heap, after four threads have allocated something."""

KEEP_LITTLE = "from bpferry_helper.memory import keep_little; keep_little()\n"


def output(program: str) -> str:
    """Run *program* in a new process and return what it prints."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": paths},
    ).stdout  # fmt: skip


@pytest.mark.parametrize(("setting", "given_back"), [("", 0), (KEEP_LITTLE, 1)])
def test_a_large_block_is_given_back_also_after_a_larger_one(setting: str, given_back: int) -> None:
    """The C library alone would keep it."""
    assert output(setting + MMAPPED) == f"{given_back}\n"


def test_threads_share_one_heap() -> None:
    """With the C library alone, each of four has its own."""
    heaps = [output(setting + HEAPS).count("<heap ") for setting in ("", KEEP_LITTLE)]

    assert heaps[0] > heaps[1] == 1
