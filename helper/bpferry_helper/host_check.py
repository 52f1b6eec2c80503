# SPDX-License-Identifier: LGPL-2.1-or-later
"""For ``check-policy``: whether a policy fits this host, judged as the helpers would.

The administrator runs it as root, and now; the helpers read the policy as other users, and look at
bridges when somebody asks for a tap. Names may be looked up here: only root has to wait.
"""

import fnmatch
import os
import stat
from collections.abc import Iterator
from typing import Final

from bpferry_helper.errors import PolicyError
from bpferry_helper.learning import learning_limit
from bpferry_helper.policy.accounts import SUBUID_PATH, group_name, read_subordinates, user_name
from bpferry_helper.policy.file import POLICY_PATH
from bpferry_helper.policy.names import has_wildcards
from bpferry_helper.policy.rules import LIMIT_MODULES, Policy
from bpferry_helper.tap.bridge_conf import BRIDGE_CONF_PATH, BridgeConf, read_bridge_conf
from bpferry_helper.tap.permission import port_of

INTERFACES: Final = "/sys/class/net"

MODULES: Final = "/lib/modules/{}/{}"
MODULE_LISTS: Final = ("modules.dep", "modules.builtin")
"""What depmod writes; each line has a path such as kernel/net/sched/sch_tbf.ko."""

TAP_HELPER_FDS: Final = 16_384
"""LimitNOFILE= of bpferry-tap.service, which bounds the fds that are on their way to clients."""


def check_helpers_can_read(path: str) -> None:
    """Raise PolicyError if the helpers could not read *path*, though root can.

    A draft may be in a folder that only root can enter; the policy in force may not.
    """
    try:
        mode = os.stat(path).st_mode
        folder = os.path.dirname(path)
        folder_mode = os.stat(folder).st_mode if path == POLICY_PATH else stat.S_IXOTH
    except OSError:
        return
    if not mode & stat.S_IROTH:
        raise PolicyError(
            path, 0, f"cannot be read by the helpers, which are not root: chmod 0644 {path}"
        )
    if not folder_mode & stat.S_IXOTH:
        raise PolicyError(
            path, 0, f"cannot be reached by the helpers, which are not root: chmod 0755 {folder}"
        )


def find_strays(policy: Policy) -> Iterator[str]:
    """Yield a line for each bridge and each network of *policy* that is of no use on this host."""
    bridges = _bridges()
    for key, pattern in _patterns(policy):
        if not fnmatch.filter(bridges, pattern):
            what = "fits no bridge" if has_wildcards(pattern) else "is no bridge"
            yield f"{policy.where(key)} names '{pattern}', which {what} on this host"
    opened = [pattern for rule in policy.rules for pattern in rule.bridges]
    for name, bridge in policy.networks.items():
        where = policy.where(f"networks.{name}")
        if bridge not in bridges:
            yield f"{where} leads to '{bridge}', which is no bridge on this host"
        elif not policy.bridge_conf and not any(fnmatch.fnmatchcase(bridge, p) for p in opened):
            yield f"{where} leads to '{bridge}', which no rule allows to anybody"


def find_missing_modules(policy: Policy) -> Iterator[str]:
    """Yield a line for each direction of a bandwidth of *policy* that this kernel cannot limit.

    Where a container has no list of the kernel's modules, that is not known.
    """
    lists = [_text_of(MODULES.format(os.uname().release, name)) for name in MODULE_LISTS]
    rules = [rule.port["bandwidth"] for rule in policy.rules if "bandwidth" in rule.port]
    limits = [*(port.bandwidth for port in policy.ports), *rules]
    for way, modules in LIMIT_MODULES.items():
        missing = [name for name in modules if not any(f"/{name}.ko" in text for text in lists)]
        if missing and all(lists) and any(getattr(limit, way) for limit in limits):
            yield (
                f"Where bandwidth has '{way}', taps are refused on this host: its kernel has no "
                f"{', '.join(missing)}."
            )


def find_far_includes(policy: Policy) -> Iterator[str]:
    """Yield a line for each file that bridge.conf includes and AppArmor keeps from the helper."""
    qemu = read_bridge_conf(BRIDGE_CONF_PATH) if policy.bridge_conf else BridgeConf("")
    folder = os.path.dirname(BRIDGE_CONF_PATH)
    for path, _ in qemu.seen:
        if not os.path.normpath(path).startswith(f"{folder}/"):
            yield (
                f"{BRIDGE_CONF_PATH} includes '{path}', which is outside {folder}: under AppArmor "
                f"the helper cannot read it, and then grants nothing; move it into {folder}"
            )


def find_unlimited(policy: Policy) -> Iterator[str]:
    """Yield a line for each bridge whose table users could fill, which *policy* opens to them."""
    qemu = read_bridge_conf(BRIDGE_CONF_PATH) if policy.bridge_conf else BridgeConf("")
    for bridge in sorted(_bridges()):
        where = next(_without_lock(policy, qemu, bridge), None)
        if where and learning_limit(bridge) == 0:
            yield (
                f"{where} opens '{bridge}' without address-lock, and '{bridge}' learns any "
                "number of addresses, so a VM can fill the kernel's memory with made-up ones; "
                f"to limit it: ip link set {bridge} type bridge fdb_max_learned 4096"
            )


def find_untaken(policy: Policy) -> Iterator[str]:
    """Yield a line if users could use up the tap helper's fds by not taking what they are granted.

    That is if they may hold so many queues; fds of taps that stay are not handed over.
    """
    opening = [rule for rule in policy.rules if rule.bridges]
    each = [rule.queues_per_tap or policy.queues_per_tap for rule in opening]
    most = policy.taps_in_total * max([*each, policy.queues_per_tap * policy.bridge_conf])
    if most > TAP_HELPER_FDS:
        yield (
            f"{policy.where('quota.taps-in-total')} lets users hold {most:,} queues: while more "
            f"than {TAP_HELPER_FDS:,} of those that they were granted are not taken, the tap "
            "helper answers 'busy' to all; lower it, or raise LimitNOFILE=: "
            "systemctl edit bpferry-tap.service"
        )


def find_owned(policy: Policy) -> Iterator[str]:
    """Yield a line for each range of which a user could be every uid, and have all their quotas."""
    for rule in policy.rules:
        owned = read_subordinates().first_in(rule.ids) if len(rule.ids) > 1 else None
        if owned:
            yield (
                f"{policy.where(rule.key)} makes accounts of uids that '{SUBUID_PATH}' gives to "
                f"{user(owned.owner)}, who can be each of {owned.start}-{owned.end - 1}: choose a "
                "range that nobody has"
            )


def _without_lock(policy: Policy, qemu: BridgeConf, bridge: str) -> Iterator[str]:
    """Yield where *policy*, or *qemu*'s file, opens *bridge* without address-lock."""
    usual = port_of(policy, bridge).address_lock
    if any(entry.is_about(bridge) for entry in qemu.denies):
        return
    for rule in policy.rules:
        opens = any(fnmatch.fnmatchcase(bridge, pattern) for pattern in rule.bridges)
        if opens and not rule.port.get("address_lock", usual):
            yield policy.where(f"{rule.key}.bridges")
    if not usual:
        yield from (entry.where for entry in qemu.allows if entry.is_about(bridge))


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def user(uid: int) -> str:
    """Return "uid 1001 (alice)", or the number alone if it has no name."""
    name = user_name(uid)
    return f"uid {uid} ({name})" if name else f"uid {uid}"


def group(gid: int) -> str:
    """Return "group 997 (bpferry)", or the number alone if it has no name."""
    name = group_name(gid)
    return f"group {gid} ({name})" if name else f"group {gid}"


def _bridges() -> list[str]:
    try:
        names = os.listdir(INTERFACES)
    except OSError:
        return []
    return [name for name in names if os.path.isdir(f"{INTERFACES}/{name}/bridge")]


def _patterns(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield each pattern of bridges in *policy*, after the key that has it."""
    for rule in policy.rules:
        yield from ((f"{rule.key}.bridges", pattern) for pattern in rule.bridges)
        yield from ((f"{rule.key}.deny", pattern) for pattern in rule.deny)
    yield from ((port.key, port.pattern) for port in policy.ports)
