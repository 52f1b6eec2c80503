# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is checked about the text of the project: linters, types, sizes, paths."""
