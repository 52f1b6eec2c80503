# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about disks, and about what stands behind them."""

from typing import Final

from bpferry.domain.reasons.words import (
    OTHERS,
    REMOVE,
    XEN,
    Reason,
)

DISK: Final = "/domain/devices/disk"

POOL: Final = (
    "only libvirt knows what is in its storage pools",
    "name what 'virsh vol-path' says: <disk type='file'> or <disk type='block'>",
)
NVME: Final = (
    "QEMU would drive it itself, without the host's kernel, which bpferry does not set up",
    "name its block device, if you may write to it, or give it to the guest: <hostdev type='pci'>",
)
VDPA: Final = (
    "it needs a device of the host that belongs to root",
    "name a file or a block device",
)
LUKS: Final = (
    "an image in LUKS is one in raw that is encrypted",
    "write type='raw', and <encryption format='luks'> in <source>",
)
OLD_CIPHER: Final = (
    "the old encryption of qcow2 images is not safe, and libvirt has given it up too",
    "convert the image with qemu-img to one with LUKS",
)
FDS: Final = ("libvirt is given such fds over its API, and bpferry has none", "name a file")
TLS: Final = (
    "which certificates are meant is a setting of libvirt",
    "reach the server through a tunnel, such as ssh -L",
)
SSH: Final = (
    "QEMU reads your own ~/.ssh/config, and takes no such file from a description",
    "write it there for this server, as UserKnownHostsFile or IdentityFile, and leave it out here",
)
RAW_COMMANDS: Final = ("sending any SCSI command to a disk of the host needs root", REMOVE)
GONE: Final = ("today's QEMU cannot do it", "use another protocol, or a file or block device")
GONE_FORMAT: Final = ("today's QEMU cannot read it", "convert it with qemu-img of an old QEMU")
DATA_FORMAT: Final = ("a file with the data of a qcow2 image is raw", "write 'raw'")

TYPES: Final = {
    "volume": POOL,
    "nvme": NVME,
    "vhostvdpa": VDPA,
}

WHOLE: Final = ("it is for a disk as a whole, and not for an image below it", REMOVE)

FORMATS: Final = {
    "iso": ("an image of a CD is raw", "write 'raw'"),
    "luks": LUKS,
    "cow": GONE_FORMAT,
    "dir": ("a folder is given to a guest as a FAT file system", "write 'fat'"),
}


def _below(what: str, reason: Reason) -> dict[str, Reason]:
    """Return the entries of what may stand in a disk, or in an image below it."""
    return {f"{DISK}/{what}": reason, f"{DISK}/**/{what}": reason}


DISKS: Final[dict[str, Reason]] = {
    **{f"{DISK}[@type='{word}']": reason for word, reason in TYPES.items()},
    **{f"{DISK}/**[@type='{word}']": reason for word, reason in TYPES.items()},
    f"{DISK}/**[@type='vhostuser']": WHOLE,
    **{f"{DISK}/driver[@type='{word}']": reason for word, reason in FORMATS.items()},
    **{f"{DISK}/**/format[@type='{word}']": reason for word, reason in FORMATS.items()},
    f"{DISK}/**/dataStore/format/@type": DATA_FORMAT,
    f"{DISK}/**/dataStore/format/metadata_cache": ("a raw file has no tables to keep", REMOVE),
    f"{DISK}/**/dataStore/source/dataStore": ("a raw file has no second one", REMOVE),
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
            "persistent reservations are made by qemu-pr-helper, which runs as root",
            "remove it, if no other VM writes to the disk",
        ),
    ),
    **_below("source[@protocol='sheepdog']", GONE),
    **_below("source[@protocol='tftp']", GONE),
    **_below("source[@protocol='vxhs']", GONE),
    **_below("source/host[@transport='rdma']", ("today's QEMU cannot do it", "write 'tcp'")),
    f"{DISK}/**/source/@startupPolicy": WHOLE,
    f"{DISK}/**/source/@path": WHOLE,
    f"{DISK}/**/source/@type": WHOLE,
    f"{DISK}/**/source/reconnect/@enabled": WHOLE,
    f"{DISK}/**/source/reconnect/@timeout": WHOLE,
    f"{DISK}/transient": (
        "bpferry makes no image that is thrown away after each run",
        "make one before each: qemu-img create -f qcow2 -F FORMAT -b FILE THROWN-AWAY.qcow2",
    ),
    f"{DISK}/@rawio": RAW_COMMANDS,
    f"{DISK}/@sgio": RAW_COMMANDS,
    f"{DISK}/backenddomain": XEN,
    f"{DISK}/target[@bus='xen']": ("it is Xen's bus", "write 'virtio'"),
    f"{DISK}/target[@bus='uml']": OTHERS,
    f"{DISK}/target[@bus='sd']": (
        "no machine that bpferry lays out has a reader for SD cards",
        "write 'virtio', or 'usb' for something that can be pulled out",
    ),
}
