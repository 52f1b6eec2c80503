# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host that the guest gets for itself.

    build  all of them
    usb    USB devices
    scsi   SCSI targets of the kernel
    vfio   PCI and mediated devices

A user may have those that the administrator has prepared, whose node in /dev belongs to the user.
Nothing is taken away from a driver of the host here.

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
