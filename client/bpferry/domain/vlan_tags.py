# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VLANs of a card: where libvirt and the model write them differently.

libvirt has one list, in which an attribute tells a VLAN whose frames have no tag from the others:

    <vlan trunk='yes'><tag id='42'/><tag id='47' nativeMode='untagged'/></vlan>

The model has ``vlan`` for that one, and ``tagged_vlans``. So their elements get a name of their own
when a document is read, and lose it when one is written. In the native form a range is one entry:

    vlan = 47
    tagged-vlans = [42, "50-60"]
"""

import re
from typing import TYPE_CHECKING, Final

from bpferry.domain.binding import NAMESPACES
from bpferry_wire.limits import MAX_VLAN

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

VLANS: Final = "devices/interface/vlan"
TAGGED: Final = f"{{{NAMESPACES['bpferry']}}}tag"

RANGE: Final = r"([1-9][0-9]{0,3})-([1-9][0-9]{0,3})"


def tell_apart(root: "Element") -> None:
    """Rename the tags of trunks in the document *root* but for the native one.

    What is not as libvirt reads it (virNetDevVlanParse) stays as it is, and is refused later.
    """
    for vlan in root.iterfind(VLANS):
        tags = vlan.findall("tag")
        natives = [tag for tag in tags if tag.get("nativeMode") is not None]
        trunk = vlan.get("trunk")
        several = len(tags) > 1 or bool(natives)
        is_known = trunk == "yes" or (trunk == "no" and not several)
        if is_known and tags and len(natives) <= 1:
            del vlan.attrib["trunk"]
        if trunk == "yes" or (trunk is None and several):
            _rename(tags, natives)


def _rename(tags: "list[Element]", natives: "list[Element]") -> None:
    for tag in tags:
        if tag not in natives:
            tag.tag = TAGGED
        elif tag.get("nativeMode") == "untagged":
            del tag.attrib["nativeMode"]


def write_as_libvirt(root: "Element") -> None:
    """Do the reverse of ``tell_apart``."""
    for vlan in root.iterfind(VLANS):
        tagged = vlan.findall(TAGGED)
        if tagged:
            vlan.set("trunk", "yes")
            for tag in vlan.findall("tag"):
                tag.set("nativeMode", "untagged")
            for tag in tagged:
                tag.tag = "tag"


def expand(plain: dict[str, object]) -> None:
    """Write out the ranges of VLANs in *plain*; what is not a range stays as it is."""
    cards = plain.get("cards")
    for card in cards if isinstance(cards, list) else ():
        if isinstance(card, dict) and isinstance(card.get("tagged-vlans"), list):
            card["tagged-vlans"] = [
                vlan for entry in card["tagged-vlans"] for vlan in _numbers(entry)
            ]


def _numbers(entry: object) -> list[object]:
    found = re.fullmatch(RANGE, entry) if isinstance(entry, str) else None
    if found is None or not int(found[1]) <= int(found[2]) <= MAX_VLAN:
        return [entry]
    return list(range(int(found[1]), int(found[2]) + 1))
