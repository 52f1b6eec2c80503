# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much abuse: little by default, much with ``tools/test --long``."""

import os
from typing import Final, TypeVar

import pytest

T = TypeVar("T")

IS_LONG: Final = os.environ.get("BPFERRY_LONG") == "1"
"""Set by tools/test --long, which also lets a test take as long as it wants."""


def amount(short: T, long: T) -> T:
    """Return *short*, or *long* if so much is asked for."""
    return long if IS_LONG else short


IN_TWO_FORMS: Final = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.qemu,
    pytest.mark.slow,
    pytest.mark.timeout(amount(300, 0)),
]
"""The marks of a test that takes as long as it wants in its long form."""
