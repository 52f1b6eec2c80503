# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ladder: which rung a card gets, with or without vhost, and what is said about it."""

from typing import Any

import msgspec
import pytest

from bpferry.domain.model.cards import Card
from bpferry.domain.names import Named
from bpferry.errors import BpferryError, HelperError, NoHelper, Refused, Unsupported
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import CardPlan, Granted, HostFacts, Rung, plan_card
from bpferry.steering.rungs import Wish, wish_of
from tests.client.support import CAPABILITIES, CARD, without

BARE = HostFacts()
GOOD = HostFacts(kvm=True, vhost={"/dev/vhost-net": ""})
TCG = HostFacts(kvm=False, vhost={"/dev/vhost-net": ""})
CLOSED = HostFacts(kvm=True, vhost={"/dev/vhost-net": "cannot open '/dev/vhost-net': no"})

NO_OBJECT = msgspec.structs.replace(CAPABILITIES, objects={})
NO_FDS = without(CAPABILITIES, "ebpf-rss-fds")
NO_RSS = without(CAPABILITIES, "rss")
NEWEST = msgspec.structs.replace(CAPABILITIES, version=(11, 1, 3))


def card(**changes: object) -> Card:
    """Return a card of four queues with RSS on a tap, with *changes*."""
    return msgspec.structs.replace(CARD, **changes)


SINGLE = card(queues=1, rss=False)
OFF = card(rss=False)
USER = card(type="user", tap=None, managed=None, queues=None)


def plan(
    wanted: Card = CARD,
    capabilities: Capabilities = CAPABILITIES,
    host: HostFacts = BARE,
    **options: Any,  # noqa: ANN401 - those of plan_card
) -> CardPlan:
    """Return the plan of a card that is called net0 and is at cards[0]."""
    options.setdefault("default_rss", True)
    return plan_card(Named("cards[0]", "net0", wanted), capabilities, host, **options)


@pytest.mark.parametrize(
    ("wanted", "capabilities", "answer", "rung"),
    [
        (CARD, CAPABILITIES, Granted.NOT_ASKED, Rung.EBPF),
        (CARD, CAPABILITIES, Granted.YES, Rung.EBPF),
        (CARD, CAPABILITIES, NoHelper("nobody"), Rung.QEMU),
        (CARD, CAPABILITIES, Refused("no"), Rung.QEMU),
        (CARD, CAPABILITIES, HelperError("odd"), Rung.QEMU),
        (CARD, NO_OBJECT, Granted.NOT_ASKED, Rung.QEMU),
        (CARD, NO_FDS, Granted.NOT_ASKED, Rung.QEMU),
        (CARD, NO_RSS, Granted.NOT_ASKED, Rung.NONE),
        (SINGLE, CAPABILITIES, Granted.NOT_ASKED, Rung.NONE),
        (OFF, CAPABILITIES, Granted.NOT_ASKED, Rung.NONE),
        (USER, CAPABILITIES, Granted.NOT_ASKED, Rung.QEMU),
        (card(model="e1000"), CAPABILITIES, Granted.NOT_ASKED, Rung.NONE),
    ],
)
def test_highest_possible_rung(
    wanted: Card, capabilities: Capabilities, answer: Granted | BpferryError, rung: Rung
) -> None:
    """Each card gets the highest rung that is possible, with a reason."""
    found = plan(wanted, capabilities, answer=answer)

    assert rung is found.rung
    assert found.because
    assert all(found.because)


@pytest.mark.parametrize("capabilities", [NO_OBJECT, NO_FDS, NO_RSS])
def test_lower_rung_than_wished_is_a_warning(capabilities: Capabilities) -> None:
    """A user who wants RSS and does not get eBPF is told in one line, with a hint."""
    (warning,) = plan(capabilities=capabilities).warnings

    assert warning.message.startswith("net0: no eBPF steering, ")
    assert warning.hint == "use a QEMU of version 9.0 or later that was built with libbpf"


@pytest.mark.parametrize("wanted", [SINGLE, OFF, CARD])
def test_what_was_wished_is_not_a_warning(wanted: Card) -> None:
    """A card that gets what its description says lacks nothing."""
    assert plan(wanted).warnings == ()


def test_helper_error_is_told_with_its_hint() -> None:
    """The warning about a helper that is not there has its reason and its remedy."""
    (warning,) = plan(answer=NoHelper("nobody there", "start it")).warnings

    assert warning.message == "net0: no eBPF steering, QEMU steers in user space: nobody there"
    assert warning.hint == "start it"


@pytest.mark.parametrize("error", [NoHelper("x"), Refused("x"), HelperError("x")])
def test_demanded_ebpf_passes_the_helper_error_on(error: BpferryError) -> None:
    """Where eBPF is demanded, the helper's error is the end."""
    with pytest.raises(type(error)) as caught:
        plan(answer=error, require_ebpf=True)

    assert error is caught.value


@pytest.mark.parametrize(
    ("wanted", "capabilities"),
    [
        (CARD, NO_OBJECT),
        (CARD, NO_FDS),
        (CARD, NO_RSS),
        (SINGLE, CAPABILITIES),
        (OFF, CAPABILITIES),
        (USER, CAPABILITIES),
        (card(rss_hash_report=True), CAPABILITIES),
    ],
)
def test_demanded_ebpf_that_cannot_be(wanted: Card, capabilities: Capabilities) -> None:
    """Where eBPF is demanded and certainly not possible, that is unsupported: status 3."""
    with pytest.raises(Unsupported, match="it cannot be steered by eBPF") as caught:
        plan(wanted, capabilities, require_ebpf=True)

    assert (caught.value.status, caught.value.element) == (3, "cards[0]")


@pytest.mark.parametrize(
    ("wanted", "host", "vhost"),
    [
        (OFF, GOOD, True),
        (CARD, GOOD, True),
        (card(driver="qemu"), GOOD, False),
        (OFF, TCG, False),
        (card(driver="vhost"), TCG, True),
        (OFF, CLOSED, False),
        (card(driver="vhost"), CLOSED, True),
        (card(vhost_device="/dev/other"), GOOD, False),
        (card(model="e1000"), GOOD, False),
        (USER, GOOD, False),
        (msgspec.structs.replace(USER, driver="vhost"), GOOD, False),
    ],
)
def test_vhost(wanted: Card, host: HostFacts, *, vhost: bool) -> None:
    """Unasked, vhost needs KVM and a device that opens; by name, a tap is enough."""
    assert vhost is plan(wanted, host=host).vhost


@pytest.mark.parametrize(
    ("wanted", "host", "reason"),
    [
        (OFF, BARE, "no vhost: the VM runs without KVM"),
        (OFF, CLOSED, "no vhost: cannot open '/dev/vhost-net': no"),
        (card(driver="qemu"), GOOD, "no vhost, as the description says"),
        (card(driver="vhost"), GOOD, "vhost, as the description says"),
    ],
)
def test_reason_for_vhost(wanted: Card, host: HostFacts, reason: str) -> None:
    """The reasons say why there is vhost, or why not; that alone is not a warning."""
    found = plan(wanted, host=host)

    assert reason == found.because[-1]
    assert found.warnings == ()


def test_queues_of_a_card_without_virtio() -> None:
    """A card that can have one queue has one, whatever is said, as in libvirt."""
    assert 1 == plan(card(model="e1000", queues=4), host=GOOD).queues


def test_vhost_by_name_that_the_host_lacks() -> None:
    """A dry run shows what would be started, and warns that it cannot be started here."""
    (warning,) = plan(card(driver="vhost"), host=CLOSED).warnings

    assert "cannot be used here: cannot open '/dev/vhost-net': no" in warning.message
    assert "driver" == warning.field


def test_vhost_by_name_without_a_tap() -> None:
    """A card that cannot have vhost goes without it, and that is said."""
    (warning, _) = plan(msgspec.structs.replace(USER, driver="vhost")).warnings

    assert "goes without it" in warning.message


def test_vhost_without_rss_on_any_qemu() -> None:
    """The faults of RSS do not concern a card without it."""
    assert plan(card(rss=False, driver="vhost"), NEWEST, GOOD).vhost


def test_vhost_by_name_when_the_helper_fails() -> None:
    """Who asked for vhost by name and for RSS learns what the helper said."""
    error = NoHelper("nobody")

    with pytest.raises(NoHelper) as caught:
        plan(card(driver="vhost"), host=GOOD, answer=error)

    assert error is caught.value


@pytest.mark.parametrize(("rss", "rung"), [(True, Rung.QEMU), (False, Rung.NONE)])
def test_hash_reports(rung: Rung, *, rss: bool) -> None:
    """A user who wants hash reports gets them, at the price of vhost and eBPF."""
    found = plan(card(rss=rss, rss_hash_report=True), host=GOOD)

    assert (rung, False) == (found.rung, found.vhost)
    assert any("takes hash reports back" in notice.message for notice in found.warnings)


@pytest.mark.parametrize(
    ("devices", "rung"),
    [({"rtl8139": {}}, Rung.NONE), ({"e1000": {}}, Rung.NONE), ({}, Rung.EBPF)],
)
def test_model_that_libvirt_would_choose(devices: dict[str, dict[str, str]], rung: Rung) -> None:
    """A card without a model is an old one where QEMU has one, and that has no RSS."""
    known = msgspec.structs.replace(CAPABILITIES, devices={**CAPABILITIES.devices, **devices})

    assert rung is plan(card(model="default"), known).rung


@pytest.mark.parametrize(
    ("changes", "wish"),
    [
        ({}, Wish.DEFAULT),
        ({"queues": 1}, Wish.OFF),
        ({"queues": None}, Wish.OFF),
        ({"type": "user", "tap": None}, Wish.OFF),
        ({"type": "vhostuser", "tap": None}, Wish.OFF),
        ({"rss": False}, Wish.OFF),
        ({"rss": True}, Wish.ASKED),
        ({"rss": True, "queues": 1}, Wish.ASKED),
    ],
)
def test_what_a_card_says_of_rss(changes: dict[str, object], wish: Wish) -> None:
    """A card that does not say has RSS by default if it has a tap with several queues."""
    wanted = card(**{"rss": None, **changes})

    assert wish is wish_of(wanted, default_rss=True)
    assert (Wish.OFF if wish is Wish.DEFAULT else wish) is wish_of(wanted, default_rss=False)


def test_no_rss_by_default_on_a_card_that_is_not_virtio() -> None:
    """Only virtio cards have RSS."""
    assert Rung.NONE is plan(card(rss=None, model="e1000")).rung


def test_what_keeps_a_card_from_ebpf() -> None:
    """The plan tells what is in the way, for callers that want to say it in other words."""
    assert "" == plan().obstacle.message
    assert "this QEMU hands out no eBPF object 'rss'" == plan(CARD, NO_OBJECT).obstacle.message
    assert "it has one queue" == plan(SINGLE).obstacle.message


@pytest.mark.parametrize("host", [BARE, GOOD, TCG, CLOSED])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, NEWEST, NO_FDS, NO_RSS, NO_OBJECT])
@pytest.mark.parametrize("hashes", [True, False])
def test_same_facts_same_plan(host: HostFacts, capabilities: Capabilities, *, hashes: bool) -> None:
    """Planning is a function: two calls say the same."""
    wanted = card(rss_hash_report=hashes)

    assert plan(wanted, capabilities, host) == plan(wanted, capabilities, host)


MACVTAP = HostFacts(kvm=True, vhost={"/dev/vhost-net": ""}, macvtaps=frozenset({"tap0"}))


def test_macvtap_with_rss() -> None:
    """QEMU steers, and gives vhost up for it; no other QEMU is named, since none could do both."""
    found = plan(host=MACVTAP)
    without, because = found.warnings

    assert (Rung.QEMU, False) == (found.rung, found.vhost)
    assert "its tap is a macvtap, which the kernel lets no eBPF program steer" in without.message
    assert ("use a tap on a bridge", "tap") == (without.hint, without.field)
    assert "vhost is given up for RSS" in because.message
    assert "use a QEMU" not in because.hint


def test_macvtap_without_rss() -> None:
    """It has vhost, as any other tap."""
    found = plan(card(rss=None), host=MACVTAP, default_rss=False)

    assert (Rung.NONE, True, ()) == (found.rung, found.vhost, found.warnings)


@pytest.mark.parametrize("name", ["10.0.2", "11.1.3"])
def test_macvtap_with_rss_by_default(name: str) -> None:
    """Nobody asked for RSS, so vhost stays, and nothing is promised of another QEMU."""
    known = {"10.0.2": CAPABILITIES, "11.1.3": NEWEST}[name]
    found = plan(card(rss=None), known, MACVTAP)

    assert (Rung.NONE, True, ()) == (found.rung, found.vhost, found.warnings)
    assert not [reason for reason in found.because if "has both" in reason]


def test_macvtap_that_requires_ebpf() -> None:
    """It is refused, with the reason."""
    with pytest.raises(Unsupported, match="which the kernel lets no eBPF program steer"):
        plan(host=MACVTAP, require_ebpf=True)


def test_bridge_of_the_name_of_a_macvtap() -> None:
    """Only the tap that a card names can be one."""
    wanted = card(type="bridge", bridge="tap0", tap=None, managed=None)

    assert Rung.EBPF is plan(wanted, host=MACVTAP).rung
