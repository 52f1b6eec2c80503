# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about all devices but disks and network cards."""

from typing import Final

from bpferry.domain.reasons.words import (
    CONTAINERS,
    FREEBSD,
    IBM_Z,
    KEPT_BY_LIBVIRT,
    OTHERS,
    POWER,
    REMOVE,
    XEN,
    Reason,
    for_words,
)

DEVICES: Final = "/domain/devices"

SCSI: Final = (
    "sending SCSI commands to a device of the host needs root",
    "name the block device: <disk type='block'>; or the server of iSCSI: <disk type='network'>",
)

MEDIATED: Final = ("it is for machines of IBM Z", "write 'vfio-pci'")

VFIO_DRIVER: Final = (
    "bpferry binds no device to a driver: that is for root, and was done before",
    "remove it; a device that is bound to any driver of VFIO will do",
)

ADDRESS_PARTS: Final = ("@cssid", "@ssid", "@devno", "@reg", "zpci")

CHARACTERS: Final = (
    "serial",
    "parallel",
    "console",
    "channel",
    "redirdev",
    "smartcard",
    "rng/backend",
)

FOR_THE_HOST: Final[dict[str, Reason]] = {
    f"{DEVICES}/hostdev[@type='scsi']": SCSI,
    f"{DEVICES}/hostdev/@sgio": SCSI,
    f"{DEVICES}/hostdev/@rawio": SCSI,
    f"{DEVICES}/hostdev/readonly": SCSI,
    f"{DEVICES}/hostdev/shareable": SCSI,
    f"{DEVICES}/hostdev/source/adapter": SCSI,
    f"{DEVICES}/hostdev/source/host": SCSI,
    f"{DEVICES}/hostdev/source/@name": SCSI,
    f"{DEVICES}/hostdev/source/auth": SCSI,
    f"{DEVICES}/hostdev/source/initiator": SCSI,
    f"{DEVICES}/hostdev/source/address/@target": SCSI,
    f"{DEVICES}/hostdev/source/address/@unit": SCSI,
    **for_words(f"{DEVICES}/hostdev/source", "protocol", SCSI, "adapter", "iscsi"),
    f"{DEVICES}/hostdev[@mode='capabilities']": CONTAINERS,
    f"{DEVICES}/hostdev/ip": CONTAINERS,
    f"{DEVICES}/hostdev/route": CONTAINERS,
    f"{DEVICES}/hostdev/source/char": CONTAINERS,
    f"{DEVICES}/hostdev/source/block": CONTAINERS,
    f"{DEVICES}/hostdev/source/interface": CONTAINERS,
    **for_words(f"{DEVICES}/hostdev", "model", MEDIATED, "vfio-ap", "vfio-ccw"),
    f"{DEVICES}/hostdev/driver/@model": VFIO_DRIVER,
    f"{DEVICES}/hostdev/driver[@name='kvm']": ("today's QEMU cannot do it", "write 'vfio'"),
    f"{DEVICES}/hostdev/driver[@name='xen']": XEN,
    f"{DEVICES}/hostdev/source/@writeFiltering": XEN,
    f"{DEVICES}/hostdev/teaming[@type='persistent']": (
        "what goes on while a device of the host is away is a network card",
        "write 'transient' here, and 'persistent' for the card",
    ),
    f"{DEVICES}/hostdev[@type='net']": CONTAINERS,
    f"{DEVICES}/hostdev[@type='misc']": CONTAINERS,
    f"{DEVICES}/hostdev[@type='storage']": CONTAINERS,
}

ADDRESSES: Final[dict[str, Reason]] = {
    **{f"{DEVICES}/*/address/{part}": IBM_Z for part in ADDRESS_PARTS},
    f"{DEVICES}/*/address/@reg": POWER,
    f"{DEVICES}/*/address[@type='ccw']": IBM_Z,
    f"{DEVICES}/*/address[@type='spapr-vio']": POWER,
    f"{DEVICES}/*/boot/@loadparm": IBM_Z,
}

OF_CHARACTERS: Final[dict[str, Reason]] = {
    **{f"{DEVICES}/{one}[@type='nmdm']": FREEBSD for one in CHARACTERS},
    **{f"{DEVICES}/{one}/source/@master": FREEBSD for one in CHARACTERS},
    **{f"{DEVICES}/{one}/source/@slave": FREEBSD for one in CHARACTERS},
    **{
        f"{DEVICES}/{one}/protocol/@type": (
            "QEMU speaks plain text or Telnet here",
            "write 'raw' or 'telnet'",
        )
        for one in CHARACTERS
    },
    **{
        f"{DEVICES}/{one}/source/reconnect/@delay": (
            "QEMU tries again after a fixed time",
            "write <reconnect enabled='yes' timeout='SECONDS'/>",
        )
        for one in CHARACTERS
    },
    f"{DEVICES}/channel/target[@type='xen']": XEN,
    f"{DEVICES}/console/target/model": ("it is for <serial>", "write it there"),
    f"{DEVICES}/console/target/@type": (
        "no machine that bpferry lays out has such a console",
        "write 'serial' or 'virtio'",
    ),
    f"{DEVICES}/serial/target/@type": (
        "no machine that bpferry lays out has such a port",
        "leave <target> out: a serial port of the machine's own kind is taken",
    ),
    f"{DEVICES}/serial/target/model/@name": (
        "no machine that bpferry lays out has such a port",
        "leave <model> out: a serial port of the machine's own kind is taken",
    ),
    f"{DEVICES}/parallel/target/@type": ("a parallel port has no kinds", REMOVE),
    f"{DEVICES}/parallel/target/model": ("a parallel port has no kinds", REMOVE),
    f"{DEVICES}/smartcard/target": ("a smart card has no kinds of places", REMOVE),
    f"{DEVICES}/rng/backend/log": ("random numbers are kept in no log", REMOVE),
}

OF_VIEWERS: Final[dict[str, Reason]] = {
    f"{DEVICES}/graphics[@type='desktop']": OTHERS,
    f"{DEVICES}/graphics[@type='rdp']": (
        "QEMU has no RDP of its own; libvirt starts qemu-rdp beside it",
        "use type='vnc' or 'spice'",
    ),
    f"{DEVICES}/graphics/@username": ("it is for RDP", REMOVE),
    f"{DEVICES}/graphics/@replaceUser": ("it is for RDP", REMOVE),
    f"{DEVICES}/graphics/@multiUser": ("it is for RDP", REMOVE),
    f"{DEVICES}/graphics/listen[@type='network']": (
        "only libvirt knows the addresses of its networks",
        "write the address: <listen type='address' address='192.0.2.1'/>",
    ),
    f"{DEVICES}/graphics/listen/@network": (
        "only libvirt knows the addresses of its networks",
        "write the address: <listen type='address' address='192.0.2.1'/>",
    ),
    **for_words(f"{DEVICES}/video/model", "type", OTHERS, "gop", "vbox", "xen"),
    f"{DEVICES}/video/driver/@vgaconf": FREEBSD,
    f"{DEVICES}/sound[@model='ich7']": ("QEMU has no such card", "write 'ich6' or 'ich9'"),
    f"{DEVICES}/input[@bus='xen']": ("it is Xen's bus", "write 'usb' or 'virtio'"),
    f"{DEVICES}/input/@model": ("QEMU has one kind of it", REMOVE),
}

OF_OTHERS: Final[dict[str, Reason]] = {
    f"{DEVICES}/controller[@type='xenbus']": XEN,
    f"{DEVICES}/controller[@type='isa']": (
        "the machine has the one bus that there can be",
        "remove the controller",
    ),
    f"{DEVICES}/controller/@maxEventChannels": XEN,
    f"{DEVICES}/controller/@maxGrantFrames": XEN,
    f"{DEVICES}/controller/target/@index": POWER,
    f"{DEVICES}/crypto/backend[@model='lkcf']": (
        "bpferry has QEMU do the work itself, and not the host's kernel",
        "write 'builtin'",
    ),
    **for_words(
        f"{DEVICES}/filesystem", "type", CONTAINERS, "bind", "block", "file", "ram", "template"
    ),
    f"{DEVICES}/filesystem/driver[@type='handle']": (
        "today's QEMU cannot do it",
        "write 'path' or 'virtiofs'",
    ),
    **for_words(f"{DEVICES}/filesystem/driver", "type", CONTAINERS, "loop", "nbd", "ploop"),
    f"{DEVICES}/filesystem/driver/@format": CONTAINERS,
    **{
        f"{DEVICES}/filesystem/source/@{name}": CONTAINERS
        for name in ("dev", "file", "name", "units", "usage")
    },
    f"{DEVICES}/filesystem/space_*": CONTAINERS,
    f"{DEVICES}/filesystem/binary/lock": (
        "today's virtiofsd has no such switch",
        REMOVE,
    ),
    f"{DEVICES}/iommu[@model='smmuv3']": (
        "bpferry gives machines of Arm no IOMMU of their own",
        "write 'virtio'",
    ),
    f"{DEVICES}/memballoon[@model='xen']": ("it is Xen's balloon", "write 'virtio', or 'none'"),
    f"{DEVICES}/memory[@model='sgx-epc']": (
        "bpferry gives guests no protected memory (SGX)",
        "remove the module",
    ),
    f"{DEVICES}/nvram": POWER,
    **for_words(
        f"{DEVICES}/panic",
        "model",
        ("it is for machines of IBM Z or Power", "leave the model out"),
        "pseries",
        "s390",
    ),
    f"{DEVICES}/shmem/model[@type='ivshmem']": (
        "QEMU has two others in its place",
        "write 'ivshmem-plain', or 'ivshmem-doorbell' with a server",
    ),
    **for_words(f"{DEVICES}/tpm", "model", POWER, "spapr-tpm-proxy", "tpm-spapr"),
    f"{DEVICES}/tpm/backend/encryption": (
        KEPT_BY_LIBVIRT,
        "remove it; the TPM's state is in a folder that only you can read",
    ),
    f"{DEVICES}/watchdog[@model='diag288']": IBM_Z,
    f"{DEVICES}/watchdog[@action='dump']": (
        "bpferry writes no dump of a guest's memory",
        "write 'pause', which keeps the guest stopped as it is",
    ),
}

ALL: Final = {**FOR_THE_HOST, **ADDRESSES, **OF_CHARACTERS, **OF_VIEWERS, **OF_OTHERS}
