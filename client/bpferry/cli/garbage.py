# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often Python looks for garbage while a command prepares something."""

from typing import Final

GARBAGE: Final = 500_000
"""New objects after which Python looks for garbage. What a command imports and plans is needed
until its end: to look after each 700 takes a sixth of the time that a start takes, and after each
20,000 still a sixteenth. A start makes 100,000."""
