# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd does for a helper, for machines where systemd does not run or cannot do it.

    activator     listens, and starts the helper when somebody connects
    capabilities  the helper's own user with exactly its capabilities

Depends on: the capabilities in bpferry_helper, and util-linux; the activator, which runs as a
script, only on Python's own library.
Never does: put a helper into the rest of its unit's sandbox.
"""
