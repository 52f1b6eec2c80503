# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's memory.

    build          how much there is, and its nodes
    numa           the guest's nodes, how far and how fast they are
    nodes          which number and which processors each node has
    modules        memory devices
    sizes          what sizes are rounded up to
    backing        what is behind it on the host
    shared_memory  whether other processes can see it

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
