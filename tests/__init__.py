# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests of bpferry: one folder for each package, and what they share in ``support``."""
