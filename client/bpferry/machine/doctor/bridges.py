# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bridges of this host, and what is in the way of their frames."""

from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.machine.bridge_state import INTERFACES, is_bridge, is_down
from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.doctor.modules import OTHER_KERNEL, is_missing
from bpferry.machine.host_files import HostFiles

BRIDGE_CONF: Final = "/etc/qemu/bridge.conf"
NETFILTER: Final = ("ip", "ip6")
NETFILTER_SWITCH: Final = "/proc/sys/net/bridge/bridge-nf-call-{}tables"

BY_OTHERS: Final = 0o022
"""Mode bits with which others than its owner can write a file."""

LASTING: Final = (
    "docs/administration.md shows how to make one; for one that lasts until the host restarts"
)
"""What to do where a bridge is missing, before the command."""

OF: Final = (Feature.TAPS,)


def bridges_of(files: HostFiles) -> list[str]:
    """Return the names of this host's bridges."""
    return [name for name in files.names(INTERFACES) if is_bridge(files, name)]


def check_bridges(files: HostFiles, bridges: Sequence[str]) -> Iterator[Finding]:
    """Yield what there is to say about *bridges*, which are this host's, or which a VM names."""
    found = bridges_of(files)
    if not found:
        yield _none(files)
    for name in bridges:
        if name in found:
            yield _bridge(files, name)
        elif found:
            there = ", ".join(f"'{one}'" for one in found)
            message = f"this host has no bridge '{name}'; it has {there}"
            command = f"sudo ip link add {name} type bridge && sudo ip link set {name} up"
            yield Finding("bridges.missing", "fault", message, OF, fix=LASTING, command=command)
    yield from _netfilter(files)
    yield _bridge_conf(files)


def _none(files: HostFiles) -> Finding:
    if is_missing(files, "bridge"):
        message = "this kernel has no bridges, and taps are made on bridges only"
        return Finding("bridges.any", "fault", message, OF, fix=OTHER_KERNEL)
    return Finding(
        "bridges.any",
        "fault",
        "this host has no bridge, and taps are made on bridges only",
        OF,
        fix=LASTING,
        command="sudo ip link add br0 type bridge && sudo ip link set br0 up",
    )


def _bridge(files: HostFiles, name: str) -> Finding:
    fact, folder = "bridges.state", f"{INTERFACES}/{name}"
    if is_down(files, name):
        return Finding(
            fact,
            "warning",
            f"the bridge '{name}' is down, so it carries no frame",
            OF,
            command=f"sudo ip link set {name} up",
        )
    if _spans(files, folder):
        return Finding(
            fact,
            "warning",
            f"the bridge '{name}' runs STP: a VM has to wait for "
            f"{_wait(files, folder)} s before its frames pass",
            OF,
            fix="turn it off where the bridge has one way out",
            command=f"sudo ip link set {name} type bridge stp_state 0",
        )
    return Finding(fact, "ok", _described(files, name), OF)


def _spans(files: HostFiles, folder: str) -> bool:
    return files.text(f"{folder}/bridge/stp_state") not in ("", "0") and _wait(files, folder) > 0


def _wait(files: HostFiles, folder: str) -> int:
    """Return how long a new port listens and learns before it forwards, in seconds.

    The kernel shows the delay of each of the two states in hundredths (net/bridge/br_sysfs_br.c).
    """
    delay = files.text(f"{folder}/bridge/forward_delay")
    return 2 * int(delay) // 100 if delay.isdecimal() else 0


def _described(files: HostFiles, name: str) -> str:
    folder = f"{INTERFACES}/{name}"
    ports = len(files.names(f"{folder}/brif"))
    filtering = files.text(f"{folder}/bridge/vlan_filtering")
    vlans = {"1": "filters VLANs", "0": "does not filter VLANs"}.get(
        filtering, "cannot filter VLANs"
    )
    mtu = files.text(f"{folder}/mtu")
    counted = {0: "no port", 1: "1 port"}.get(ports, f"{ports} ports")
    return f"the bridge '{name}' is up, has {counted} and the MTU {mtu}, and {vlans}"


def _netfilter(files: HostFiles) -> Iterator[Finding]:
    """Yield that the host's firewall sees the frames on its bridges, if it does."""
    on = [one for one in NETFILTER if files.text(NETFILTER_SWITCH.format(one)) == "1"]
    if not on:
        message = "frames between ports of a bridge do not pass the host's IP firewall"
        yield Finding("bridges.firewall", "ok", message, OF)
        return
    switches = " ".join(f"net.bridge.bridge-nf-call-{one}tables=0" for one in on)
    yield Finding(
        "bridges.firewall",
        "warning",
        "frames between ports of a bridge pass the host's IP firewall (br_netfilter is loaded, as "
        "docker does): a policy of 'drop' for forwarded packets cuts VMs off",
        OF,
        fix="let pass what stays on the bridge ('The firewall' in docs/administration.md), or, "
        "where nothing needs it, turn it off",
        command=f"sudo sysctl {switches}",
    )


def _bridge_conf(files: HostFiles) -> Finding:
    """Return what the file of QEMU's own helper is like, which a policy can make count."""
    fact = "bridges.qemu-bridge-conf"
    try:
        found = files.path(BRIDGE_CONF).stat()
    except OSError:
        return Finding(fact, "ok", f"there is no '{BRIDGE_CONF}', and none is needed", OF)
    if found.st_uid != 0 or found.st_mode & BY_OTHERS:
        command = f"sudo chown root: {BRIDGE_CONF} && sudo chmod 0644 {BRIDGE_CONF}"
        message = f"others than root can write '{BRIDGE_CONF}': bpferry grants nothing by it"
        return Finding(fact, "warning", message, OF, command=command)
    if not found.st_mode & 0o004:
        message = f"bpferry's helper, which is not root, cannot read '{BRIDGE_CONF}'"
        return Finding(fact, "warning", message, OF, command=f"sudo chmod 0644 {BRIDGE_CONF}")
    message = f"'{BRIDGE_CONF}' counts if the policy has 'bridge-conf = true' in [qemu]"
    return Finding(fact, "ok", message, OF)
