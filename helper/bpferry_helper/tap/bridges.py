# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's bridges: whether a bridge can take a tap, and how it is protected from the tap.

A bridge is looked up by name once; after that, only its index is used.
"""

import errno
from threading import Lock
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.log import WARNING, log
from bpferry_helper.policy.cards import GROUP_BIT, is_named
from bpferry_helper.policy.rules import Port, in_words
from bpferry_helper.tap import claims
from bpferry_helper.tap.bandwidth import effective
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import as_ours, new_address
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code
from bpferry_wire.messages import Bandwidth

ADDRESS_TYPE: Final = "/sys/devices/virtual/net/{}/addr_assign_type"
BRIDGE_SETTING: Final = "/sys/devices/virtual/net/{}/bridge/{}"
INDEX: Final = "/sys/devices/virtual/net/{}/ifindex"
"""The unit bind-mounts this folder from the host: for a service with its own network namespace,
newer versions of systemd also mount a new /sys (257 does, 252 does not)."""

ZEROS: Final = "00:00:00:00:00:00"

NET_ADDR_SET: Final = 3
"""linux/netdevice.h: somebody set the address; a bridge then keeps it (br_stp_recalculate...)."""


class Wanted(NamedTuple):
    """What a bridge needs to know about the tap to be made."""

    bridge: str
    """A checked name."""
    port: Port
    mtu: int | None
    mac: bytes | None
    vlan: int | None = None
    bandwidth: Bandwidth = Bandwidth()
    """As asked for."""
    tagged: tuple[int, ...] = ()

    @property
    def limits(self) -> Bandwidth:
        """The limits of the tap; RequestError if policy does not allow what was asked for."""
        return effective(self.bandwidth, self.port.bandwidth, self.bridge)

    @property
    def port_vlan(self) -> int | None:
        """The VLAN of frames without a tag; None for the bridge's own, or in a trunk for none."""
        if self.vlan is None and self.port.vlans and not self.tagged:
            return self.port.vlans[0][0]
        return self.vlan

    def claim_on(self, bridge: Link) -> claims.Claim | None:
        """Return what the port is to have for its own on *bridge*, if its address is locked."""
        if not self.port.address_lock or self.mac is None:
            return None
        untagged = self.port_vlan or (not self.tagged and default_vlan(bridge)) or 0
        vlans = (untagged, *self.tagged)
        return claims.Claim(self.mac.hex(":"), vlans, is_named(self.port.addresses, self.mac))


class Bridges:
    """Safe to use from several threads."""

    def __init__(self, host: Links) -> None:
        """Borrow the links of the *host*."""
        self._host = host
        self._secured: set[tuple[int, str, str]] = set()
        self._lock = Lock()

    def check(self, wanted: Wanted) -> Link:
        """Return the bridge; raise RequestError if the tap *wanted* cannot be made now.

        If *wanted* has no card's address, that of some card is taken to be fine.
        """
        bridge = self._find(wanted)
        if wanted.mac is not None:
            self._check_card(wanted, bridge)
        if wanted.port.refuse_unset_address:
            _check_own_address(bridge)
        return bridge

    def find(self, wanted: Wanted) -> Link:
        """Return the bridge for the tap *wanted*.

        Raises:
            RequestError: there is no such bridge, or it cannot take this tap.
        """
        bridge = self._find(wanted)
        self._check_card(wanted, bridge)
        return bridge

    def _find(self, wanted: Wanted) -> Link:
        try:
            bridge = self._host.find(wanted.bridge)
        except LinkError as error:
            raise explain(error, wanted.bridge) from error
        if bridge is None or bridge.kind != "bridge":
            what = "does not exist" if bridge is None else "is not a bridge of the kernel"
            raise RequestError(
                Code.NO_SUCH_BRIDGE,
                f"cannot make a tap on '{wanted.bridge}': it {what}",
                f"see: ip link show type bridge; make it with: ip link add {wanted.bridge} "
                "type bridge",
            )
        if wanted.mtu is not None and wanted.mtu > bridge.mtu:
            raise RequestError(
                Code.FAILED,
                f"cannot make a tap of MTU {wanted.mtu} on '{bridge.name}': the bridge has "
                f"{bridge.mtu}",
                f"ask for less, or ask the administrator to run: ip link set {bridge.name} mtu "
                f"{wanted.mtu}, and the same for its other ports",
            )
        _check_vlan(wanted, bridge)
        return bridge

    def _check_card(self, wanted: Wanted, bridge: Link) -> None:
        if wanted.port.address_lock:
            _check_mac(wanted.mac, bridge.name)
        claim = wanted.claim_on(bridge)
        try:
            if claim is not None:
                claims.check(self._host, bridge, claim)
        except LinkError as error:
            raise explain(error, bridge.name, gone=self.is_gone(bridge)) from error

    def secure(self, bridge: Link, port: Port) -> None:
        """Make sure that no port can change the address of *bridge*.

        A bridge without an address of its own takes the lowest one among its ports, and the holder
        of a tap can change the tap's (SIOCSIFHWADDR on its fd needs no capability). The host would
        lose its connections.

        A bridge that has neither a port but ours nor an IP address is left as it is: there are no
        connections to lose, and it is to take the address of the network card that may be put on
        it next. It is looked at again with each tap, and by ``secure_again``.
        """
        with self._lock:
            this = (bridge.ifindex, bridge.name, bridge.address)
            if this in self._secured:
                return
            if port.refuse_unset_address:
                _check_own_address(bridge)
            elif not has_own_address(bridge) and not self._set_own_address(bridge):
                return
            self._secured.add(this)

    def secure_again(self, indexes: frozenset[int]) -> None:
        """Secure the bridges of *indexes*, which have taps of ours, if they can be by now."""
        for index in indexes:
            try:
                bridge = self._host.by_index(index)
                if bridge is not None and bridge.kind == "bridge":
                    self.secure(bridge, Port())
            except (LinkError, RequestError) as error:
                log(WARNING, f"{error}, ignoring")

    def _set_own_address(self, bridge: Link) -> bool:
        """Set what is to be the address of *bridge*; return whether there is any."""
        try:
            # What the kernel would choose if the bridge had no tap of ours: what a holder may have
            # set before does not count.
            ports = self._host.ports(bridge.ifindex)
            others = [port.address for port in ports if as_ours(port) is None]
            if not others and not self._host.has_host_address(bridge.ifindex):
                return False
            address = min(others) if others else self._unchosen_address(bridge, alone=not ports)
            self._host.set_address(bridge.ifindex, address)
        except LinkError as error:
            raise explain(error, bridge.name, gone=self.is_gone(bridge)) from error
        return True

    def _unchosen_address(self, bridge: Link, *, alone: bool) -> str:
        """Return an address for *bridge*, which has no port but ours, that no holder has chosen.

        If it has been *alone*, that is the one that it has: read now, since *bridge* may have been
        read when a tap was there, and only if no tap has come meanwhile. If the last port has just
        left, it has zeros.
        """
        now = self._host.by_index(bridge.ifindex)
        is_own = alone and now is not None and not self._host.ports(bridge.ifindex)
        return now.address if now and is_own and now.address != ZEROS else new_address()

    def is_gone(self, bridge: Link) -> bool:
        """Return whether *bridge* was deleted, which the kernel reports with different errors."""
        try:
            return self._host.by_index(bridge.ifindex) is None
        except LinkError:
            return False


def has_own_address(bridge: Link) -> bool | None:
    """Return whether somebody set the address of *bridge*; None if we cannot see that.

    Netlink does not tell. sysfs does, if our mount of it shows the host's network namespace.
    """
    found = _number_in(ADDRESS_TYPE.format(bridge.name), bridge)
    return None if found is None else found == NET_ADDR_SET


def default_vlan(bridge: Link) -> int | None:
    """Return the VLAN of new ports of *bridge*, 0 for none; None if it does not filter VLANs."""
    if _number_in(BRIDGE_SETTING.format(bridge.name, "vlan_filtering"), bridge) != 1:
        return None
    return _number_in(BRIDGE_SETTING.format(bridge.name, "default_pvid"), bridge) or 0


def _number_in(path: str, bridge: Link) -> int | None:
    """Return the number in *path*, a file of *bridge* in /sys; None if it cannot be seen from here.

    A bridge of another namespace may have the same name, but not the same index.
    """
    try:
        with open(INDEX.format(bridge.name), encoding="ascii") as file:
            if int(file.read()) != bridge.ifindex:
                return None
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _check_vlan(wanted: Wanted, bridge: Link) -> None:
    """Raise RequestError unless a port of *bridge* can be in the VLANs that are *wanted*."""
    vlan, vlans = wanted.port_vlan, wanted.port.vlans
    asked = wanted.tagged if vlan is None else (vlan, *wanted.tagged)
    if not asked:
        return
    denied = [one for one in asked if not any(one in some for some in vlans)]
    listed = ", ".join(map(str, denied or asked))
    action = f"cannot make a tap on '{bridge.name}' in VLAN {listed}"
    if denied:
        allowed = f"allows {in_words(vlans)} there" if vlans else "has no 'vlans' for it"
        raise RequestError(
            Code.REFUSED,
            f"{action}: policy {allowed}",
            "the administrator adds it in the policy, for the bridge or for you: vlans = "
            f"[{listed}]",
        )
    if default_vlan(bridge) is None:
        raise RequestError(
            Code.REFUSED,
            f"{action}: the bridge does not filter VLANs",
            f"ask the administrator to run: ip link set {bridge.name} type bridge vlan_filtering 1",
        )


def _check_own_address(bridge: Link) -> None:
    """Raise RequestError unless somebody set the address of *bridge*."""
    known = has_own_address(bridge)
    if not known:
        doubt = "has no" if known is False else "is not known to have an"
        raise RequestError(
            Code.REFUSED,
            f"cannot make a tap on '{bridge.name}': it {doubt} address of its own, and policy "
            "does not let one be set",
            f"ask the administrator to run: ip link set {bridge.name} address {bridge.address}",
        )


def _check_mac(mac: bytes | None, bridge: str) -> None:
    """Raise RequestError unless *mac* can be the only address behind a port."""
    if mac is None:
        raise RequestError(
            Code.REFUSED,
            f"cannot make a tap on '{bridge}' without the card's address: policy has address-lock "
            "there, so that each port can send from its card's address only",
            "send the card's MAC address with the request",
        )
    # The bridge would accept a group address, but no frame has one as its source.
    if mac[0] & GROUP_BIT or not any(mac):
        raise RequestError(
            Code.FAILED,
            f"cannot make a tap on '{bridge}' for '{mac.hex(':')}': no card can have that address",
            "give the card a unicast MAC address",
        )


_GONE: Final = (Code.NO_SUCH_BRIDGE, "was the bridge deleted just now? See: ip link")

EXPLANATIONS: Final = {
    errno.ETIMEDOUT: (Code.BUSY, "the kernel's network configuration is locked: try again later"),
    errno.EXFULL: (Code.FAILED, "the bridge has 1,023 ports, as many as a bridge can have"),
    errno.EEXIST: (Code.FAILED, "the names that were tried are taken: try again"),
    errno.ENODEV: (
        Code.BUSY,
        "somebody deleted or moved the tap while it was being made: try again",
    ),
    errno.EAGAIN: (Code.BUSY, "somebody deletes the helper's spare taps: try again"),
}


def explain(error: LinkError, bridge: str, *, gone: bool = False) -> RequestError:
    """Return what the client is told about *error*; if *gone*, that the bridge was deleted."""
    other = (Code.FAILED, "see the journal of bpferry-tap")
    code, hint = _GONE if gone else EXPLANATIONS.get(error.errno, other)
    return RequestError(code, f"cannot make a tap on '{bridge}': {error}", hint)
