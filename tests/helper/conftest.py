# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders that root alone can write, QEMU's object, and a real helper."""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import requires
from tests.support.census import Held, fd_targets, wait_until
from tests.support.helper_process import HelperProcess, left_alive, running_helper
from tests.support.qemu import rss_object


@pytest.fixture
def roots_folder() -> Iterator[Path]:
    """Yield a folder that root alone can write, and all above it too; /tmp is not."""
    requires.root()
    folder = Path(tempfile.mkdtemp(prefix="bpferry-test-", dir="/run"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def rss() -> bytes:
    """Return the object that the installed QEMU hands out over QMP."""
    return rss_object()


@pytest.fixture
def rss_digest(rss: bytes) -> bytes:
    """Return its SHA-256."""
    return hashlib.sha256(rss).digest()


@pytest.fixture(scope="module")
def helper() -> Iterator[HelperProcess]:
    """Yield a real helper that the tests of one file share."""
    requires.root()
    with running_helper() as helper:
        yield helper


@pytest.fixture
def unharmed(helper: HelperProcess) -> Iterator[None]:
    """Fail a test after which the helper does not serve, or holds anything that it did not."""
    before = (helper.settle(), helper.held())
    yield
    check_unharmed(helper, *before)


def check_unharmed(helper: HelperProcess, fds: Counter[str], held: frozenset[Held]) -> None:
    """Fail unless *helper* serves, holds *fds* and *held*, and all it granted is gone."""
    helper.wait_for_quiet()
    helper.check_serves()
    wait_until(lambda: fd_targets(helper.pid) == fds)

    assert fds == fd_targets(helper.pid)
    assert held == helper.held()
    assert set() == left_alive(helper.granted())
