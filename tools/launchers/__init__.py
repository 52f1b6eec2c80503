# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is played, for other launchers, and libvirt's session mode on it."""
