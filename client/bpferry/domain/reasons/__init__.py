# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why parts of a libvirt document are refused, and what to do instead.

    words    what is said more than once
    system   what concerns the VM as a whole
    cards    network cards
    disks    disks and what is behind them
    devices  all other devices

Each is a table from a pattern (``patterns``) to the reason, which follows a colon in messages, and
to the way out. ``refused`` puts them together.

Depends on: nothing.
Never does: anything; it is only text.
"""
