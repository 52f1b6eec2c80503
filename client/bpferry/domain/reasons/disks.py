# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about disks and their images."""

from typing import Final

from bpferry.domain.reasons.words import (
    OTHERS,
    REMOVE,
    XEN,
    Reason,
)

DISK: Final = "/domain/devices/disk"

POOL: Final = (
    "only libvirt knows its storage pools",
    "name the path that 'virsh vol-path' prints, in <disk type='file'> or <disk type='block'>",
)
NVME: Final = (
    "QEMU's own NVMe driver is not supported",
    "name its block device, or give the whole device to the guest: <hostdev type='pci'>",
)
VDPA: Final = (
    "it needs a vDPA device of the host, which only root may open",
    "name a file or a block device",
)
LUKS: Final = (
    "a LUKS image is a raw image that is encrypted",
    "write type='raw', and <encryption format='luks'> in <source>",
)
OLD_CIPHER: Final = (
    "qcow2's old encryption is not safe; QEMU and libvirt no longer support it",
    "convert the image to LUKS with qemu-img",
)
FDS: Final = (
    "such fds are passed to libvirt over its API, which bpferry does not have",
    "name a file",
)
TLS: Final = (
    "the certificates are part of libvirt's configuration",
    "reach the server through a tunnel, for example 'ssh -L'",
)
SSH: Final = (
    "QEMU has no option for it; it reads ~/.ssh/config",
    "set UserKnownHostsFile or IdentityFile for this server there, and remove it here",
)
RAW_COMMANDS: Final = ("sending raw SCSI commands to a host disk needs root", REMOVE)
GONE: Final = ("current QEMU no longer has it", "use another protocol, a file or a block device")
GONE_FORMAT: Final = (
    "current QEMU no longer has this format",
    "convert the image with an older qemu-img",
)
DATA_FORMAT: Final = ("the data file of a qcow2 image is raw", "write 'raw'")

TYPES: Final = {
    "volume": POOL,
    "nvme": NVME,
    "vhostvdpa": VDPA,
}

WHOLE: Final = ("it applies to a whole disk, not to one of its backing images", REMOVE)

FORMATS: Final = {
    "iso": ("CD images are raw", "write 'raw'"),
    "luks": LUKS,
    "cow": GONE_FORMAT,
    "dir": ("the guest sees a folder as a FAT file system", "write 'fat'"),
}


def _below(what: str, reason: Reason) -> dict[str, Reason]:
    """Return the entries of *what* in a disk, and in its backing images."""
    return {f"{DISK}/{what}": reason, f"{DISK}/**/{what}": reason}


DISKS: Final[dict[str, Reason]] = {
    **{f"{DISK}[@type='{word}']": reason for word, reason in TYPES.items()},
    **{f"{DISK}/**[@type='{word}']": reason for word, reason in TYPES.items()},
    f"{DISK}/**[@type='vhostuser']": WHOLE,
    **{f"{DISK}/driver[@type='{word}']": reason for word, reason in FORMATS.items()},
    **{f"{DISK}/**/format[@type='{word}']": reason for word, reason in FORMATS.items()},
    f"{DISK}/**/dataStore/format/@type": DATA_FORMAT,
    f"{DISK}/**/dataStore/format/metadata_cache": ("a raw file has no metadata to cache", REMOVE),
    f"{DISK}/**/dataStore/source/dataStore": ("a raw file has no data file of its own", REMOVE),
    **_below("source/@pool", POOL),
    **_below("source/@volume", POOL),
    **_below("source/@mode", POOL),
    **_below("source/@namespace", NVME),
    **_below("source/@managed", NVME),
    **_below("source/address", NVME),
    **_below("source[@type='pci']", NVME),
    **_below("source/@fdgroup", FDS),
    **_below("source/@tls", TLS),
    **_below("source/@tlsHostname", TLS),
    **_below("source/encryption[@format='default']", OLD_CIPHER),
    **_below("source/encryption[@format='qcow']", OLD_CIPHER),
    f"{DISK}/encryption[@format='default']": OLD_CIPHER,
    f"{DISK}/encryption[@format='qcow']": OLD_CIPHER,
    **_below("source/knownHosts", SSH),
    **_below("source/identity/@keyfile", SSH),
    **_below(
        "source/reservations",
        (
            "persistent reservations go through qemu-pr-helper, which runs as root",
            "remove it, if no other VM writes to the disk",
        ),
    ),
    **_below("source[@protocol='sheepdog']", GONE),
    **_below("source[@protocol='tftp']", GONE),
    **_below("source[@protocol='vxhs']", GONE),
    **_below("source/host[@transport='rdma']", ("current QEMU no longer has it", "write 'tcp'")),
    f"{DISK}/**/source/@startupPolicy": WHOLE,
    f"{DISK}/**/source/@path": WHOLE,
    f"{DISK}/**/source/@type": WHOLE,
    f"{DISK}/**/source/reconnect/@enabled": WHOLE,
    f"{DISK}/**/source/reconnect/@timeout": WHOLE,
    f"{DISK}/transient": (
        "bpferry does not create throw-away images",
        "create one before each run: qemu-img create -f qcow2 -F FORMAT -b FILE SCRATCH.qcow2",
    ),
    f"{DISK}/@rawio": RAW_COMMANDS,
    f"{DISK}/@sgio": RAW_COMMANDS,
    f"{DISK}/backenddomain": XEN,
    f"{DISK}/target[@bus='xen']": ("it is Xen's bus", "write 'virtio'"),
    f"{DISK}/target[@bus='uml']": OTHERS,
    f"{DISK}/target[@bus='sd']": (
        "none of the machines that bpferry supports has an SD card reader",
        "write 'virtio', or 'usb' for a removable one",
    ),
}
