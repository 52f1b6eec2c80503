# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real helper with less patience, so that a test sees a deadline pass and need not wait long.

The deadlines of the real one are in docs/protocol.md, which tests/docs holds against the code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.helper_process import NO_LIMITS, HelperProcess, helper_folder, running

FIRST_REQUEST_S: Final = 2.0
NEXT_REQUEST_S: Final = 6.0
"""As the constants of the same names, a fifth as long."""


class HastyHelper(HelperProcess):
    """A helper of the role bpf. Made by ``hasty_helper``."""

    first = (
        "from bpferry_helper import connection;"
        f"connection.FIRST_REQUEST_S = {FIRST_REQUEST_S};"
        f"connection.NEXT_REQUEST_S = {NEXT_REQUEST_S}"
    )


@contextmanager
def hasty_helper() -> Iterator[HelperProcess]:
    """Run one and take everything down again."""
    with helper_folder() as folder:
        helper = HastyHelper(folder, (), {})
        with running(helper, NO_LIMITS, "", start=True):
            yield helper
