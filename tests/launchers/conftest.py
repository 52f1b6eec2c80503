# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every test here must leave as it was."""

from tests.steering.conftest import nothing_left

__all__ = ["nothing_left"]
