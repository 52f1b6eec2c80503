# SPDX-License-Identifier: LGPL-2.1-or-later
"""What refuses a VM, for tests of everything that has to be refused."""

from collections.abc import Callable

import pytest

from bpferry.errors import Unsupported


def refusal_of(build: Callable[[], object]) -> Unsupported:
    """Return the error with which *build* refuses; fail if it does not."""
    with pytest.raises(Unsupported) as caught:
        build()
    assert caught.value.message
    return caught.value
