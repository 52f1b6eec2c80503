# SPDX-License-Identifier: LGPL-2.1-or-later
"""The picture of tools/bench path: what a packet costs, by queues and who steers, as an SVG."""

import re
import sys
from pathlib import Path
from typing import Final

import pygal
from pygal.style import DefaultStyle

from benchmarks.path_figures import FAMILIES, QUEUES, STEERED, PathFigures

# pygal puts a finder of its plug-ins there, which lacks what Python asks finders for today: each
# later import of anything would warn. We use none of its plug-ins.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

LEFT_OUT: Final = re.compile(r"<script.*?</script>|<!--.*?-->", re.DOTALL)
"""pygal's: what shows a value under the mouse, the day, and addresses."""


def draw(figures: PathFigures, path: Path) -> None:
    """Write the picture of *figures* to *path*."""
    chart = pygal.Bar(
        js=[], disable_xml_declaration=True, style=DefaultStyle,
        title="Processor time for a packet, as a multiple of one queue's",
        x_title="IP version, and queues of the tap", legend_at_bottom=True,
        include_x_axis=True, width=900, height=450,
    )  # fmt: skip
    # Else it is random, and the same figures would make another file.
    chart.uuid = "path"
    rows = figures.rows()
    chart.x_labels = [f"IPv{family}, {queues}" for family in FAMILIES for queues in QUEUES]
    for steered, name in STEERED.items():
        chart.add(name, [round(row.cost_times, 2) for row in rows if row.lane.steered == steered])
    text = LEFT_OUT.sub("", chart.render(is_unicode=True))
    path.write_text(text + "\n", encoding="utf-8")
