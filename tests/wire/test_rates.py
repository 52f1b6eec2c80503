# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rates as people write them, and as they are shown to people."""

import pytest

from bpferry_wire.limits import MAX_RATE, MIN_RATE
from bpferry_wire.rates import limits_in_words, parse_rate, rate_in_words


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("8 kbit/s", MIN_RATE),
        ("100 Mbit/s", 12_500_000),
        ("100Mbit/s", 12_500_000),
        ("1 Gbit/s", 125_000_000),
        ("12 MB/s", 12_000_000),
        ("1 kB/s", 1000),
        ("4 GB/s", 4_000_000_000),
    ],
)
def test_bits_and_bytes_are_told_apart(text: str, rate: int) -> None:
    """Eight of the one are one of the other, and a thousand is a thousand."""
    assert rate == parse_rate(text)


@pytest.mark.parametrize(
    "text", ["", "100", "100 Mbit", "100 mbit/s", "1.5 Mbit/s", "-1 MB/s", "0 MB/s", "1e3 MB/s",
             "100  Mbit/s", "1 MiB/s", "9" * 4000 + " MB/s"],
)  # fmt: skip
def test_anything_else_is_no_rate(text: str) -> None:
    """The message shows how one is written."""
    with pytest.raises(ValueError, match="must be a rate such as '100 Mbit/s' or '12 MB/s'"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["7 kbit/s", "5 GB/s", "35 Gbit/s"])
def test_a_rate_has_bounds(text: str) -> None:
    """They are those of the wire."""
    with pytest.raises(ValueError, match=r"must be from 8 kbit/s to 34\.\d+ Gbit/s"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1000, "8 kbit/s"),
        (12_500_000, "100 Mbit/s"),
        (12_500_001, "100.000008 Mbit/s"),
        (125_000_000, "1 Gbit/s"),
        (12, "0.096 kbit/s"),
        (MAX_RATE, "34.35973836 Gbit/s"),
    ],
)
def test_a_rate_in_words_is_exact(rate: int, words: str) -> None:
    """Two that differ are never the same in words, so that a refusal shows both."""
    assert words == rate_in_words(rate)


def test_the_limits_of_a_card_in_words() -> None:
    """0 is no limit."""
    said = [limits_in_words(*rates) for rates in ((0, 0), (1000, 0), (0, 1000), (2000, 1000))]

    assert said == [
        "",
        "at most 8 kbit/s to the VM",
        "at most 8 kbit/s from it",
        "at most 16 kbit/s to the VM, at most 8 kbit/s from it",
    ]
