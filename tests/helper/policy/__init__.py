# SPDX-License-Identifier: LGPL-2.1-or-later
"""The administrator's policy: the file, its keys, its mistakes, and what it decides."""
