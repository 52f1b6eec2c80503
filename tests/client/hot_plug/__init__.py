# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards and disks that are plugged into a VM that runs, and taken out of it."""
