# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why some well-known parts of a libvirt document are refused, and what to do instead.

Whatever the model does not know is refused by its path in any case. Here are words for what people
have in their documents, so that the refusal says more than that. The longest path that fits counts,
and what stands below it is meant too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

CARD: Final = "/domain/devices/interface"

GROUP: Final = "it needs a control group, and libvirt's session mode has none either"

SHARES: Final = (GROUP, "run bpferry in a scope: systemd-run --user --scope -p CPUWeight=200")
QUOTA: Final = (GROUP, "run bpferry in a scope: systemd-run --user --scope -p CPUQuota=150%")
RESCTRL: Final = (
    "caches and memory bandwidth are shared out by the host's resctrl, which is root's",
    "have the administrator set it up, and leave it out here",
)

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "/domain/cputune/shares": SHARES,
    **{
        f"/domain/cputune/{of}{what}": QUOTA
        for of in ("", "global_", "emulator_", "iothread_")
        for what in ("period", "quota")
    },
    "/domain/cputune/cachetune": RESCTRL,
    "/domain/cputune/memorytune": RESCTRL,
    "/domain/blkiotune": (
        GROUP,
        "limit disks by <iotune>, or use a scope: systemd-run --user --scope -p IOWeight=50",
    ),
    f"{CARD}/script": (
        "it would run a program with the rights of QEMU, and QEMU's sandbox lets it start none",
        "have the tap set up before, and use it with managed='no'",
    ),
    f"{CARD}/downscript": (
        "it would run a program with the rights of QEMU, and QEMU's sandbox lets it start none",
        "have the tap taken down by who has set it up",
    ),
    f"{CARD}/source/ip": (
        "giving the host's side an address is for who owns the network",
        "have the administrator give the tap its address",
    ),
    f"{CARD}/source/route": (
        "a route of the host is for who owns the network",
        "have the administrator set it",
    ),
    f"{CARD}/route": ("QEMU cannot set a route in the guest", "set it in the guest"),
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
    f"{CARD}/@managed": (
        "a card of the host is a device that only root can give away",
        "use a bridge, or a tap with vhost",
    ),
}
"""XPaths without numbers: why, and what to do. ``[@name='word']`` is one word of an attribute, and
an element with it; ``[.='word']`` is the text of an element."""


def find_reason(
    path: str, attributes: Mapping[str, str] = NOTHING, text: str = ""
) -> tuple[str, str] | None:
    """Return why what stands at *path* is refused, and what to do; None if it is not listed.

    *attributes* are those of the element, and *text* is the value of an attribute.
    """
    around, _, name = path.rpartition("/@")
    words = {name: text} if around else attributes
    for attribute, word in words.items():
        found = REFUSED.get(f"{around or path}[@{attribute}='{word}']")
        if found:
            return found
    while path:
        if path in REFUSED:
            return REFUSED[path]
        path = path.rpartition("/")[0]
    return None


def find_reason_of_value(path: str, text: str) -> tuple[str, str] | None:
    """Return the same for the value *text* of a place that is supported as such."""
    around, _, name = path.rpartition("/@")
    return REFUSED.get(f"{around}[@{name}='{text}']" if around else f"{path}[.='{text}']")
