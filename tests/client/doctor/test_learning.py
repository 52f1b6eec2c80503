# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of how many addresses a bridge learns, by real helpers."""

from pathlib import Path

import pytest

from bpferry.machine.doctor.finding import Finding
from bpferry.machine.doctor.helpers import check_tap_helper
from bpferry.machine.doctor.learning import NO_CARD, check_learning
from bpferry.machine.host_files import HOST
from bpferry.network.tap_helper import TapHelper
from bpferry_wire.messages import Can, CanReply
from tests.client import fake_helper as fake
from tests.client.doctor.support import named
from tests.support.people import ALICE, acting_as, ask_once
from tests.support.tap_process import TapProcess, granted, running_tap_helper, tap_on

LOCK = "address-lock = true"
ADDRESSES = 'addresses = ["52:54:00:12:34:56"]'
LIMIT = "sudo ip link set br0 type bridge fdb_max_learned 4096"


def policy(*lines: str) -> str:
    """Return one under which Alice may have taps on br0, whose table has *lines*."""
    of_bridge = "".join(f"{line}\n" for line in lines)
    return f"[users.{ALICE.uid}]\nbridges = ['br0']\n[bridges.br0]\n{of_bridge}"


def said_to_alice(helper: TapProcess, limit: int | None) -> Finding:
    """Return what Alice is told of br0, of which the kernel says *limit*."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BPFERRY_TAP_SOCKET", str(helper.path))
        with acting_as(ALICE):
            found = list(check_tap_helper(HOST, ["br0"], find_limit=lambda _: limit))
    return named(found, "bridges.learning")


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.parametrize(
    ("lines", "limit", "state", "word", "command"),
    [
        ([LOCK], 0, "ok", "the policy has address-lock", ""),
        ([LOCK, ADDRESSES], None, "ok", "the policy has address-lock", ""),
        ([], 4096, "ok", "at most 4,096 addresses", ""),
        ([], 0, "warning", "any number of addresses", LIMIT),
        ([ADDRESSES], 0, "warning", "any number of addresses", LIMIT),
        ([], None, "warning", "is not known: kernels before Linux 6.7", ""),
    ],
)
def test_a_bridge_that_vms_could_fill_is_a_warning(
    lines: list[str], limit: int | None, state: str, word: str, command: str
) -> None:
    """Unless the policy ties each port to its card, or the bridge has a limit."""
    with running_tap_helper(policy(*lines)) as helper:
        found = said_to_alice(helper, limit)

    assert (state, command) == (found.state, found.command)
    assert word in found.message
    assert ('address-lock = true\' below [bridges."br0"]' in found.fix) is (state == "warning")


@pytest.mark.privileged
@pytest.mark.kernel
def test_a_tap_for_the_address_that_is_asked_about_hides_nothing() -> None:
    """Without address-lock a member may claim it; then the answer is another no."""
    with running_tap_helper(policy()) as helper:
        _, fds = granted(helper, tap_on(mac=NO_CARD))
        with fds:
            answer = ask_once(helper.path, Can(tap_on(mac=NO_CARD))).reply
            found = said_to_alice(helper, 0)

    assert isinstance(answer, CanReply)
    assert not answer.allowed
    assert found.state == "warning"


def test_a_helper_that_dies_over_the_question_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for a no."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tmp_path / "sock"))
    with fake.helper(tmp_path / "sock", fake.hangs_up), TapHelper() as helper:
        found = check_learning(helper, "br0", lambda _: 4096)

    assert found.state == "warning"
    assert "whether the policy has address-lock for the bridge 'br0' is not known" in found.message
    assert "hung up" in found.message
