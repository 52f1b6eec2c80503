# SPDX-License-Identifier: LGPL-2.1-or-later
"""The other devices.

    build            all of them
    balloon          the memory balloon
    rngs             random number generators
    watchdogs        watchdogs
    panics           devices by which a guest says that it has panicked
    vsock            sockets between guest and host
    filesystems      shared folders: virtiofs, 9p, MTP
    shared_memories  memory that guests share (ivshmem)

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
