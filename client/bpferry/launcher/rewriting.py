# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command line with other cards: a pure function of the old one and of what the cards get.

Only the values of the options of those cards change. A ``-nic`` becomes a ``-netdev`` and a
``-device``, since only ``-device`` takes the properties of several queues; its ``-device`` comes
before all others, as the machine makes the cards of ``-nic`` before it makes devices, so that it
gets the same slot.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bpferry.commandline.network.tap_card import steering_properties, tap_properties
from bpferry.launcher.aims import Aim
from bpferry.launcher.backends import REPLACED
from bpferry.launcher.cards import FoundCard
from bpferry.launcher.properties import Properties
from bpferry.launcher.typed import to_json
from bpferry.launcher.words import Option, read_options
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.rungs import CardPlan, Rung


class NewCard(NamedTuple):
    """A card with the properties that it gets."""

    found: FoundCard
    netdev: Properties
    device: Properties

    @property
    def is_changed(self) -> bool:
        """Whether anything is different from what was found."""
        old = self.found
        return (self.netdev, self.device) != (old.netdev.properties, old.device.properties)


def new_netdev(aim: Aim, plan: CardPlan, taps: Sequence[str], vhosts: Sequence[str]) -> Properties:
    """Return the netdev of a card that gets the fds *taps* and *vhosts*, as words for QEMU."""
    old = aim.found.netdev.properties
    values = tap_properties(plan, taps, vhosts)
    if len(taps) == 1:
        values = {_of_one(key): value for key, value in values.items()}
    given = {key: value for key, value in values.items() if value is not None}
    if aim.backend.vhost is False:
        given["vhost"] = False
    return old.without(*(key for key in REPLACED if key not in given)).with_values(given)


def _of_one(key: str) -> str:
    """Return what a list of fds is called if there is one of them."""
    return key.removesuffix("s") if key.endswith("fds") else key


def new_device(
    aim: Aim, plan: CardPlan, capabilities: Capabilities, set_fds: Iterable[str]
) -> Properties:
    """Return the device of a card with *plan*, and the fds of its eBPF set if there is one.

    Raises:
        NotUnderstoodError: it has to be written in JSON, and cannot be.
    """
    device, types = aim.device, capabilities.devices[aim.driver]
    values = steering_properties(
        plan, has_vectors="vectors" in types, has_reports=False, set_fds=set_fds
    )
    given = {
        key: value
        for key, value in values.items()
        if value is not None and not device.has(key) and key in types
    }
    if plan.rung is Rung.EBPF:
        device = to_json(device, types)
    return device.with_values(given) if given else device


def rewrite(argv: Sequence[str], cards: Iterable[NewCard]) -> list[str]:
    """Return *argv* with *cards* in place of what was found."""
    instead: dict[int, list[str]] = {}
    first: list[str] = []
    options = list(read_options(argv))
    places = [option.place for option in options if option.name == "device"]
    for card in cards:
        if not card.is_changed:
            continue
        netdev, device = card.found.netdev.option, card.found.device.option
        instead[netdev.place] = _words(argv, netdev, "netdev", card.netdev.text)
        words = _words(argv, device, "device", card.device.text)
        if netdev.place != device.place:
            instead[device.place] = words
        elif places and places[0] < netdev.place:
            first += words
        else:
            instead[netdev.place] += words
    if first:
        old = list(argv[places[0] : places[0] + 2])
        instead[places[0]] = first + instead.get(places[0], old)
    return list(_replaced(argv, options, instead))


def _words(argv: Sequence[str], option: Option, name: str, value: str) -> list[str]:
    """Return the words of an option; if its name was on the line, as it was written there."""
    return [argv[option.place] if argv[option.place].lstrip("-") == name else f"-{name}", value]


def _replaced(
    argv: Sequence[str], options: Iterable[Option], instead: Mapping[int, list[str]]
) -> Iterable[str]:
    done = 0
    for option in options:
        if option.place in instead:
            yield from argv[done : option.place]
            yield from instead[option.place]
            done = option.place + option.words
    yield from argv[done:]
