# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads that write into an eventfd late, as they may on a busy machine."""

import os
import time

import pytest


def late_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Delay each write into an eventfd, and only note its number; return the list of those."""
    written: list[int] = []

    def write_late(fd: int, _value: int) -> None:
        time.sleep(0.1)
        written.append(fd)

    monkeypatch.setattr(os, "eventfd_write", write_late)
    return written
