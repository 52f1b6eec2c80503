# SPDX-License-Identifier: LGPL-2.1-or-later
"""What refuses a VM, for tests of everything that has to be refused."""

from collections.abc import Callable
from typing import ParamSpec

import pytest

from bpferry.errors import Unsupported

P = ParamSpec("P")


def refusal_of(build: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Unsupported:
    """Return the error with which *build* refuses its arguments; fail if it does not."""
    with pytest.raises(Unsupported) as caught:
        build(*args, **kwargs)
    assert caught.value.message
    return caught.value
