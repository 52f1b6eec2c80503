# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has to be the same at both hosts, and how it differs.

before anything is made    the version of QEMU, the machine type, the disks, each card's
address, queues and steering, and all options of QEMU that the guest
depends on
before the guest is moved  what the two QEMUs offer their guests: features of virtio cards,
bits of CPUID
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bpferry.domain.identity import card_mac_of
from bpferry.domain.names import cards_of
from bpferry.errors import BpferryError, NotReady, Unsupported, all_in_one
from bpferry.machine.draft import Draft
from bpferry.machine.migration.messages import PROTOCOL, CardOffer, Devices, Offer
from bpferry.machine.migration.same_files import find_differences
from bpferry.machine.saved import relevant_words
from bpferry.steering.plan import CardPlan

SAME: Final = "make the two hosts alike in this, or move the VM while it does not run"

MAX_SHOWN: Final = 4
"""Differences in one sentence."""


def check_protocol(offer: Offer) -> None:
    """Raise Unsupported if the source is a bpferry that we do not understand."""
    if offer.protocol != PROTOCOL:
        raise Unsupported(
            f"the bpferry at '{offer.host}' moves VMs in another way than the one here (version "
            f"{offer.protocol} and {PROTOCOL})",
            "install the same version of bpferry at both hosts",
        )


def check_disks(offer: Offer) -> None:
    """Raise NotReady if a disk of the VM is another file here, or none."""
    found = list(find_differences(offer.files, offer.host))
    if found:
        raise all_in_one(found)


def check_plan(offer: Offer, draft: Draft) -> None:
    """Raise NotReady if the VM that *draft* would start here is another than the offered one."""
    found = [
        *_of_qemu(offer, draft),
        *(error for card in offer.cards for error in _of_card(card, draft)),
    ]
    # The options follow from these.
    found = found or list(_of_words(offer, relevant_words(draft.built)))
    if found:
        raise all_in_one(found)


def _of_qemu(offer: Offer, draft: Draft) -> Iterator[BpferryError]:
    ours = draft.capabilities
    if ours.version < offer.version:
        theirs = ".".join(map(str, offer.version))
        yield NotReady(
            f"QEMU is older here ({ours.version_text}) than at '{offer.host}' ({theirs}), and does "
            "not understand its VMs",
            "install the same version of QEMU at both hosts, or a newer one at the other host",
        )
    machine = ours.machine_name(draft.context.machine_type)
    if machine != offer.machine_type:
        yield NotReady(
            f"the machine type '{draft.context.machine_type}' is '{machine}' here and "
            f"'{offer.machine_type}' at '{offer.host}'",
            f"name it in full in the description, for the next start: '{offer.machine_type}'",
        )


def _of_card(offered: CardOffer, draft: Draft) -> Iterator[BpferryError]:
    device = next((one for one in cards_of(draft.machine) if one.id == offered.id), None)
    if device is None:
        yield NotReady(f"the VM would have no card '{offered.id}' here", SAME)
        return
    plan = draft.plans[device.id]
    mac = card_mac_of(device.value, draft.context.owner, draft.machine.name, device.number)
    for what, here, there in (
        ("the address", mac, offered.mac),
        ("this number of queues:", str(plan.queues), str(offered.queues)),
        ("the steering", str(plan.rung), offered.rung),
    ):
        if here != there:
            yield NotReady(
                f"{offered.id} would have {what} '{here}' here, and has '{there}' now"
                f"{_because(plan) if what == 'the steering' else ''}",
                SAME,
            )


def _because(plan: CardPlan) -> str:
    return f": {plan.obstacle.message}" if plan.obstacle.message else ""


def _of_words(offer: Offer, words: Iterable[str]) -> Iterator[BpferryError]:
    here = tuple(words)
    lost = [f"'{word}' now" for word in offer.words if word not in here]
    new = [f"'{word}' here" for word in here if word not in offer.words]
    if lost or new:
        yield NotReady(f"the VM would be another one here: it has {_listed([*lost, *new])}", SAME)


def check_words(offer: Offer, words: Iterable[str]) -> None:
    """Raise NotReady if QEMU would be started with other *words* that the guest depends on."""
    for error in _of_words(offer, words):
        raise error


def lost_vhost(offer: Offer, plans: Mapping[str, CardPlan]) -> Iterator[str]:
    """Yield a warning for each card that has vhost now and would have none here."""
    for card in offer.cards:
        plan = plans.get(card.id)
        if card.vhost and plan is not None and not plan.vhost:
            yield f"{card.id}: no vhost there, so that its packets go through QEMU"


UNSEEN: Final = (
    "features of virtio cards were not compared, since a QEMU newer than 10.0 may end when it is "
    "asked for them: check that the guest's network works there"
)


def uncompared(here: Devices, there: Devices) -> Iterator[str]:
    """Yield a warning if what the two QEMUs offer could not be compared."""
    if not (here.tells_features and there.tells_features):
        yield UNSEEN


def check_devices(here: Devices, there: Devices, host: str) -> None:
    """Raise NotReady if the QEMU at *host* offers its guest something else than the one here."""
    found = list(_of_features(here, there))
    if here.processor and there.processor and here.processor != there.processor:
        differing = sorted(_differing(here.processor, there.processor))
        found.append(f"the processor: {_listed(differing)}")
    if found:
        raise NotReady(
            f"QEMU at '{host}' offers its guest something else than QEMU here: {'; '.join(found)}",
            SAME,
        )


def _of_features(here: Devices, there: Devices) -> Iterator[str]:
    for card_id in sorted(here.cards.keys() & there.cards.keys()):
        ours, theirs = set(here.cards[card_id]), set(there.cards[card_id])
        differing = [f"{name} only here" for name in sorted(ours - theirs)]
        differing += [f"{name} only there" for name in sorted(theirs - ours)]
        if differing:
            yield f"{card_id}: {_listed(differing)}"


def _differing(here: Mapping[str, int], there: Mapping[str, int]) -> Iterator[str]:
    for leaf in here.keys() | there.keys():
        ours, theirs = here.get(leaf, 0), there.get(leaf, 0)
        if ours != theirs:
            yield f"{leaf} is {ours:#x} here and {theirs:#x} there"


def _listed(texts: list[str]) -> str:
    more = f", and {len(texts) - MAX_SHOWN} more" if len(texts) > MAX_SHOWN else ""
    return ", ".join(texts[:MAX_SHOWN]) + more
