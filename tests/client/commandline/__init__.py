# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line, family by family, by table."""
