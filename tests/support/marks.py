# SPDX-License-Identifier: LGPL-2.1-or-later
"""The marks that tests in several folders have in common."""

from typing import Final

import pytest

WITH_A_GUEST: Final = (
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.qemu,
    pytest.mark.guest,
    pytest.mark.slow,
)
"""Of a test in which Linux runs in a VM whose cards the host's kernel steers."""
