# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's object, which a user asks for."""

from tests.helper.conftest import rss, rss_digest

__all__ = ["rss", "rss_digest"]
