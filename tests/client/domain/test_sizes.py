# SPDX-License-Identifier: LGPL-2.1-or-later
"""Amounts of memory, in libvirt's units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.domain.sizes import MAX_BYTES, parse_size, parse_written, split_size


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("1", "KiB", 1024),
        ("3", "k", 3072),
        ("2", "KB", 2000),
        ("1", "GiB", 2**30),
        (" 7 ", "bytes", 7),
        ("1", "mib", 2**20),
    ],
)
def test_units(text: str, unit: str, amount: int) -> None:
    """Each unit is what libvirt's manual says."""
    assert amount == parse_size(text, unit)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "0x10", "1 2", "9" * 31])
def test_what_is_not_an_amount(text: str) -> None:
    """Anything but digits is refused."""
    with pytest.raises(ValueError, match="expected"):
        parse_size(text, "KiB")


@given(st.integers(0, MAX_BYTES))
def test_written_and_read_again(amount: int) -> None:
    """An amount is the same after it was written with a unit."""
    number, unit = split_size(amount)

    assert amount == parse_written(f"{number} {unit}")
