# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the client's tests. Each test has to leave the child processes that it found."""

import os
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import support


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    """Fail a test that leaves a child process behind."""
    before = support.children()

    yield

    assert support.children() - before == set()


@pytest.fixture
def record() -> support.Record:
    """Return a reporter that keeps everything."""
    return support.Record()


@pytest.fixture
def namespace() -> Iterator[str]:
    """Make a network namespace, and remove it with what is in it."""
    name = f"bpferry-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def open_device() -> Iterator[str]:
    """Make a tun device that all users may open, as it is on a usual host."""
    path = Path(f"/dev/bpferry-test-{uuid.uuid4().hex[:8]}")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(10, 200))
    try:
        path.chmod(0o666)
        yield str(path)
    finally:
        path.unlink()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe: the end to read, the end to write. A test may close either."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue
