# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helper: its modules one by one, and the real process in front of hostile clients."""
