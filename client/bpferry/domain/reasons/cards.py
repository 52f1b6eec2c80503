# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about network cards."""

from typing import Final

from bpferry.domain.reasons.words import (
    OTHERS,
    Reason,
    for_words,
)

CARD: Final = "/domain/devices/interface"

SCRIPT: Final = "it would run a program with the rights of QEMU, whose sandbox lets it start none"

OF_THE_HOST: Final = (
    "libvirt sets its address and VLAN before it gives a card of the host away, which needs root",
    "use a bridge, a tap with vhost, or <hostdev type='pci'> for a card that is bound to vfio-pci",
)

CARDS: Final[dict[str, Reason]] = {
    f"{CARD}[@type='direct']": (
        "macvtap needs a privilege over an interface of the host (CAP_NET_ADMIN)",
        "use a bridge that the interface is a port of: <interface type='bridge'>",
    ),
    f"{CARD}[@type='vdpa']": (
        "it needs a device of the host that belongs to root",
        "use a bridge, or a tap with vhost",
    ),
    f"{CARD}[@type='hostdev']": OF_THE_HOST,
    **for_words(CARD, "type", OTHERS, "internal", "null", "vds"),
    f"{CARD}/@managed": OF_THE_HOST,
    **for_words(f"{CARD}/driver", "name", OF_THE_HOST, "kvm", "vfio"),
    **for_words(
        f"{CARD}/driver", "name", ("it is for Xen alone", "write 'vhost' or 'qemu'"), "xen"
    ),
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
        "libvirt changes the filters of a macvtap for it while the guest runs",
        "remove it: a tap passes on what the guest asks for",
    ),
    f"{CARD}/script": (SCRIPT, "have the tap set up before, and use it with managed='no'"),
    f"{CARD}/downscript": (SCRIPT, "have the tap taken down by who has set it up"),
    f"{CARD}/source/ip": (
        "giving the host's side an address is for who owns the network",
        "have the administrator give the tap its address",
    ),
    f"{CARD}/source/route": (
        "a route of the host is for who owns the network",
        "have the administrator set it",
    ),
    f"{CARD}/ip/@peer": (
        "QEMU gives the guest one address and knows no other end",
        "set it in the guest",
    ),
    f"{CARD}/route": ("QEMU cannot set a route in the guest", "set it in the guest"),
    f"{CARD}/source/reconnect/@delay": (
        "a card tries again after a fixed time",
        "write <reconnect enabled='yes' timeout='SECONDS'/>",
    ),
    f"{CARD}/virtualport": (
        "a port of Open vSwitch, or of a switch after 802.1Qbg or 802.1Qbh, is for who owns it",
        "have a tap on that switch made, and use it with managed='no'",
    ),
    f"{CARD}/vlan": (
        "a tag for a port of a bridge is for who owns the bridge",
        "use a bridge that is in the VLAN",
    ),
    f"{CARD}/bandwidth": (
        "limits on a tap are traffic control (tc), which is for who owns the network",
        "have the administrator set them on the tap or the bridge",
    ),
    f"{CARD}/coalesce": (
        "a setting of the host's side of a tap (ethtool -C) is for who owns the network",
        "have the administrator set it",
    ),
    f"{CARD}/filterref": (
        "filters are rules of the host's firewall, which libvirt's session mode has none of either",
        "have the administrator filter on the bridge",
    ),
}
