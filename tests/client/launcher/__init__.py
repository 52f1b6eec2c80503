# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another launcher's command line: how it is read, and what becomes of its cards."""
