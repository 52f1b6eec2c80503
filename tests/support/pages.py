# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables of our own pages, for tests that hold the code to them."""

from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"


def table_under(page: str, heading: str) -> list[dict[str, str]]:
    """Return the rows of the one table under *heading* of a page in docs/, by their columns."""
    text = (DOCS / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    names, rule, *rows = (
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    )
    assert set("".join(rule)) == {"-"}
    return [dict(zip(names, row, strict=True)) for row in rows]
