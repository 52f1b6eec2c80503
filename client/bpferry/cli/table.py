# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables for people."""

from collections.abc import Mapping, Sequence


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return *rows* in aligned columns below *headings*."""
    lines = [headings, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def in_time_units(seconds: int) -> str:
    """Return a duration, in its two largest units: ``2 d 3 h``, ``14 min 5 s``."""
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def in_memory_units(octets: int) -> str:
    """Return an amount of memory: ``512 MiB``, ``2 GiB``, ``1.5 GiB``."""
    mebibytes = octets / 2**20
    if mebibytes < 1024:  # noqa: PLR2004 - a GiB has so many
        return f"{mebibytes:g} MiB"
    return f"{round(mebibytes / 1024, 1):g} GiB"


def number(values: Mapping[str, object], key: str) -> int:
    """Return the number that *values* has under *key*; 0 if there is none."""
    value = values.get(key, 0)
    return value if isinstance(value, int) else 0
