# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sets of numbers, as documents write them."""

import pytest

from bpferry.commandline.numbers import format_ranges, parse_numbers
from bpferry.errors import Unsupported


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", (0,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-3,^1,8", (0, 2, 3, 8)),
        ("8,1-2", (1, 2, 8)),
        ("^1,0-2", (0, 1, 2)),
    ],
)
def test_parse(text: str, numbers: tuple[int, ...]) -> None:
    """A set is read from left to right; what is excluded has to be in it by then."""
    assert numbers == parse_numbers(text, "key")


@pytest.mark.parametrize("text", ["3-1", "0-99999", "^1", "1,^1"])
def test_impossible_sets_are_refused(text: str) -> None:
    """Ranges that run backwards or beyond bounds, and sets without a number, are refused."""
    with pytest.raises(Unsupported) as caught:
        parse_numbers(text, "key")

    assert "key" == caught.value.element


@pytest.mark.parametrize(
    ("numbers", "ranges"), [((), []), ((4,), ["4"]), ((0, 1, 2, 5, 7, 8), ["0-2", "5", "7-8"])]
)
def test_format(numbers: tuple[int, ...], ranges: list[str]) -> None:
    """Neighbours become one range."""
    assert ranges == list(format_ranges(numbers))
