# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tap that stays is of use to its user only as long as policy allows it."""

import os

import pytest

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.rules import Policy, Rule
from bpferry_helper.tap.bridge_conf import BridgeConf
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.closing import Closer
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.marks import Holder, OurTap, as_ours, write_alias
from bpferry_wire.messages import ListReply, ListTaps, OwnTap
from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, ask_once
from tests.support.tap_process import (
    TapProcess,
    created,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import FLAGS, frame, frames_in, open_queue

pytestmark = pytest.mark.privileged

ONE_SECOND = "[service]\nidle-exit-seconds = 1\n"
BOBS = f'[users.{BOB.uid}]\nbridges = ["*"]\n{ONE_SECOND}'
BOTHS = f'[users.{ALICE.uid}]\nbridges = ["*"]\n{BOBS}'
DENIED = BOTHS.replace(f"[users.{ALICE.uid}]\n", f'[users.{ALICE.uid}]\ndeny = ["br0"]\n')


def own(helper: TapProcess) -> list[OwnTap]:
    """Return what Alice is told of her taps."""
    reply = ask_once(helper.path, ListTaps()).reply
    assert isinstance(reply, ListReply), reply
    return list(reply.taps)


def sweep_under(helper: TapProcess, policy: str) -> None:
    """Let the helper sweep when *policy* is in force, as it does when it ends."""
    helper.write_policy(policy)
    helper.wait_for_exit()
    helper.start()


def carries(queue: int, other: int) -> bool:
    """Say whether a frame that is written to *queue* comes out of *other*."""
    list(frames_in(other))
    try:
        os.write(queue, frame("52:54:00:00:00:01"))
    except OSError:
        return False
    return wait_until(lambda: any(got[12:14] == b"\x88\xb5" for got in frames_in(other)), 0.5)


@pytest.mark.parametrize("later", [BOBS, DENIED], ids=["no longer allowed", "denied"])
def test_a_tap_that_policy_no_longer_allows_carries_nothing(later: str) -> None:
    """Also for who has it open; its user is told; and it is opened again with the policy."""
    with running_tap_helper(BOTHS) as helper:
        name = created(helper, tap_on(queues=1))
        _, others = granted(helper, tap_on(queues=1), BOB)
        queue = helper.inside_network(lambda: open_queue(name, FLAGS))
        other = others[0].borrow()
        carried = [carries(queue, other)]
        sweep_under(helper, later)
        told = own(helper)
        carried.append(carries(queue, other))
        sweep_under(helper, BOTHS)
        carried.append(carries(queue, other))
        told += own(helper)
        os.close(queue)
        others.close()

    # The first is the control: as long as nobody looks again, the tap works.
    assert [True, False, True] == carried
    assert [
        OwnTap(name, "br0", 1, 1, stays=True, closed=closed) for closed in (True, False)
    ] == told


# -- what is judged, and by what


class Policies:
    """A policy, or a mistake."""

    def __init__(self, answer: Policy | PolicyError) -> None:
        self.answer = answer

    def current(self) -> Policy:
        """Return it or raise it."""
        if isinstance(self.answer, PolicyError):
            raise self.answer
        return self.answer


class Qemus:
    """An /etc/qemu/bridge.conf."""

    def __init__(self, mistake: PolicyError | None = None) -> None:
        self._conf = BridgeConf("/etc/qemu/bridge.conf", mistake=mistake)

    def current(self) -> BridgeConf:
        """Return it."""
        return self._conf


GROUP = 4_000
NO_RULES = Policy("/policy", frozenset(), frozenset())
GROUPS_RULE = Rule("groups.vm", is_group=True, id=GROUP, bridges=("br0",))
MISTAKE = PolicyError("/policy", 1, "is not valid TOML")


def closed_by(
    policy: Policy | PolicyError, holder: Holder, *, stays: bool = True, conf: Qemus | None = None
) -> bool:
    """Say whether a tap of *holder* on br0 is down after a sweep."""

    def act(host: Host) -> bool:
        made = host.make(order(stays=stays)._replace(alias=write_alias(holder)))
        made.fds.close() if stays else None
        Closer(host.links, Policies(policy), conf or Qemus()).sweep(Census(host.links))
        (tap,) = host.links.taps(("bft", "bfp"))
        made.fds.close()
        ours = as_ours(tap)
        return ours is not None and ours.holder.is_closed

    return on_own_host(act)


ALICES = Holder(ALICE.uid, 1, 1, queues=2)


@pytest.mark.parametrize(
    ("policy", "holder", "closed"),
    [
        (NO_RULES, ALICES, True),
        (NO_RULES, ALICES._replace(queues=0), False),
        (NO_RULES._replace(rules=(GROUPS_RULE,)), ALICES, True),
        (NO_RULES._replace(rules=(GROUPS_RULE,)), ALICES._replace(groups=(GROUP,)), False),
        (MISTAKE, ALICES, False),
    ],
    ids=["no rule", "of an earlier helper", "another group", "its group", "a mistake"],
)
def test_a_tap_is_judged_by_its_user_and_the_groups_it_was_made_for(
    policy: Policy | PolicyError,
    holder: Holder,
    closed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """As the alias has them: nobody is looked up."""
    assert closed == closed_by(policy, holder)


def test_a_tap_that_goes_with_its_vm_is_not_closed() -> None:
    """A grant cannot be taken back; see docs/security.md."""
    assert not closed_by(NO_RULES, ALICES, stays=False)


def test_a_mistake_in_qemu_s_file_closes_nothing() -> None:
    """As one in the policy."""
    policy = NO_RULES._replace(bridge_conf=True)

    assert not closed_by(policy, ALICES, conf=Qemus(MISTAKE))


@pytest.mark.parametrize(
    "holder",
    [
        ALICES,
        ALICES._replace(mac="52:54:00:01:02:03", groups=(1, 2), is_closed=True),
        ALICES._replace(is_closed=True),
        Holder(
            *(2**32 - 1, 2**22, 2**40, "52:54:00:01:02:03"),
            queues=256,
            groups=(2**32 - 1,) * 8,
            is_closed=True,
        ),
    ],
)
def test_the_alias_is_read_as_it_was_written(holder: Holder) -> None:
    """And it is never longer than the kernel takes."""
    alias = write_alias(holder)
    tap = Link(1, "bfp0123456789ab", "tun", master=2, mtu=1500, address="", alias=alias)

    assert OurTap(tap, holder) == as_ours(tap)
    assert len(alias) < 256
