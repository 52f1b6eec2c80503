# SPDX-License-Identifier: LGPL-2.1-or-later
"""What several tests share: a real helper, people who ask it, and counts of what is alive."""
