# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole documents, as people have them, for tests that want more than one device."""

from pathlib import Path
from typing import Final

ALL: Final = tuple(sorted(Path(__file__).parent.glob("*.xml"))) + tuple(
    sorted(Path(__file__).parent.glob("*.toml"))
)
