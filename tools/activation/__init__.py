# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd does for a helper, where systemd does not run or has no way to do it.

    activator     listens, and starts the helper when somebody connects
    capabilities  the helper's own user with exactly its capabilities

Depends on: the capabilities in bpferry_helper, and util-linux; the activator, which is run as a
script, on Python's own library alone.
Never does: put a helper into the rest of its unit's sandbox.
"""
