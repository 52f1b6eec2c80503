# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tap that stays is of use to its user only as long as policy allows it."""

import errno
import os

import pytest

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.rules import Policy, Port, Rule
from bpferry_helper.tap.bridge_conf import BridgeConf
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.closing import Closer
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import Holder, OurTap, as_ours, write_alias
from bpferry_helper.tap.netlink import LinkError
from bpferry_helper.tap.tun import make_persistent
from bpferry_wire.messages import Bandwidth, ListReply, ListTaps, OwnTap, Rate
from tests.helper.tap.own_host import CLOSED, PLAIN, Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, Person, ask_once
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
        # The bridge hears of a carrier a moment after the queue was opened.
        carried = [wait_until(lambda: carries(queue, other), 5)]
        sweep_under(helper, later)
        told = own(helper)
        carried.append(carries(queue, other))
        sweep_under(helper, BOTHS)
        carried.append(wait_until(lambda: carries(queue, other), 5))
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
        self.names: dict[int, str] = {}

    def current(self) -> Policy:
        """Return it or raise it."""
        if isinstance(self.answer, PolicyError):
            raise self.answer
        return self.answer

    def name(self, uid: int) -> str:
        """Return the name of Alice, and no other."""
        return self.names.get(uid, "")


class Qemus:
    """An /etc/qemu/bridge.conf."""

    def __init__(self, mistake: PolicyError | None = None) -> None:
        self._conf = BridgeConf("/etc/qemu/bridge.conf", mistake=mistake)

    def current(self) -> BridgeConf:
        """Return it."""
        return self._conf


GROUP = 4_000
NO_RULES = Policy("/policy", frozenset(), frozenset())
ALICES_RULE = Rule(
    f"users.{ALICE.uid}", is_group=False, ids=range(ALICE.uid, ALICE.uid + 1), bridges=("br0",)
)
ALICE_ALLOWED = NO_RULES._replace(rules=(ALICES_RULE,))
GROUPS_RULE = Rule("groups.vm", is_group=True, ids=range(GROUP, GROUP + 1), bridges=("br0",))
MISTAKE = PolicyError("/policy", 1, "is not valid TOML")


def closed_by(
    policy: Policy | PolicyError | Policies,
    holder: Holder,
    *,
    stays: bool = True,
    conf: Qemus | None = None,
    port: Port = PLAIN,
) -> bool:
    """Say whether a tap of *holder* on br0, made with *port*, is down after a sweep."""

    def act(host: Host) -> bool:
        made = host.make(order(stays=stays, port=port)._replace(alias=write_alias(holder)))
        made.fds.close() if stays else None
        policies = policy if isinstance(policy, Policies) else Policies(policy)
        Closer(host.links, policies, conf or Qemus()).sweep(Census(host.links))
        (tap,) = host.links.taps(("bft", "bfp"))
        made.fds.close()
        ours = as_ours(tap)
        return ours is not None and ours.holder.is_closed and not tap.is_up

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


def test_a_tap_that_goes_with_its_vm_is_closed_by_deny_alone() -> None:
    """Which somebody wrote for this very user; the control: that no rule opens the bridge."""
    denied = NO_RULES._replace(rules=(ALICES_RULE._replace(deny=("br*",)),))

    assert [True, False] == [closed_by(each, ALICES, stays=False) for each in (denied, NO_RULES)]


@pytest.mark.parametrize(
    "rule",
    [
        ALICES_RULE._replace(bridges=(), deny=("br0",)),
        ALICES_RULE,
        GROUPS_RULE,
    ],
    ids=["her deny", "her bridges", "a group's bridges"],
)
def test_a_name_that_is_not_known_for_a_moment_closes_nothing(rule: Rule) -> None:
    """The control: with the rule about another bridge it is known that nobody allows the tap."""
    unknown = ("someone", rule._replace(ids=range(0)))
    elsewhere = ("someone", rule._replace(ids=range(0), bridges=("br1",), deny=()))
    policies = [NO_RULES._replace(unknown=(each,)) for each in (unknown, elsewhere)]

    assert [False, True] == [closed_by(policy, ALICES) for policy in policies]


def test_a_rule_for_a_name_counts_for_who_has_it() -> None:
    """It was looked up when she asked. The control is her rule about the bridge."""
    closed = []
    for deny in (("br0",), ()):
        unknown = ("alice", ALICES_RULE._replace(ids=range(0), deny=deny))
        policies = Policies(NO_RULES._replace(unknown=(unknown,)))
        policies.names[ALICE.uid] = "alice"
        closed.append(closed_by(policies, ALICES))

    assert closed == [True, False]


# -- what policy demands of a port by now


@pytest.mark.parametrize(
    "port",
    [
        Port(isolated=True),
        Port(address_lock=True),
        Port(bpdu_guard=True),
        Port(root_block=True),
        Port(multicast_flood=False),
        Port(unicast_flood=False),
    ],
    ids=["isolated", "address-lock", "bpdu-guard", "root-block", "multicast", "unicast"],
)
def test_a_tap_without_what_policy_demands_by_now_is_closed(port: Port) -> None:
    """The control: one that was made with it is not."""
    policy = ALICE_ALLOWED._replace(ports=(port,))

    assert [True, False] == [closed_by(policy, ALICES, port=made) for made in (PLAIN, port)]


def test_a_tap_with_more_than_policy_demands_is_not_closed() -> None:
    """Its port lets through less than it may."""
    assert not closed_by(ALICE_ALLOWED, ALICES, port=CLOSED)


@pytest.mark.parametrize(
    ("vlans", "made_in", "closed"),
    [
        ((), 10, True),
        ((range(20, 31),), 10, True),
        ((range(20, 31),), 0, True),
        ((range(10, 11), range(20, 31)), 10, False),
        ((), 0, False),
    ],
    ids=["no VLAN any more", "others", "one, and it has none", "the same and more", "never any"],
)
def test_a_tap_in_a_vlan_that_policy_no_longer_allows_is_closed(
    vlans: tuple[range, ...],
    made_in: int,
    closed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The last two are the controls."""
    policy = ALICE_ALLOWED._replace(ports=(Port(vlans=vlans),))

    assert closed == closed_by(policy, ALICES._replace(vlan=made_in))


@pytest.mark.parametrize(
    ("inbound", "outbound", "closed"),
    [(0, 1000, True), (2001, 1000, True), (2000, 0, True), (2000, 1000, False), (1, 1, False)],
    ids=["no limit", "a higher one", "one of two", "the same", "lower ones"],
)
def test_a_tap_with_more_bandwidth_than_policy_allows_is_closed(
    inbound: int,
    outbound: int,
    closed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The last two are the controls."""
    port = Port(bandwidth=Bandwidth(Rate(2000), Rate(1000)))
    policy = ALICE_ALLOWED._replace(ports=(port,))

    assert closed == closed_by(policy, ALICES._replace(inbound=inbound, outbound=outbound))


def test_a_lower_number_closes_nothing() -> None:
    """Taps and queues are counted when a tap is made."""
    policy = ALICE_ALLOWED._replace(rules=(ALICES_RULE._replace(queues_per_tap=1, taps=0),))

    assert not closed_by(policy, ALICES)


# -- more groups than an alias has room for

NINE = tuple(range(3_000, 3_009))
IN_NINE = Person(ALICE.uid, ALICE.gid, NINE)
BY_THE_LAST = ONE_SECOND + "".join(
    f"[groups.{gid}]\nbridges = ['{'br0' if gid == NINE[-1] else 'br9'}']\n" for gid in NINE
)


def test_the_group_that_opens_the_bridge_is_kept_whatever_its_number() -> None:
    """Policy names nine of hers. The control: when that rule goes, her tap is closed."""
    with running_tap_helper(BY_THE_LAST) as helper:
        created(helper, tap_on(queues=1), IN_NINE)
        seen = []
        for later in (BY_THE_LAST, BY_THE_LAST.replace("br0", "br8")):
            sweep_under(helper, later)
            seen += [tap.closed for tap in own(helper)]

    assert seen == [False, True]


# -- what goes wrong with one tap


def fail_for_first(links: Links, method: str) -> None:
    """Let *method* of *links* fail as often as it is called for the tap of the first call."""
    works, first = getattr(links, method), []

    def fails(what: int | Link, *more: object) -> object:
        index = what if isinstance(what, int) else what.ifindex
        first.append(index)
        if index == first[0]:
            raise LinkError("cannot do that", errno.EBUSY)
        return works(what, *more)

    setattr(links, method, fails)


def test_a_fault_with_one_tap_keeps_no_other_open() -> None:
    """It is logged, and tried again with the next sweep."""

    def act(host: Host) -> int:
        for _ in range(3):
            host.make(order(stays=True)._replace(alias=write_alias(ALICES))).fds.close()
        closer = Closer(host.links, Policies(NO_RULES), Qemus())
        fail_for_first(host.links, "set_down")
        closer.sweep(Census(host.links))
        return [tap.is_up for tap in host.links.taps(("bfp",))].count(False)

    assert on_own_host(act) == 2


def test_a_fault_with_one_tap_that_was_left_keeps_no_other() -> None:
    """Nor does it keep the helper from starting, which sweeps first."""

    def act(host: Host) -> int:
        for _ in range(3):
            made = host.make(order(queues=1)._replace(alias=write_alias(ALICES)))
            make_persistent(made.fds[0].borrow())
            made.fds.close()
        fail_for_first(host.links, "delete")
        Census(host.links)
        return len(host.links.taps(("bft",)))

    assert on_own_host(act) == 1


def test_a_tap_that_was_set_up_while_it_was_closed_is_set_down_again() -> None:
    """Its last step may come after a sweep that closed it."""
    holder = ALICES._replace(is_closed=True)

    assert closed_by(NO_RULES, holder)


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
            vlan=4094,
            inbound=2**32 - 1,
            outbound=2**32 - 1,
        ),
        ALICES._replace(outbound=1000),
    ],
)
def test_the_alias_is_read_as_it_was_written(holder: Holder) -> None:
    """And it is never longer than the kernel takes."""
    alias = write_alias(holder)
    tap = Link(1, "bfp0123456789ab", "tun", master=2, mtu=1500, address="", alias=alias)

    assert OurTap(tap, holder) == as_ours(tap)
    assert len(alias) < 256
