# SPDX-License-Identifier: LGPL-2.1-or-later
"""Held against libvirt: its own test pairs, and its own schema."""
