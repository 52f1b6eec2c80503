# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders of root's, and QEMU's object, which a user asks for."""

from tests.helper.conftest import roots_folder, rss, rss_digest

__all__ = ["roots_folder", "rss", "rss_digest"]
