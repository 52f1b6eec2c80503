# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cards of a command line, each with what is behind it.

    -netdev bridge,id=n0,br=br0  -device virtio-net-pci,netdev=n0
    -nic bridge,br=br0,model=virtio-net-pci
    -net nic,model=virtio  -net bridge,br=br0

A card is found by its ``-device``, which names its ``-netdev``; ``-nic`` is both in one. The old
``-net`` connects everything to one hub, so only a single card with a single back end is understood.
What something else uses too, such as a packet filter, is not touched: filters know one queue.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bpferry.launcher.properties import NotUnderstoodError, Properties, read_properties
from bpferry.launcher.words import Option

NIC_MODELS: Final = {
    "virtio": "virtio-net-pci",
    **{name: name for name in ("virtio-net-pci", "virtio-net-pci-transitional",
                               "virtio-net-pci-non-transitional")},
}  # fmt: skip
"""The models of ``-nic`` and ``-net nic`` that are virtio cards, to the driver of ``-device``."""

CARD_KEYS: Final = {
    "model": "",
    "mac": "mac",
    "macaddr": "mac",
    "addr": "addr",
    "vectors": "vectors",
}
"""What of ``-nic`` and ``-net nic`` is about the card, to its property of ``-device``."""


GIVEN: Final = ("mq", "vectors", "rss", "hash", "ebpf-rss-fds")
"""The properties of a card that ``exec`` reads or gives."""


class Place(NamedTuple):
    """Properties, and the option that they are in."""

    option: Option
    properties: Properties


class FoundCard(NamedTuple):
    """One card, and what is behind it."""

    name: str
    """For people, and for the names of its fds."""
    netdev: Place
    device: Place
    """For a ``-nic`` or ``-net nic``, the properties of the ``-device`` that stands for it."""


class LeftCard(NamedTuple):
    """A card that stays as it is."""

    name: str
    reason: str
    hint: str = ""


def find_cards(options: Sequence[Option]) -> Iterator[FoundCard | LeftCard]:
    """Yield the cards among *options*, in their order."""
    yield from _Finder(options).cards()


class _Finder:
    """One command line, and what is known of it."""

    def __init__(self, options: Sequence[Option]) -> None:
        self._options = [option for option in options if option.value is not None]
        self._netdevs: dict[str, Place] = {}
        self._ids: Counter[str] = Counter()
        self._shorts = 0
        for option in self._named("netdev"):
            self._keep(option)

    def cards(self) -> Iterator[FoundCard | LeftCard]:
        used: set[str] = set()
        for option in self._named("device", "nic"):
            if option.name == "nic":
                yield from self._nic(option)
                continue
            try:
                device = _read(option, "driver")
                netdev = device.text_of("netdev")
                name = device.text_of("id") or netdev or ""
            except NotUnderstoodError as error:
                if "netdev" in (option.value or ""):
                    name = f"the card of word {option.place}"
                    yield LeftCard(name, f"its '-device' is not understood: {error}")
                continue
            if netdev is not None:
                used.add(netdev)
                yield self._card(name, netdev, Place(option, device))
        yield from self._pair()
        yield from (
            LeftCard(name, "no '-device' of this command line uses it")
            for name in self._netdevs
            if name not in used
        )

    def _named(self, *names: str) -> Iterator[Option]:
        return (option for option in self._options if option.name in names)

    def _keep(self, option: Option) -> None:
        try:
            properties = _read(option, "type")
            name = properties.text_of("id")
        except NotUnderstoodError:
            return
        if name is not None:
            self._ids[name] += 1
            self._netdevs[name] = Place(option, properties)

    def _card(self, name: str, netdev: str, device: Place) -> FoundCard | LeftCard:
        found = self._netdevs.get(netdev)
        if found is None:
            return LeftCard(name, f"no '-netdev' that is understood has the id '{netdev}'")
        if self._ids[netdev] > 1:
            return LeftCard(name, f"several '-netdev' have the id '{netdev}'")
        others = [one for one in self._options if one != device.option and self._uses(one, netdev)]
        if others:
            return LeftCard(name, f"'-{others[0].name}' uses its netdev '{netdev}' too")
        touching = self._touching(name, device.properties)
        if touching:
            return LeftCard(name, f"{touching} changes it as well")
        return FoundCard(name, found, device)

    def _uses(self, option: Option, netdev: str) -> bool:
        """Say whether *option*, which is not the card itself, refers to *netdev*."""
        value = option.value or ""
        if option.name == "netdev" or "netdev" not in value or netdev not in value:
            return False
        try:
            return read_properties(value, "driver").get("netdev") == netdev
        except NotUnderstoodError:
            return True

    def _touching(self, name: str, device: Properties) -> str:
        """Return the option that sets properties of the card from elsewhere; empty if none does."""
        for option in self._named("set", "global"):
            value = option.value or ""
            keys = tuple(f"device.{name}.{key}=" for key in GIVEN)
            if option.name == "set" and value.startswith(keys):
                return f"'-set {value}'"
            if option.name == "global" and _is_global(value, str(device.get("driver"))):
                return f"'-global {value}'"
        return ""

    def _nic(self, option: Option) -> Iterator[FoundCard | LeftCard]:
        name = f"nic{self._shorts}"
        self._shorts += 1
        try:
            properties = _read(option, "type")
            model = properties.text_of("model") or ""
            name = properties.text_of("id") or name
        except NotUnderstoodError as error:
            yield LeftCard(name, f"its '-nic' is not understood: {error}")
            return
        if properties.get("type") == "none":
            return
        place = Place(option, properties)
        yield self._short(name, place, place, model)

    def _pair(self) -> Iterator[FoundCard | LeftCard]:
        """Yield the card of ``-net``, if there is one."""
        try:
            places = [Place(it, _read(it, "type")) for it in self._named("net")]
        except NotUnderstoodError as error:
            yield LeftCard("net", f"its '-net' is not understood: {error}")
            return
        cards = [place for place in places if place.properties.get("type") == "nic"]
        others = [place for place in places if place not in cards]
        if not places or places[0].properties.get("type") == "none":
            return
        if len(cards) != 1 or len(others) != 1 or cards[0].properties.has("netdev", "name"):
            yield LeftCard("net", "only one '-net nic' with one other '-net' is understood")
            return
        model = cards[0].properties.get("model")
        yield self._short("net0", others[0], cards[0], str(model or ""))

    def _short(self, name: str, place: Place, card: Place, model: str) -> FoundCard | LeftCard:
        """Return a card of ``-nic`` or ``-net``, with the ``-device`` that stands for it."""
        driver = NIC_MODELS.get(model)
        if driver is None:
            model = model or "the machine's own"
            return LeftCard(name, f"its model ({model}) is not virtio-net-pci")
        if name in self._netdevs:
            return LeftCard(name, f"there is a '-netdev' with the id '{name}' too")
        said = {
            CARD_KEYS[item.key]: item.value
            for item in card.properties.items
            if item.key in CARD_KEYS
        }
        said.pop("", None)
        device = read_properties(driver, "driver").with_values({"netdev": name, **said})
        netdev = place.properties.without(*CARD_KEYS)
        if not netdev.has("id"):
            netdev = netdev.with_values({"id": name})
        return FoundCard(
            name,
            Place(place.option, netdev),
            Place(card.option, device),
        )


def _read(option: Option, implied: str) -> Properties:
    return read_properties(option.value or "", implied)


def _is_global(value: str, driver: str) -> bool:
    """Say whether *value*, of ``-global``, is about a property that ``exec`` may give to *driver*.

    It is DRIVER.PROPERTY=VALUE, or the same in three properties.
    """
    if value.startswith(tuple(f"{driver}.{key}=" for key in GIVEN)):
        return True
    try:
        said = read_properties(value, "driver")
    except NotUnderstoodError:
        return False
    return said.get("driver") == driver and said.get("property") in GIVEN
