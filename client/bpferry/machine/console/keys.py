# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key that leaves the console, and the question after it.

Every other key belongs to the guest, Ctrl-C too. The key is written as in ``stty``: ``^A`` is
Ctrl-A, and ``none`` is no key.
"""

import enum
import re
from collections.abc import Iterator
from typing import Final

NONE: Final = "none"

KEY: Final = r"(?:\^|[Cc]trl-)([A-Za-z@\[\\\]^_])"

CONTROL: Final = 0x1F
"""What Ctrl leaves of a character (ECMA-48)."""

LETTERS: Final = 0x40
"""Where the characters begin of which Ctrl leaves something."""

ESC: Final = 0x1B

ONE_KEY: Final = rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)?"
"""What Esc sends, and other keys such as the arrows, which send several bytes (ECMA-48)."""

TAKEN: Final = {0x00, 0x09, 0x0A, 0x0D, ESC}
"""Also sent by other keys: the space bar, Tab, Enter, and Esc, with which arrow keys begin."""


class Choice(enum.Enum):
    """What to do after the question."""

    DETACH = "d"
    POWER_DOWN = "p"
    END = "e"
    GO_ON = ""


class Asked(enum.Enum):
    """That the key was pressed, and the question is to be asked."""

    ASKED = enum.auto()


def parse_key(text: str) -> int | None:
    """Return the byte of the key *text*; None for no key.

    Raises:
        ValueError: it is no key that can be used.
    """
    if text == NONE:
        return None
    found = re.fullmatch(KEY, text)
    key = ord(found[1].upper()) & CONTROL if found else 0
    if key in TAKEN:
        raise ValueError(f"expected a key such as '^]' or '^A' (Ctrl-A), or 'none', not '{text}'")
    return key


def name_key(key: int) -> str:
    """Return what people call *key*."""
    return f"Ctrl-{chr(key | LETTERS)}"


class Keys:
    """Separates what is typed at a terminal into the guest's keys and ours."""

    def __init__(self, escape: int | None) -> None:
        self.escape = escape
        self.asking = False
        """The next key is the answer."""

    def take(self, typed: bytes) -> Iterator[bytes | Asked | Choice]:
        """Yield, in order, what is for the guest and what is for us."""
        while typed:
            if self.asking:
                self.asking = False
                yield from self._answer(typed[0])
                key = re.match(ONE_KEY, typed)
                typed = typed[1 if key is None else key.end() :]
                continue
            mine = -1 if self.escape is None else typed.find(self.escape)
            if mine < 0:
                yield typed
                return
            if mine:
                yield typed[:mine]
            self.asking = True
            yield Asked.ASKED
            typed = typed[mine + 1 :]

    def _answer(self, key: int) -> Iterator[bytes | Choice]:
        letter = chr(key).lower()
        choice = next((choice for choice in Choice if choice.value == letter), Choice.GO_ON)
        yield choice
        if key == self.escape:
            yield bytes((key,))
