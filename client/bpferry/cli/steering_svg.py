# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a card's packets spread over its queues, as a picture (SVG 1.1)."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from bpferry.cli.steering_meter import Measured
from bpferry.cli.steering_text import (
    key_lines,
    per_second,
    queues_of,
    seen,
    type_names,
    what_it_has,
)
from bpferry.steering.maps import Steering
from bpferry.steering.observed import Observed
from bpferry.steering.remarks import shares
from bpferry.steering.rings import Direction

WIDTH: Final = 760
MARGIN: Final = 24
LINE: Final = 20
CELL: Final = 22
COLUMNS: Final = 32
"""Entries of the table in one row."""

BAR: Final = 150
"""Width of a full bar."""

COLOURS: Final = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866",
)  # fmt: skip
"""Paul Tol's bright scheme, which people who see colours differently can tell apart. Its colours
repeat after eight queues, so each entry has its number too."""

DARK: Final = ("#4477aa", "#228833", "#aa3377")
"""Those on which white letters are read better than black ones."""

TEXT_COLUMNS: Final = 94
TITLE_COLUMNS: Final = 56
"""Letters that fit into one line, in a font that is rather wide."""

HEAD: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" fill="#222222">
<rect width="{width}" height="{height}" fill="#ffffff"/>
"""

TABLE_AT: Final = 90
RECEIVE_AT: Final = 330
TRANSMIT_AT: Final = 570
"""Where the bars of each kind begin."""


def draw_svg(vm_name: str, cards: Sequence[Measured], when: str) -> str:
    """Return a picture of all *cards* of the VM, which says *when* they were measured."""
    canvas = _Canvas()
    for line in _wrapped(f"'{vm_name}': how packets spread over the queues", TITLE_COLUMNS):
        canvas.text(MARGIN, line, size=18, bold=True)
        canvas.down(LINE + 6)
    canvas.text(MARGIN, when)
    canvas.down(LINE)
    if not cards:
        canvas.text(MARGIN, "it has no network card")
    for measured in cards:
        _draw_card(canvas, measured)
    head = HEAD.format(width=WIDTH, height=canvas.y + MARGIN)
    return head + "\n".join(canvas.parts) + "\n</svg>\n"


class _Canvas:
    """Elements, from the top to the bottom."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = MARGIN + 8

    def down(self, pixels: int) -> None:
        """Go down."""
        self.y += pixels

    def text(
        self,
        x: int,
        words: str,
        *,
        size: int = 13,
        bold: bool = False,
        family: str = "",
        anchor: str = "start",
        colour: str = "",
    ) -> None:
        """Write *words* on the present line."""
        more = f' font-family="{family}"' if family else ""
        more += ' font-weight="bold"' if bold else ""
        more += f' text-anchor="{anchor}"' if anchor != "start" else ""
        more += f' fill="{colour}"' if colour else ""
        self.parts.append(
            f'<text x="{x}" y="{self.y}" font-size="{size}"{more}>{escape(_clean(words))}</text>'
        )

    def paragraph(self, words: str, colour: str = "") -> None:
        """Write *words* below, on as many lines as they need."""
        for line in _wrapped(words):
            self.down(LINE)
            self.text(MARGIN, line, colour=colour)

    def box(self, x: int, y: int, width: float, height: int, colour: str) -> None:
        """Fill a rectangle."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'
        )


def _clean(words: str) -> str:
    """Return *words* without what no XML document may contain (XML 1.0, 2.2)."""
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def colour_of(queue: int) -> str:
    """Return the colour of a queue."""
    return COLOURS[queue % len(COLOURS)]


def _draw_card(canvas: _Canvas, measured: Measured) -> None:
    card = measured.card
    canvas.down(LINE)
    canvas.text(MARGIN, card.card_id, size=15, bold=True)
    for words in _facts(card):
        canvas.paragraph(words)
    steering = card.steering
    if steering is not None and steering.redirect:
        _draw_settings(canvas, steering)
    _draw_queues(canvas, measured)
    canvas.down(8 if measured.warnings else 0)
    for notice in measured.warnings:
        canvas.paragraph(f"Warning: {notice.message.partition(': ')[2]}", colour="#aa3300")
        canvas.paragraph(f"Hint: {notice.hint}" if notice.hint else "")
    canvas.down(LINE)


def _facts(card: Observed) -> Iterator[str]:
    yield f"Planned: {card.rung}. Seen: {seen(card)}."
    yield f"It has {what_it_has(card)}."
    if card.uncounted:
        yield f"Packets are not counted: {card.uncounted}"


def _draw_settings(canvas: _Canvas, steering: Steering) -> None:
    canvas.paragraph(f"Hashed: {', '.join(type_names(steering.hash_types)) or 'nothing'}")
    for number, line in enumerate(key_lines(steering.key)):
        canvas.down(LINE)
        if not number:
            canvas.text(MARGIN, "Key:")
        canvas.text(MARGIN + 40, line, family="monospace", size=12)
    canvas.down(LINE + 4)
    canvas.text(
        MARGIN, f"The indirection table, with the queue of each of {len(steering.table)} entries:"
    )
    canvas.down(8)
    for place, queue in enumerate(steering.table):
        _draw_entry(canvas, place, queue)
    canvas.down(CELL * -(-len(steering.table) // COLUMNS) + 4)


def _draw_entry(canvas: _Canvas, place: int, queue: int) -> None:
    row, column = divmod(place, COLUMNS)
    x, y = MARGIN + column * CELL, canvas.y + row * CELL
    colour = colour_of(queue)
    canvas.box(x, y, CELL - 2, CELL - 2, colour)
    letters = "#ffffff" if colour in DARK else "#222222"
    canvas.parts.append(
        f'<text x="{x + CELL // 2 - 1}" y="{y + 14}" font-size="11" text-anchor="middle" '
        f'fill="{letters}">{queue}</text>'
    )


def _draw_queues(canvas: _Canvas, measured: Measured) -> None:
    steering = measured.card.steering
    table = steering.table if steering is not None and steering.redirect else ()
    parts = shares(table) if table else {}
    canvas.down(LINE + 4)
    canvas.text(MARGIN, "Queue", bold=True)
    canvas.text(TABLE_AT, "Share of the table" if table else "", bold=True)
    canvas.text(RECEIVE_AT, "Received packets/s", bold=True)
    canvas.text(TRANSMIT_AT, "Sent packets/s", bold=True)
    # One scale for both directions, so that all bars of packets can be compared.
    most = max(measured.rates.values(), default=0.0)
    for queue in queues_of(measured):
        canvas.down(LINE + 2)
        canvas.text(MARGIN + 12, str(queue), anchor="middle")
        if table:
            share = parts.get(queue, 0.0)
            _draw_bar(canvas, TABLE_AT, queue, share, f"{share:.0%}")
        for x, way in ((RECEIVE_AT, Direction.RECEIVE), (TRANSMIT_AT, Direction.TRANSMIT)):
            rate = measured.rates.get((queue, way))
            if rate is not None:
                _draw_bar(canvas, x, queue, rate / most if most else 0.0, per_second(rate))


def _draw_bar(canvas: _Canvas, x: int, queue: int, share: float, words: str) -> None:
    width = share * (BAR - 30)
    if width > 0:
        canvas.box(x, canvas.y - 12, max(width, 1), 15, colour_of(queue))
    canvas.text(x + round(width) + 6, words, size=12)


def _wrapped(words: str, columns: int = TEXT_COLUMNS) -> list[str]:
    return textwrap.wrap(words, columns)
