# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real tap helper with one bridge, and that it is as well afterwards as before."""

from collections.abc import Iterator

import pytest

from tests import requires
from tests.support.census import fd_targets, wait_until
from tests.support.tap_process import TapProcess, running_tap_helper


@pytest.fixture(scope="module")
def tap_helper() -> Iterator[TapProcess]:
    """Yield a real tap helper that the tests of one file share, with the bridge br0."""
    requires.root()
    with running_tap_helper() as helper:
        yield helper


@pytest.fixture
def nothing_left(tap_helper: TapProcess) -> Iterator[None]:
    """Fail a test after which a tap is there, or the helper does not serve or holds more fds."""
    before = set(fd_targets(tap_helper.pid))
    yield
    check_nothing_left(tap_helper)
    # It closes the connection of the last question a moment after whoever asked has left.
    wait_until(lambda: not _opened_since(tap_helper, before))

    assert set() == _opened_since(tap_helper, before)


def _opened_since(helper: TapProcess, before: set[str]) -> set[str]:
    """Return what the helper has open and had not, but for its spares."""
    return set(fd_targets(helper.pid)) - before - {"/dev/net/tun"}


def check_nothing_left(helper: TapProcess) -> None:
    """Fail unless *helper* serves, and there is no tap but its spares."""
    helper.wait_for_quiet()
    helper.check_serves()
    wait_until(lambda: not helper.granted_taps())

    assert helper.granted_taps() == []
