# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs in tools/, run as a person runs them."""
