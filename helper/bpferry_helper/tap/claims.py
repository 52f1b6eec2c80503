# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one address behind a port with address-lock: who may have it, by the bridge's own table.

The entry of such a port is static and sticky: no frame moves it to another port. So it must not
take what is somebody else's:

  * An address of the bridge or of a port, and an entry that somebody made, is never replaced.
  * What the bridge has learned from frames is, if they came from another tap of ours that is not
    locked, or if policy names this very address. Otherwise a frame from such a tap would keep the
    owner of the address from getting a tap.
  * Any other address that the bridge has learned belongs to who was there before.
"""

import errno
from contextlib import suppress
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Entry, Links
from bpferry_helper.tap.marks import as_ours
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code

ANOTHER: Final = "give the card another MAC address"


class Claim(NamedTuple):
    """An address that a port of a bridge is to have."""

    address: str
    vlans: tuple[int, ...]
    """Of the port; 0 or none if the bridge does not filter VLANs."""
    is_named: bool
    """Policy names this very address for the user who asks."""


def make(host: Links, tap: int, bridge: Link, claim: Claim) -> None:
    """Tell *bridge* that the address of *claim* is behind its port *tap* and nowhere else.

    Raises:
        RequestError: it is somebody else's.
        LinkError: the kernel refused.
    """
    if not _add(host, tap, claim.address):
        check(host, bridge, claim, tap)
        host.add_static_address(tap, claim.address, replace=True)


def make_again(host: Links, tap: int, address: str) -> None:
    """Make the entry of the port *tap* as it was before another tap took *address* for a moment.

    In that moment the bridge may have learned it elsewhere, even in the VLAN of the port. What
    somebody has made meanwhile would be on the bridge as a whole.

    Raises:
        LinkError: the kernel refused.
    """
    if _add(host, tap, address):
        return
    port = host.by_index(tap)
    bridge = host.by_index(port.master) if port and port.master else None
    if bridge is not None:
        with suppress(RequestError):
            make(host, tap, bridge, Claim(address, vlans=(), is_named=True))


def check(host: Links, bridge: Link, claim: Claim, tap: int = 0) -> None:
    """Raise RequestError if *bridge* has the address of *claim* elsewhere than behind *tap*.

    Raises:
        RequestError: it is somebody else's.
        LinkError: the kernel does not say.
    """
    for vlan in {0, *claim.vlans}:
        entry = host.find_entry(bridge.ifindex, claim.address, vlan)
        if entry is not None and entry.port != tap:
            port = host.by_index(entry.port)
            is_ours = port is not None and as_ours(port) is not None
            if not (entry.is_learned and (is_ours or claim.is_named)):
                raise _refusal(bridge, claim.address, entry, port)


def _add(host: Links, tap: int, address: str) -> bool:
    """Make the entry of the port *tap*; return False if the bridge knows the address already."""
    try:
        host.add_static_address(tap, address)
    except LinkError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _refusal(bridge: Link, address: str, entry: Entry, port: Link | None) -> RequestError:
    name = port.name if port else str(entry.port)
    if port and port.address == address:
        why, hint = f"that is the address of '{name}'", ANOTHER
    elif entry.is_learned:
        why = f"the bridge gets frames from that address at its port '{name}'"
        hint = f"{ANOTHER}, or the administrator names this one in the policy's 'addresses'"
    else:
        why = f"the bridge has a fixed entry for that address behind '{name}'"
        hint = f"{ANOTHER}; see: bridge fdb show br {bridge.name}"
    message = f"cannot make a tap on '{bridge.name}' for '{address}': {why}"
    return RequestError(Code.REFUSED, message, hint)
