# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the kernel cannot tell which sets are in use, nobody gets more by closing connections."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bpferry_helper.bpf.ledger import LEDGER_FILE
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Can, CanReply, ErrorReply, Load, Quota, QuotaReply
from tests.support.helper_process import NO_LIMITS, HelperProcess, running_helper
from tests.support.people import ask_once
from tests.support.qemu import rss_object

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

THREE = f"{NO_LIMITS}sets-per-user = 3\n"
COUNTED = f"{THREE}without-census = true\n"


@pytest.fixture
def load() -> Load:
    """Return a request that is granted on other kernels."""
    return Load("rss", hashlib.sha256(rss_object()).digest())


@contextmanager
def helper_without_btf(policy: str) -> Iterator[HelperProcess]:
    """Run a helper on a kernel that seems to have no BTF."""
    with running_helper(policy, start=False) as helper:
        helper.hide("/sys/kernel/btf/vmlinux")
        helper.start()
        yield helper


def codes(helper: HelperProcess, load: Load, keep: OwnedFds, times: int) -> list[Code | None]:
    """Ask *times* as Alice, on a connection each, and keep what came."""
    found = []
    for _ in range(times):
        answered = ask_once(helper.path, load)
        for fd in answered.fds.take():
            keep.add(fd)
        reply = answered.reply
        found.append(reply.code if isinstance(reply, ErrorReply) else None)
    return found


def counted(helper: HelperProcess) -> tuple[int, str]:
    """Return how many sets Alice holds, and who counted them."""
    reply = ask_once(helper.path, Quota()).reply
    assert isinstance(reply, QuotaReply)
    return reply.held, reply.counted_by


def test_without_btf_nothing_is_granted_and_the_reason_is_said_once(load: Load) -> None:
    """To the user, whose "can" says it too; and to the administrator in the journal."""
    with helper_without_btf(THREE) as helper:
        replies = [ask_once(helper.path, request).reply for request in (load, load, Can(load))]
        said = helper.log().count("without-census = true")

    refused, _, can = replies
    assert isinstance(refused, ErrorReply)
    assert isinstance(can, CanReply)
    assert (Code.REFUSED, False, 1) == (refused.code, can.allowed, said)
    assert "without-census = true" in refused.hint
    assert "has no BTF" in can.because


def test_without_census_three_is_three_whatever_is_closed(load: Load) -> None:
    """Each connection ends at once, and the helper is started again: the sets still count."""
    with helper_without_btf(COUNTED) as helper, OwnedFds() as keep:
        found = codes(helper, load, keep, 4)
        helper.restart()
        found += codes(helper, load, keep, 1)
        count = counted(helper)

    assert [None] * 3 + [Code.QUOTA] * 2 == found
    assert (3, "grants") == count


def test_without_census_sets_that_are_gone_count_too(load: Load) -> None:
    """Nobody can tell that they are; only a new start of the host forgets them."""
    with helper_without_btf(COUNTED) as helper:
        with OwnedFds() as keep:
            codes(helper, load, keep, 3)
        with OwnedFds() as keep:
            found = codes(helper, load, keep, 1)

    assert [Code.QUOTA] == found


def test_a_helper_that_forgets_would_grant_more(load: Load) -> None:
    """The control: with the count gone, one user holds six of three sets."""
    with helper_without_btf(COUNTED) as helper, OwnedFds() as keep:
        codes(helper, load, keep, 3)
        helper.kill()
        (helper.state / LEDGER_FILE).unlink()
        helper.start()
        found = codes(helper, load, keep, 3)

    assert [None] * 3 == found
