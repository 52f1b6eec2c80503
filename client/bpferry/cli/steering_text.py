# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a card's packets spread over its queues, for people."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.cli import output
from bpferry.cli.steering_meter import Measured
from bpferry.steering.maps import Steering
from bpferry.steering.observed import Observed
from bpferry.steering.plan import Rung
from bpferry.steering.remarks import shares
from bpferry.steering.rings import Direction, Ring
from bpferry.steering.toeplitz import HashType
from bpferry.steering.view import describe

TYPE_NAMES: Final = {
    HashType.IPV4: "IPv4",
    HashType.TCPV4: "TCP over IPv4",
    HashType.UDPV4: "UDP over IPv4",
    HashType.IPV6: "IPv6",
    HashType.TCPV6: "TCP over IPv6",
    HashType.UDPV6: "UDP over IPv6",
    HashType.IP_EX: "IPv6 with extensions",
    HashType.TCP_EX: "TCP over IPv6 with extensions",
    HashType.UDP_EX: "UDP over IPv6 with extensions",
}

DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
"""One for each queue in the picture of the table; later queues are '+'."""

ROW: Final = 64
"""Entries of the table in one line."""

KEY_ROW: Final = 20
"""Bytes of the key in one line, as in ethtool -x."""

CELLS: Final = 12
"""Width of a full bar."""

TEXT_COLUMNS: Final = 68
"""Width of a text beside its title."""

HEADINGS: Final = (
    f"  queue  {'table':<{CELLS + 5}}  {'receive/s':<{CELLS + 9}}  {'room':>7}  "
    f"{'transmit/s':>10}  waiting"
)


def type_names(types: HashType) -> list[str]:
    """Return the names of what is hashed; a type that is not known as its number."""
    known = [name for bit, name in TYPE_NAMES.items() if bit in types]
    rest = int(types) & ~sum(TYPE_NAMES)
    return [*known, f"{rest:#x}"] if rest else known


def draw(measured: Measured) -> list[str]:
    """Return the picture of one card as lines, with its warnings at the end."""
    card = measured.card
    planned = f"{card.rung} ({card.because})"
    lines = [_heading(card), *_wrapped("planned", planned), *_wrapped("seen", seen(card))]
    steering = card.steering
    if steering is not None and steering.redirect:
        lines += _settings(steering)
    if card.uncounted:
        lines += _wrapped("packets", f"not counted: {card.uncounted}")
    if card.rings or (steering is not None and steering.redirect):
        lines += ["", HEADINGS, *_rows(measured), ""]
    lines += _warnings(measured)
    return [line.rstrip() for line in (lines if lines[-1] else lines[:-1])]


def _heading(card: Observed) -> str:
    return f"{card.card_id}: {what_it_has(card)}"


def what_it_has(card: Observed) -> str:
    """Say how many queues and processors there are."""
    vhost = "vhost" if card.vhost else "no vhost"
    queues, vcpus = output.count(card.queues, "queue"), output.count(card.vcpus, "vCPU")
    if card.driver and card.switched_on is not None and card.switched_on < card.queues:
        queues += f" ({card.switched_on} switched on)"
    return f"{queues}, {vhost}; the VM has {vcpus}"


def seen(card: Observed) -> str:
    """Say what steers now, and whether that is the plan."""
    if card.rung is not Rung.EBPF and (few := _one_queue(card)):
        return f"{few}, so there is nothing to spread"
    if card.rung is Rung.NONE:
        return "no RSS, as planned: the host's kernel chooses queues by its own rule"
    if not card.driver and card.steering is not None:
        last = "; this is what it set up last" if card.steering.redirect else ""
        return f"the guest's driver is not up{last}"
    if card.in_force is False:
        return f"not as planned: {card.difference.partition('but ')[2] or card.difference}"
    if card.steering is None:
        return "QEMU steers in user space, and does not show its key and its table"
    return (
        f"{describe(card.card_id, card.steering, card.switched_on).partition(': ')[2]}, as planned"
    )


def _one_queue(card: Observed) -> str:
    """Say why all packets come in on one queue, whoever steers; empty if they need not."""
    if card.queues == 1:
        return "one queue"
    return "only one queue is switched on" if card.driver and card.switched_on == 1 else ""


def _settings(steering: Steering) -> Iterator[str]:
    yield from _wrapped("hashed", ", ".join(type_names(steering.hash_types)) or "nothing")
    for title, part in _titled("key", key_lines(steering.key)):
        yield f"  {title:<8} {part}"
    for title, part in _titled("table", table_lines(steering.table)):
        yield f"  {title:<8} {part}"


def _wrapped(title: str, text: str) -> Iterator[str]:
    """Return *text* in lines of a terminal's usual width, with its *title* before the first."""
    for number, line in enumerate(textwrap.wrap(text, TEXT_COLUMNS)):
        yield f"  {'' if number else title:<8} {line}"


def _titled(title: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        yield "" if number else title, line


def key_lines(key: bytes) -> list[str]:
    """Return *key* as ethtool -x shows it, in lines."""
    return [key[place : place + KEY_ROW].hex(":") for place in range(0, len(key), KEY_ROW)]


def table_lines(table: Sequence[int]) -> list[str]:
    """Return *table* with one character for each entry, in lines."""
    row = "".join(DIGITS[queue] if queue < len(DIGITS) else "+" for queue in table)
    return [row[place : place + ROW] for place in range(0, len(row), ROW)]


def _rows(measured: Measured) -> Iterator[str]:
    card = measured.card
    table = card.steering.table if card.steering and card.steering.redirect else ()
    parts = shares(table) if table else {}
    rings = {ring.place: ring for ring in card.rings}
    most = max(
        [rate for (_, way), rate in measured.rates.items() if way is Direction.RECEIVE] + [1]
    )
    for queue in queues_of(measured):
        share = parts.get(queue, 0.0)
        received = measured.rates.get((queue, Direction.RECEIVE))
        sent = measured.rates.get((queue, Direction.TRANSMIT))
        in_table = f"{bar(share):<{CELLS}} {share:>4.0%}" if table else ""
        arrived = "" if received is None else f"{per_second(received):>8} {bar(received / most)}"
        yield (
            f"  {queue:>5}  {in_table:<{CELLS + 5}}  {arrived:<{CELLS + 9}}  "
            f"{_room(rings.get((queue, Direction.RECEIVE))):>7}  "
            f"{'' if sent is None else per_second(sent):>10}  "
            f"{_level(rings.get((queue, Direction.TRANSMIT))):>7}"
        )


def queues_of(measured: Measured) -> list[int]:
    """Return the queues of a card, and those that its table names besides."""
    steering = measured.card.steering
    named = set(steering.table) if steering is not None and steering.redirect else set()
    return sorted({*range(measured.card.queues), *named})


def bar(share: float) -> str:
    """Return a bar for a *share* of everything; the least that is not nothing shows too."""
    if share <= 0:
        return ""
    return output.bar_character() * max(1, round(min(share, 1.0) * CELLS))


def per_second(rate: float) -> str:
    """Return a rate in few characters: ``7``, ``1,234``, ``12.3k``, ``1.2M``."""
    if rate < 10_000:  # noqa: PLR2004 - from here on, thousands are enough
        return f"{math.ceil(rate) if 0 < rate < 1 else round(rate):,}"
    return f"{rate / 1e3:.1f}k" if rate < 999_950 else f"{rate / 1e6:.2f}M"  # noqa: PLR2004 - rounds to 1000.0k


def _room(ring: Ring | None) -> str:
    return "" if ring is None or ring.waiting is None else f"{ring.waiting}/{ring.size}"


def _level(ring: Ring | None) -> str:
    return "" if ring is None or ring.waiting is None else str(ring.waiting)


def _warnings(measured: Measured) -> Iterator[str]:
    for notice in measured.warnings:
        yield from _wrapped("warning", notice.message.partition(": ")[2])
        if notice.hint:
            yield from _wrapped("", f"hint: {notice.hint}")


def one_line(measured: Measured) -> str:
    """Return what went through a card as one line, for a log or a pipe."""
    card = measured.card
    if card.uncounted:
        return f"{card.card_id}: not counted: {card.uncounted}"
    parts = []
    for way in Direction:
        numbers = [
            per_second(measured.rates.get((queue, way), 0.0)) for queue in range(card.queues)
        ]
        parts.append(f"{way} {' '.join(numbers)}")
    return f"{card.card_id}: packets/s by queue: {'; '.join(parts)}"
