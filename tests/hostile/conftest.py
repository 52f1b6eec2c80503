# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders of root's, QEMU's object, which a user asks for, and a helper for all tests of a file."""

from tests.helper.conftest import helper, roots_folder, rss, rss_digest

__all__ = ["helper", "roots_folder", "rss", "rss_digest"]
