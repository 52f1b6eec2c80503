# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in docs/with/, to be done as it stands there."""

import re
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "with"

BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of *page* that are in *language*, in their order."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    return [block for found, block in BLOCK.findall(text) if found == language]
