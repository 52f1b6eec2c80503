# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about all devices except disks and network cards."""

from typing import Final

from bpferry.domain.reasons.words import (
    CONTAINERS,
    FREEBSD,
    IBM_Z,
    OTHERS,
    POWER,
    REMOVE,
    XEN,
    Reason,
    for_words,
)

DEVICES: Final = "/domain/devices"

SCSI: Final = (
    "sending raw SCSI commands to a host device needs root",
    "name the block device in <disk type='block'>, or the iSCSI server in <disk type='network'>",
)

MEDIATED: Final = ("it is for IBM Z machines", "write 'vfio-pci'")

VFIO_DRIVER: Final = (
    "binding a device to a driver needs root; bpferry uses the driver it is bound to",
    "remove it; any VFIO driver will do",
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
    f"{DEVICES}/hostdev/driver[@name='kvm']": ("current QEMU no longer has it", "write 'vfio'"),
    f"{DEVICES}/hostdev/driver[@name='xen']": XEN,
    f"{DEVICES}/hostdev/source/@writeFiltering": XEN,
    f"{DEVICES}/hostdev/teaming[@type='persistent']": (
        "the persistent half of a team is the virtio card, not the host device",
        "write 'transient' here, and 'persistent' on the card",
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
            "QEMU supports raw TCP and telnet here",
            "write 'raw' or 'telnet'",
        )
        for one in CHARACTERS
    },
    **{
        f"{DEVICES}/{one}/source/reconnect/@delay": (
            "QEMU retries after a fixed time",
            "write <reconnect enabled='yes' timeout='SECONDS'/>",
        )
        for one in CHARACTERS
    },
    f"{DEVICES}/channel/target[@type='xen']": XEN,
    f"{DEVICES}/console/target/model": ("it belongs to <serial>", "move it there"),
    f"{DEVICES}/console/target/@type": (
        "none of the machines that bpferry supports has such a console",
        "write 'serial' or 'virtio'",
    ),
    f"{DEVICES}/serial/target/@type": (
        "none of the machines that bpferry supports has such a port",
        "remove <target>; the machine's usual serial port is used",
    ),
    f"{DEVICES}/serial/target/model/@name": (
        "none of the machines that bpferry supports has such a port",
        "remove <model>; the machine's usual serial port is used",
    ),
    f"{DEVICES}/parallel/target/@type": ("QEMU has only one kind of parallel port", REMOVE),
    f"{DEVICES}/parallel/target/model": ("QEMU has only one kind of parallel port", REMOVE),
    f"{DEVICES}/smartcard/target": ("a smartcard has no target", REMOVE),
    f"{DEVICES}/rng/backend/log": ("random numbers are not logged", REMOVE),
}

OF_VIEWERS: Final[dict[str, Reason]] = {
    f"{DEVICES}/graphics[@type='desktop']": OTHERS,
    f"{DEVICES}/graphics[@type='rdp']": (
        "QEMU itself has no RDP server; libvirt starts qemu-rdp next to it",
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
    f"{DEVICES}/input/@model": ("QEMU has only one model of it", REMOVE),
}

OF_OTHERS: Final[dict[str, Reason]] = {
    f"{DEVICES}/controller[@type='xenbus']": XEN,
    f"{DEVICES}/controller[@type='isa']": (
        "a machine has exactly one ISA bus, which is already there",
        "remove the controller",
    ),
    f"{DEVICES}/controller/@maxEventChannels": XEN,
    f"{DEVICES}/controller/@maxGrantFrames": XEN,
    f"{DEVICES}/controller/target/@index": POWER,
    f"{DEVICES}/crypto/backend[@model='lkcf']": (
        "bpferry supports only QEMU's own implementation, not the host kernel's",
        "write 'builtin'",
    ),
    **for_words(
        f"{DEVICES}/filesystem", "type", CONTAINERS, "bind", "block", "file", "ram", "template"
    ),
    f"{DEVICES}/filesystem/driver[@type='handle']": (
        "current QEMU no longer has it",
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
        "current virtiofsd has no option for it",
        REMOVE,
    ),
    f"{DEVICES}/iommu[@model='smmuv3']": (
        "bpferry does not support the IOMMU of Arm machines",
        "write 'virtio'",
    ),
    f"{DEVICES}/memballoon[@model='xen']": ("it is Xen's balloon", "write 'virtio', or 'none'"),
    f"{DEVICES}/memory[@model='sgx-epc']": (
        "SGX memory is not supported",
        "remove the module",
    ),
    f"{DEVICES}/nvram": POWER,
    **for_words(
        f"{DEVICES}/panic",
        "model",
        ("it is for IBM Z or Power machines", "remove the model"),
        "pseries",
        "s390",
    ),
    f"{DEVICES}/shmem/model[@type='ivshmem']": (
        "QEMU replaced it by two others",
        "write 'ivshmem-plain', or 'ivshmem-doorbell' with a server",
    ),
    **for_words(f"{DEVICES}/tpm", "model", POWER, "spapr-tpm-proxy", "tpm-spapr"),
    f"{DEVICES}/tpm/backend/encryption": (
        "bpferry does not encrypt the TPM's state",
        "remove it; the state is in a folder that only you can read",
    ),
    f"{DEVICES}/watchdog[@model='diag288']": IBM_Z,
    f"{DEVICES}/watchdog[@action='dump']": (
        "bpferry does not dump a guest's memory",
        "write 'pause', which stops the guest so that it can be examined",
    ),
}

ALL: Final = {**FOR_THE_HOST, **ADDRESSES, **OF_CHARACTERS, **OF_VIEWERS, **OF_OTHERS}
