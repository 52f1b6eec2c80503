# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks, CD drives and floppies.

    build             all of them
    disk_checks       refuse disks that cannot be
    drives            the devices that the guest sees
    blockdev          the block nodes behind them
    image_checks      refuse images that cannot be
    network_images    images that QEMU opens over a network
    image_secrets     the passwords and keys of images
    throttle          limits
    vhost_user_disks  disks of another process

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
