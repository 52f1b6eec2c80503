# SPDX-License-Identifier: LGPL-2.1-or-later
"""The other devices.

    extras           all of them
    balloon  rngs  watchdogs  panics  vsock
    filesystems      shared folders: virtiofs, 9p, MTP
    shared_memories  memory that guests share (ivshmem)
    transitional     which kind of place the older virtio devices need

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
