# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a function in a child process, for what cannot be undone in this one."""

import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def fork() -> int:
    """Fork; the child must not touch what threads of the parent may have locked."""
    with warnings.catch_warnings():
        # Python 3.12 warns if any thread is running; our children only make system calls.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(function: Callable[[], T]) -> T:
    """Return what *function* returns in a forked child, or raise what it raised there."""
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(reading)
        _run(function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0 or not raw:
        raise AssertionError(f"the child ended with {os.waitstatus_to_exitcode(status)}")
    # Our own child wrote it.
    worked, result = pickle.loads(raw)  # noqa: S301
    if not worked:
        raise AssertionError(f"in the child: {result}")
    answer: T = result
    return answer


def _run(function: Callable[[], object], writing: int) -> None:
    try:
        result = (True, function())
    except BaseException:  # noqa: BLE001 - all of it goes to the parent
        result = (False, traceback.format_exc())
    try:
        os.write(writing, pickle.dumps(result))
    finally:
        os._exit(0)
