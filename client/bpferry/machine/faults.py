# SPDX-License-Identifier: LGPL-2.1-or-later
"""One thing to say against the design of a VM, and how much it weighs.

error     it does not work, or not as the description says
warning   it works, and gives less than it seems to
note      it works, and there is something to know, or a better way
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to say against a VM."""

    key: str
    """Of the model."""
    level: Level
    message: str
    cause: str = ""
    """Nothing where the message has it."""
    fix: str = ""
    """What to do; nothing where there is nothing to do."""
