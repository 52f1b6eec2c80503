# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts of other kinds: where all users may use bpf(2), and where programs are not compiled.

Each row of the table is printed as soon as it is known.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.vm.host import IN_THE_HOST, Host
from tests.vm.kind_steps import AFTERWARDS, STEPS, Step
from tests.vm.kinds import HEADINGS, Row, in_columns, look
from tests.vm.user import kvm_works, wait_until

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

FDS: Final = 4
"""Of a set: a program and three maps."""

Seen = list[tuple[Step, Row]]


@pytest.fixture(scope="module")
def seen(host: Host, pytestconfig: pytest.Config) -> Iterator[Seen]:
    """Take the steps, and return what was seen after each."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert wait_until(lambda: kvm_works(host, "alice"))
    taken: Seen = []
    lines = ["", in_columns(HEADINGS)]
    for step in STEPS:
        for command in step.commands:
            host.check("sh", "-c", command)
        taken.append((step, look(host)))
        lines.append(taken[-1][1].text)
        with capture.global_and_fixture_disabled():
            print(*lines, sep="\n", flush=True)  # noqa: T201 - the table is what it is run for
        lines = []
    yield taken
    for command in AFTERWARDS:
        host.check("sh", "-c", command)


def test_host_is_of_the_kind_that_it_should_be(seen: Seen) -> None:
    """As the host itself says, which is the table's first part."""
    assert [step.settings for step, _ in seen] == [row.host[1:4] for _, row in seen]


def test_helper_grants_on_every_kind(seen: Seen) -> None:
    """Whole sets: neither setting stands in its way."""
    assert [FDS] * len(seen) == [row.fds for _, row in seen]


def test_program_steers_as_it_should_on_every_kind(seen: Seen) -> None:
    """What ``doctor --deep`` sees of it: also where no compiler has made it machine code."""
    assert ["ok"] * len(seen) == [row.doctor["proof.vectors"][0] for _, row in seen]


def test_doctor_knows_what_is_wrong_with_the_kernel(seen: Seen) -> None:
    """And finds nothing wrong with what distributions set."""
    assert [step.told for step, _ in seen] == [row.told for _, row in seen]


def test_plan_is_the_same_on_every_kind(seen: Seen) -> None:
    """The kernel steers, and the card has vhost."""
    planned = [(row.card["steering"], row.card["vhost"]) for _, row in seen]

    assert [("ebpf", True)] * len(seen) == planned
