# SPDX-License-Identifier: LGPL-2.1-or-later
"""Warnings about the queues of a card that runs."""

import pytest
from msgspec.structs import replace

from bpferry.steering.maps import Steering
from bpferry.steering.observed import Observed, from_fields, to_fields
from bpferry.steering.plan import CardPlan, Rung
from bpferry.steering.remarks import Rates, remarks, shares
from bpferry.steering.rings import Direction, Ring
from bpferry.steering.toeplitz import HashType
from bpferry.steering.view import Seen, is_in_force
from bpferry_wire.errors import BadMessage

RECEIVE = Direction.RECEIVE
STEERING = Steering(
    redirect=True,
    hash_types=HashType.TCPV4,
    key=bytes(range(40)),
    table=(0, 1, 2, 3) * 32,
    default_queue=0,
)
CARD = Observed(
    card_id="net0",
    rung=Rung.EBPF,
    because="it can",
    vhost=False,
    queues=4,
    vcpus=4,
    time_ns=17,
    driver=True,
    steering=STEERING,
    switched_on=4,
    in_force=True,
    rings=(Ring(0, RECEIVE, 256, 65_535, 12), Ring(0, Direction.TRANSMIT, 256, 3, None)),
)


def received(*rates: float) -> Rates:
    """Return packets a second, by receive queue."""
    return {(queue, RECEIVE): rate for queue, rate in enumerate(rates)}


@pytest.mark.parametrize(
    ("card", "rates"),
    [
        (CARD, received(500, 520, 480, 500)),
        (CARD, received(900, 0, 0, 0)),
        (CARD, received(980, 800, 220, 0)),
        (replace(CARD, steering=None, rung=Rung.QEMU), received(9000, 0, 0, 0)),
        (replace(CARD, switched_on=1), received(9000, 0, 0, 0)),
        (replace(CARD, steering=replace(STEERING, table=(1,) * 128)), received(0, 9000, 0, 0)),
        (replace(CARD, steering=replace(STEERING, table=(1, 2))), received(9000, 900, 900, 0)),
        (replace(CARD, vcpus=8), {}),
    ],
)
def test_what_is_usual_is_no_warning(card: Observed, rates: Rates) -> None:
    """Even traffic, little traffic, a queue as hot as the table makes it, packets not hashed."""
    assert () == remarks(card, rates)


@pytest.mark.parametrize(
    ("card", "rates", "words"),
    [
        (replace(CARD, vcpus=2), {}, "it has 4 queues, and the VM has 2 vCPUs"),
        (replace(CARD, vcpus=1), {}, "the VM has 1 vCPU:"),
        (CARD, received(100, 2000, 100, 100), "queue 1 is hot: it gets 87% of the packets"),
        (
            replace(CARD, steering=replace(STEERING, table=(0, 1) * 64)),
            received(0, 100, 0, 2000),
            "the guest's table does not name it: QEMU was given the program and does not use it",
        ),
        (
            replace(CARD, steering=replace(STEERING, table=(0, 1, 2, 9) * 32)),
            {},
            "the guest's table names queue 9, and the card has 4 queues",
        ),
        (replace(CARD, difference="net0: the guest has not", hint="why"), {}, "has not"),
    ],
)
def test_what_costs_speed_is_a_warning_in_words(card: Observed, rates: Rates, words: str) -> None:
    """One line about the card, and what to do."""
    (notice,) = remarks(card, rates)

    assert notice.message.startswith("net0: ")
    assert words in notice.message
    assert notice.hint


def test_shares_are_those_of_the_table() -> None:
    """By queue, and only those that are named."""
    assert {0: 0.25, 3: 0.75} == shares((0, 3, 3, 3))


@pytest.mark.parametrize("steering", [STEERING, None])
@pytest.mark.parametrize("in_force", [True, False, None])
def test_what_is_seen_survives_a_packet(
    steering: Steering | None, *, in_force: bool | None
) -> None:
    """All of it, with what is not known."""
    card = replace(CARD, steering=steering, in_force=in_force)
    packed = {key: value for key, value in to_fields(card).items() if value is not None}

    assert card == from_fields(packed)


@pytest.mark.parametrize(
    "changed",
    [{"rung": "magic"}, {"queues": -1}, {"rings": [{"queue": 1}]}, {"steering": {}}, {"card": 1}],
)
def test_an_answer_of_another_version_is_not_believed(changed: dict[str, object]) -> None:
    """Wrong words and types are one error, whatever they are."""
    packed = {key: value for key, value in to_fields(CARD).items() if value is not None}

    with pytest.raises(BadMessage):
        from_fields({**packed, **changed})


PLAN = CardPlan("net0", Rung.EBPF, vhost=False, queues=4, because=())
FALLBACK = ("Can't load eBPF RSS - fallback to software RSS",)
FOR_VHOST = ("Can't load eBPF RSS for vhost",)


@pytest.mark.parametrize(
    ("rung", "seen", "true"),
    [
        (Rung.EBPF, Seen(STEERING), True),
        (Rung.EBPF, Seen(replace(STEERING, redirect=False)), False),
        (Rung.EBPF, Seen(STEERING, FALLBACK), False),
        (Rung.EBPF, Seen(STEERING, switched_on=4), True),
        (Rung.EBPF, Seen(STEERING, switched_on=1), False),
        (Rung.EBPF, Seen(None), None),
        (Rung.QEMU, Seen(None), None),
        (Rung.QEMU, Seen(None, FALLBACK), None),
        (Rung.QEMU, Seen(None, FOR_VHOST), False),
        (Rung.NONE, Seen(None), True),
    ],
)
def test_whether_a_plan_came_true(rung: Rung, seen: Seen, *, true: bool | None) -> None:
    """Yes, no, or nobody can say."""
    assert is_in_force(replace(PLAN, rung=rung), seen) is true
