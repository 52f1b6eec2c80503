# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine around the devices.

    build            name, machine type, accelerator, and all that follows
    cpu              processors: kind and features
    topology         how many of them, and how they are arranged
    features         what the machine has besides its devices
    clock            what the guest's clock is set to, and its timers
    boot             kernel, order of devices, menu
    firmware         BIOS and UEFI
    firmware_choice  which UEFI, by its descriptor
    smbios           what the firmware says about the machine
    iothreads        threads for disks
    pinning          which processors of the host threads run on
    limits           how much QEMU may take of the host
    iommu            address translation for devices

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
