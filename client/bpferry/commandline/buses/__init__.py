# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which places there are, and who gets them.

    build            the devices that others are attached to
    placement        bus and address of every device
    pci              slots and functions of PCI buses
    usb              ports of USB buses
    virtio_ports     ports of virtio-serial controllers
    drive_addresses  places of disks on their controllers
    controllers      the controllers themselves
    pci_controllers  those of PCI: bridges, ports, switches
    usb_controllers  those of USB
    hubs             USB hubs
    controller_ids   what they are called

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
