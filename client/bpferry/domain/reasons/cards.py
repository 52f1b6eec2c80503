# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about network cards."""

from typing import Final

from bpferry.domain.reasons.words import (
    OTHERS,
    Reason,
    for_words,
)

CARD: Final = "/domain/devices/interface"

SCRIPT: Final = "QEMU would have to run a program, which its sandbox does not allow"

OF_THE_HOST: Final = (
    "setting the MAC address and VLAN of a host card before the guest gets it needs root",
    "use a bridge, or <hostdev type='pci'> for a card that is already bound to vfio-pci",
)

FLOOR: Final = (
    "guaranteeing a rate to one card means limiting all others of the bridge, which needs root",
    "limit the others: <inbound average='KILOBYTES'/> of their cards, or 'bandwidth' in the policy",
)

EXISTING_MACVTAP: Final = (
    "use a bridge that has the interface as a port: <interface type='bridge'>; or name a macvtap "
    "that the administrator made for you, with its address as the card's: "
    "<interface type='ethernet'> with <target dev='MACVTAP' managed='no'/>"
)
"""docs/decisions/0041-no-macvtap-from-the-helper.md says why the helper makes none."""

CARDS: Final[dict[str, Reason]] = {
    f"{CARD}[@type='direct']": (
        "the tap helper makes no macvtap, which would stay after its VM, and is out of its reach",
        EXISTING_MACVTAP,
    ),
    f"{CARD}[@type='vdpa']": (
        "it needs a vDPA device of the host, which only root may open",
        "use a bridge",
    ),
    f"{CARD}[@type='hostdev']": OF_THE_HOST,
    **for_words(CARD, "type", OTHERS, "internal", "null", "vds"),
    f"{CARD}/@managed": OF_THE_HOST,
    **for_words(f"{CARD}/driver", "name", OF_THE_HOST, "kvm", "vfio"),
    **for_words(f"{CARD}/driver", "name", ("it is for Xen only", "write 'vhost' or 'qemu'"), "xen"),
    f"{CARD}/driver/@model": OF_THE_HOST,
    f"{CARD}/source/address": OF_THE_HOST,
    f"{CARD}/source/vendor": OF_THE_HOST,
    f"{CARD}/source/product": OF_THE_HOST,
    f"{CARD}/source/@missing": OF_THE_HOST,
    f"{CARD}/source/@name": OTHERS,
    f"{CARD}/source/@switchid": OTHERS,
    f"{CARD}/source/@portgroupid": OTHERS,
    f"{CARD}/source/@connectionid": OTHERS,
    f"{CARD}/teaming[@type='transient']": OF_THE_HOST,
    f"{CARD}/teaming/@persistent": OF_THE_HOST,
    f"{CARD}[@trustGuestRxFilters='yes']": (
        "it is for macvtap, whose filters libvirt changes while the guest runs",
        "remove it: a tap needs no such filter, and a macvtap that exists keeps its own",
    ),
    f"{CARD}/script": (SCRIPT, "set the tap up beforehand, and name it with managed='no'"),
    f"{CARD}/downscript": (SCRIPT, "take the tap down with whatever set it up"),
    f"{CARD}/source/ip": (
        "giving the host's end an address needs CAP_NET_ADMIN",
        "ask the administrator to give the tap its address",
    ),
    f"{CARD}/source/route": (
        "setting a route on the host needs CAP_NET_ADMIN",
        "ask the administrator to set it",
    ),
    f"{CARD}/ip/@peer": (
        "QEMU's user networking has no peer address",
        "set it in the guest",
    ),
    f"{CARD}/route": ("QEMU cannot set a route in the guest", "set it in the guest"),
    f"{CARD}/source/reconnect/@delay": (
        "QEMU retries after a fixed time",
        "write <reconnect enabled='yes' timeout='SECONDS'/>",
    ),
    f"{CARD}/virtualport": (
        "it is for ports of Open vSwitch or of 802.1Qbg/Qbh, not of a Linux bridge",
        "ask for a tap on that switch, and name it with managed='no'",
    ),
    f"{CARD}/vlan/@trunk": (
        "a trunk has trunk='yes', and at most one of its tags has a nativeMode",
        "write <vlan trunk='yes'><tag id='42'/><tag id='47' nativeMode='untagged'/></vlan>",
    ),
    f"{CARD}/vlan/tag[@id='4095']": (
        "the number is reserved (IEEE 802.1Q), and the kernel's bridges do not take it",
        "write a number from 1 to 4094",
    ),
    f"{CARD}/vlan/tag[@id='0']": (
        "0 stands for frames without a VLAN, and the kernel's bridges do not take it",
        "write a number from 1 to 4094",
    ),
    f"{CARD}/vlan/tag/@nativeMode": (
        "frames of that VLAN would have a tag on their way to the guest, and none on the way back",
        "write nativeMode='untagged', or leave nativeMode out to have tags both ways",
    ),
    f"{CARD}/bandwidth/@classID": (
        "libvirt numbers its classes on a network's bridge, which bpferry leaves as it is",
        "remove it: the limits are on the card's own tap",
    ),
    f"{CARD}/bandwidth/inbound/@floor": FLOOR,
    f"{CARD}/bandwidth/outbound/@floor": FLOOR,
    f"{CARD}/coalesce": (
        "changing a tap's coalescing (ethtool -C) needs CAP_NET_ADMIN",
        "ask the administrator to set it",
    ),
    f"{CARD}/filterref": (
        "filters are firewall rules of the host; libvirt's session mode does not apply them either",
        "ask the administrator to filter on the bridge",
    ),
}
