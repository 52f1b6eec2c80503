# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key that leaves a console, and the answers after it."""

import pytest

from bpferry.cli.escape_key import escape_key
from bpferry.errors import BadInput
from bpferry.machine.console.keys import Asked, Choice, Keys, name_key, parse_key

ESCAPE = 0x1D


@pytest.mark.parametrize(
    ("text", "key", "name"),
    [
        ("^]", 0x1D, "Ctrl-]"),
        ("^A", 0x01, "Ctrl-A"),
        ("^a", 0x01, "Ctrl-A"),
        ("Ctrl-B", 0x02, "Ctrl-B"),
        ("^\\", 0x1C, "Ctrl-\\"),
        ("^_", 0x1F, "Ctrl-_"),
    ],
)
def test_keys_are_written_as_in_stty(text: str, key: int, name: str) -> None:
    """A caret or Ctrl- before a character is its control character."""
    assert key == parse_key(text)
    assert name == name_key(key)


@pytest.mark.parametrize("text", ["", "a", "^", "^^^", "^1", "^I", "^M", "^J", "^[", "^@", "None"])
def test_other_keys_are_refused(text: str) -> None:
    """What is no control character, or what other keys send too, cannot be the key."""
    with pytest.raises(ValueError, match="expected a key such as"):
        parse_key(text)


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error names the one that is wrong."""
    monkeypatch.setenv("BPFERRY_ESCAPE_KEY", "x")
    assert escape_key("^A") == 0x01
    assert escape_key("none") is None
    with pytest.raises(BadInput, match=r"^BPFERRY_ESCAPE_KEY: expected a key"):
        escape_key(None)
    monkeypatch.setenv("BPFERRY_ESCAPE_KEY", "")
    assert ESCAPE == escape_key(None)


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    ("typed", "got"),
    [
        (b"\x03\x1a\x1c", [b"\x03\x1a\x1c"]),
        (b"a\x1ddb", [b"a", Asked.ASKED, Choice.DETACH, b"b"]),
        (b"\x1dP", [Asked.ASKED, Choice.POWER_DOWN]),
        (b"\x1de", [Asked.ASKED, Choice.END]),
        (b"\x1d\x1d", [Asked.ASKED, Choice.GO_ON, b"\x1d"]),
        (b"\x1dxy", [Asked.ASKED, Choice.GO_ON, b"y"]),
        (b"\x1d\r\x1dd", [Asked.ASKED, Choice.GO_ON, Asked.ASKED, Choice.DETACH]),
    ],
)
def test_only_what_follows_the_key_is_ours(size: int, typed: bytes, got: list[object]) -> None:
    """However the bytes come, all else is the guest's, in order."""
    keys = Keys(ESCAPE)
    taken: list[object] = []
    for start in range(0, len(typed), size):
        for item in keys.take(typed[start : start + size]):
            if isinstance(item, bytes) and taken and isinstance(taken[-1], bytes):
                taken[-1] += item
            else:
                taken.append(item)

    assert got == taken
    assert keys.asking is False


@pytest.mark.parametrize("key", [b"\x1b", b"\x1b[A", b"\x1bOP", b"\x1b[15~", b"\x1b[1;5D"])
def test_a_key_of_several_bytes_is_one_answer(key: bytes) -> None:
    """None of its bytes reach the guest; what comes after it does."""
    taken = list(Keys(ESCAPE).take(b"\x1d" + key + b"xy"))

    assert [Asked.ASKED, Choice.GO_ON, b"xy"] == taken


def test_without_the_key_all_is_the_guests() -> None:
    """With 'none', nothing is looked for."""
    assert [bytes(range(256))] == list(Keys(None).take(bytes(range(256))))
