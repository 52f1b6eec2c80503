# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a guest may take to power down when its VM is stopped."""

from typing import Final

STOP_SECONDS: Final = 90
"""Unless a description or a user says otherwise; systemd gives a service as long."""

MAX_STOP_SECONDS: Final = 86400
"""A day."""
