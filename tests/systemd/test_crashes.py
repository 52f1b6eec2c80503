# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed helpers under a systemd that is PID 1, killed over and over.

Both at once: after a crash, each is started again a second later, and that is most of the time.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd import test_booted as bpf_tests
from tests.systemd import test_booted_tap as tap_tests
from tests.systemd.container import Container
from tests.systemd.helper_unit import POLICY, HelperUnit

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

MORE: Final = 3
"""How many crashes more than starts that a unit may have one after the other (StartLimitBurst=)."""


class Both(NamedTuple):
    """The two helpers of a system."""

    bpf: HelperUnit
    tap: HelperUnit


@pytest.fixture
def both(installed_system: Container) -> Iterator[Both]:
    """Return helpers that do not run yet, and a policy that names alice; no tap may be left."""
    both = Both(HelperUnit(installed_system, "bpf"), HelperUnit(installed_system, "tap"))
    for unit in both:
        unit.reset()
    installed_system.write(POLICY, tap_tests.ALICES)
    yield both
    for unit in both:
        unit.reset()
    tap_tests.wait_for_no_taps(installed_system)


def served(both: Both) -> tuple[int, int]:
    """Return how many fds alice gets of a set, and of queues."""
    queues = tap_tests.ask(both.tap.system, "tap", "br0", "4")["queues_of"]
    fds = bpf_tests.ask(both.bpf.system, "load")["fds"]
    assert isinstance(fds, int)
    return fds, len(queues)


def test_client_after_each_crash_is_served(both: Both) -> None:
    """However often the helpers are killed, the next clients get four fds, and the queues."""
    limits = {unit.cut_start_limit() for unit in both}
    assert (4, 4) == served(both)
    for _ in range(max(limit.burst for limit in limits) + MORE):
        for unit in both:
            unit.kill()
        assert (4, 4) == served(both)

    states = [unit.system.show(unit.socket, "ActiveState") for unit in both]
    assert ["active", "active"] == states
