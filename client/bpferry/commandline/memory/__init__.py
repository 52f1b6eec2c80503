# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's memory.

    build          how much there is, and its nodes
    modules        memory devices
    backing        what is behind it on the host
    shared_memory  whether other processes can see it

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
