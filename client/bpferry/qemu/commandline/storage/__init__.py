# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks, CD drives and floppies.

    disks             all of them; disk_checks refuses what cannot be
    drives            the devices that the guest sees
    blockdev          the block nodes behind them; image_checks refuses what cannot be
    network_images    images that QEMU opens over a network
    throttle          limits
    queue_threads     which thread serves which queue
    vhost_user_disks  disks of another process

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
