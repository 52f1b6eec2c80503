# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which places there are, and who gets them.

    build            the devices that others are attached to
    placement        bus and address of every device
    libvirt_order    places on PCI as in libvirt
    by_kind          places on PCI that no other kind of device moves
    homes            which place belongs to which kind
    topology         PCI buses while devices are put on them
    pci              what PCI buses take, their slots and functions
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
