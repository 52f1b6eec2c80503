# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests of the helper's role bpf: each module, with a real kernel where one is needed."""
