# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runs in the host that the tests boot, as its root."""
