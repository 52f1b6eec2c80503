# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for every test: markers say what it needs, and no test leaves an fd open."""

import gc
import signal
from collections.abc import Iterator

import pytest

from tests import requires
from tests.support.census import fd_targets

pytest_plugins = ["tests.support.emulation"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this host cannot run, by the markers of *item*."""
    if item.get_closest_marker("privileged"):
        requires.root()
    if item.get_closest_marker("kernel"):
        requires.root()
        requires.kernel_with_btf()
    if item.get_closest_marker("qemu"):
        requires.qemu()


@pytest.fixture(autouse=True, scope="session")
def _heed_ctrl_c() -> None:
    """Do so also where a shell started us in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep caches, states and sockets of this run away from those of the user who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            patch.setenv(variable, str(tmp_path_factory.mktemp(variable.lower())))
        yield


@pytest.fixture(autouse=True)
def _no_fd_is_left_open() -> Iterator[None]:
    """Fail a test that leaves an fd of this process open, and show what it points to."""
    before = fd_targets("self")
    yield
    left = fd_targets("self") - before
    if left:
        # An object in a cycle closes its fd only when the collector finds it.
        gc.collect()
        left = fd_targets("self") - before

    assert not left, f"the test left open: {', '.join(sorted(left.elements()))}"
