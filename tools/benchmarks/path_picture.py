# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pictures of tools/bench path and path-guest: what a packet costs, by who steers, as SVGs."""

import re
import sys
from pathlib import Path
from typing import Final

import pygal
from pygal.style import DefaultStyle

from benchmarks import path_guest_figures
from benchmarks.path_figures import FAMILIES, QUEUES, STEERED, PathFigures
from benchmarks.path_guest_figures import GuestFigures

# pygal puts a finder of its plug-ins there, which lacks what Python asks finders for today: each
# later import of anything would warn. We use none of its plug-ins.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

LEFT_OUT: Final = re.compile(r"<script.*?</script>|<!--.*?-->", re.DOTALL)
"""pygal's: what shows a value under the mouse, the day, and addresses."""


SHARED: Final = {
    "js": [], "disable_xml_declaration": True, "style": DefaultStyle, "legend_at_bottom": True,
    "include_x_axis": True, "width": 900, "height": 450,
}  # fmt: skip


def draw(figures: PathFigures, path: Path) -> None:
    """Write the picture of *figures* to *path*."""
    chart = pygal.Bar(
        title="Processor time for a packet, as a multiple of one queue's",
        x_title="IP version, and queues of the tap",
        **SHARED,
    )
    rows = figures.rows()
    chart.x_labels = [f"IPv{family}, {queues}" for family in FAMILIES for queues in QUEUES]
    for steered, name in STEERED.items():
        chart.add(name, [round(row.cost_times, 2) for row in rows if row.lane.steered == steered])
    _write(chart, path)


def draw_guests(figures: GuestFigures, path: Path) -> None:
    """Write the picture of *figures* to *path*: the host's part of what a packet costs."""
    chart = pygal.StackedBar(
        title="The host's processor time for a packet to a guest, in microseconds",
        x_title="who steers the packets of the guest's card",
        **SHARED,
    )
    rows = figures.rows()
    chart.x_labels = [path_guest_figures.STEERED[row.lane.steered] for row in rows]
    chart.add("sender", [round(row.sender_us, 2) for row in rows])
    chart.add("QEMU's main loop", [round(row.loop_us, 2) for row in rows])
    _write(chart, path)


def _write(chart: pygal.Graph, path: Path) -> None:
    # Else it is random, and the same figures would make another file.
    chart.uuid = "path"
    text = LEFT_OUT.sub("", chart.render(is_unicode=True))
    path.write_text(text + "\n", encoding="utf-8")
