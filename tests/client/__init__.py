# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests of the client. The helper they talk to is a small one of their own, often a bad one."""
