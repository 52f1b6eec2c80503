# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that moves to another host."""
