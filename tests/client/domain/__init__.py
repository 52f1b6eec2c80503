# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM is, and the two kinds of document that say it."""
