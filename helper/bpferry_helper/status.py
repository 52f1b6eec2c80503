# SPDX-License-Identifier: LGPL-2.1-or-later
"""For the administrator: what is granted now, and what the policy allows."""

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bpferry_helper.errors import PolicyError
from bpferry_helper.host_check import (
    check_helpers_can_read,
    find_far_includes,
    find_missing_modules,
    find_owned,
    find_strays,
    find_unlimited,
    find_untaken,
    group,
    user,
)
from bpferry_helper.policy.accounts import user_name
from bpferry_helper.policy.cards import cards_in_words
from bpferry_helper.policy.file import POLICY_PATH, read_policy
from bpferry_helper.policy.rules import NO_FILE, Policy, Port, Rule, in_words
from bpferry_wire import channel
from bpferry_wire.errors import WireError
from bpferry_wire.messages import ErrorReply, Grant, Status, StatusReply
from bpferry_wire.packets import decode_reply, encode_request
from bpferry_wire.rates import limits_in_words

ANSWER_S: Final = 30.0

RETRY_S: Final = 0.005
"""Until we connect again if a helper's queue of connections is full."""

PORT_WORDS: Final = {
    "isolated": ("reach no other isolated port", "reach isolated ports too"),
    "address_lock": ("send from the card's own address only", "send from any address"),
    "bpdu_guard": ("are shut down by a BPDU that they send", "may send BPDUs"),
    "root_block": (
        "never lead to the root of the spanning tree",
        "may lead to the root of the spanning tree",
    ),
    "multicast_flood": ("get every multicast", "get no multicast that they did not join"),
    "unicast_flood": (
        "get frames for addresses that the bridge does not know",
        "get no frames for addresses that the bridge does not know",
    ),
}
"""For each field of Port, what it means where it is on, and where it is off."""

LOCKED_PORTS_SINCE: Final = (5, 16)
"""The Linux that has IFLA_BRPORT_LOCKED."""


class _Role(NamedTuple):
    """One of the two helpers."""

    name: str
    variable: str
    """The environment variable that names another socket than the installed one."""
    thing: str
    """What the helper grants."""
    column: str
    """Heading for the names of grants."""


ROLES: Final = (
    _Role("bpf", "BPFERRY_BPF_SOCKET", "set", "object"),
    _Role("tap", "BPFERRY_TAP_SOCKET", "tap", "interface"),
)


def show_status() -> int:
    """Ask both helpers who holds what, print it, and return the exit status.

    It is 1 if either of them does not answer.
    """
    tables = [_table_of(role) for role in ROLES]
    sys.stdout.write("\n".join(table for table in tables if table is not None))
    return int(None in tables)


def _table_of(role: _Role) -> str | None:
    """Return the table of the helper *role*, or None if an error was printed."""
    path = os.environ.get(role.variable, f"/run/bpferry/{role.name}.sock")
    try:
        reply = _ask(path)
    except (OSError, WireError) as error:
        sys.stderr.write(
            f"bpferry-helper: error: cannot ask the helper at '{path}': {_cause(error)}\n"
            f"hint: see: systemctl status bpferry-{role.name}.socket\n"
        )
        return None
    if isinstance(reply, ErrorReply):
        sys.stderr.write(f"bpferry-helper: error: {reply.message}\nhint: {reply.hint}\n")
        return None
    return _table(role, reply)


def _cause(error: OSError | WireError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such socket; its unit is not started"
        case ConnectionRefusedError():
            return "no process listens there any more"
        case TimeoutError():
            return f"it did not answer within {ANSWER_S:.0f} s"
        case OSError():
            return error.strerror or str(error)
    return str(error)


def _ask(path: str) -> StatusReply | ErrorReply:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(ANSWER_S)
        _connect(sock, path)
        channel.send(sock, encode_request(Status()))
        packet = channel.receive(sock)
    packet.fds.close()
    reply = decode_reply(packet.data, Status())
    assert isinstance(reply, StatusReply | ErrorReply)  # noqa: S101 - as decode_reply promises
    return reply


def _connect(sock: socket.socket, path: str) -> None:
    """Connect *sock*, and go on trying while others have filled the queue of connections."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError from error
            time.sleep(RETRY_S)


def _table(role: _Role, reply: StatusReply) -> str:
    pool = f"pool: {reply.ready} ready\n" if reply.ready else ""
    if not reply.grants:
        return f"no {role.thing} is alive\n{pool}"
    bridge = f" {'bridge':<15}" if role.thing == "tap" else ""
    rows = [
        f"{'uid':>10} {'user':<16} {'asked by pid':>12} {role.column:<16} {'for':>8}{bridge} VM"
    ]
    rows += [_row(role, grant) for grant in reply.grants]
    return "\n".join(rows) + f"\ncounted by: {reply.counted_by}\n{pool}"


def _row(role: _Role, grant: Grant) -> str:
    hours, seconds = divmod(grant.age_s, 3600)
    age = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
    name = user_name(grant.uid) or "-"
    limits = limits_in_words(grant.inbound, grant.outbound)
    bridge = f" {grant.bridge or '-':<15}" if role.thing == "tap" else ""
    row = f"{grant.uid:>10} {name:<16} {grant.pid:>12} {grant.name:<16} {age:>8}"
    row += f"{bridge} {grant.vm or '-'}"
    return f"{row}  {limits}" if limits else row


def describe_policy(path: str) -> str:
    """Return in words what the policy in *path* allows.

    Raises:
        PolicyError: with the line of the first mistake, also in bridge.conf if that counts.
    """
    check_helpers_can_read(path)
    policy = read_policy(path, socket_gid=os.getgid())
    if policy.path == NO_FILE and path != POLICY_PATH:
        raise PolicyError(path, 0, "does not exist")
    lines = [f"{path} is a valid policy." if policy.path != NO_FILE else f"There is no {path}."]
    lines += [
        *(f"warning: {line}" for line in (*policy.warnings, *_misfits(policy))),
        f"Who may load eBPF objects: {_who(policy)}.",
        f"QEMU binaries that are trusted: {', '.join(policy.trusted) or 'none'}.",
        f"Sets alive: {policy.sets_per_user} for each user, {policy.sets_in_total} in total.",
        f"Sets loaded ahead, for whoever asks next: up to {policy.sets_ready}.",
        _census(policy),
        f"Loads by one user: {policy.loads_at_once} at once, {policy.loads_per_second} a second.",
        f"Loads by all users together: {policy.loads_per_second_in_total} a second.",
        *_bridges(policy),
        f"Taps alive: {policy.taps_per_user} for each user, {policy.taps_in_total} in total.",
        f"Taps by one user: {policy.taps_at_once} at once, {policy.taps_per_second} a second.",
        f"Taps by all users together: {policy.taps_per_second_in_total} a second.",
        f"The helper ends after {policy.idle_exit_s} idle seconds.",
    ]
    return "\n".join(lines) + "\n"


def _misfits(policy: Policy) -> Iterator[str]:
    yield from find_strays(policy)
    yield from _idle(policy)
    yield from find_far_includes(policy)
    yield from find_unlimited(policy)
    yield from find_untaken(policy)
    yield from find_owned(policy)


def _census(policy: Policy) -> str:
    if policy.without_census:
        return "Where the kernel has no BTF, each set counts until the host restarts."
    return "Where the kernel has no BTF, no set is granted."


def _who(policy: Policy) -> str:
    if not any(key.startswith("load") for key in policy.lines):
        return "the members of the socket's group"
    who = [user(uid) for uid in sorted(policy.users)]
    who += [group(gid) for gid in sorted(policy.groups)]
    return ", ".join(who) or "nobody"


def _bridges(policy: Policy) -> list[str]:
    """Return lines that say who may have taps on which bridges."""
    who = [_rule(policy, rule) for rule in policy.rules]
    if policy.bridge_conf:
        who.append(_bridge_conf(policy))
    lines = ["Who may have taps:", *who] if who else ["Who may have taps: nobody."]
    lines += [_port(port) for port in policy.ports]
    lines += [*_too_old(policy), *find_missing_modules(policy)]
    lines += [f"The network '{name}' is '{bridge}'." for name, bridge in policy.networks.items()]
    return lines


def _rule(policy: Policy, rule: Rule) -> str:
    queues = policy.queues_per_tap if rule.queues_per_tap is None else rule.queues_per_tap
    taps = policy.taps_per_user if rule.taps is None else rule.taps
    who = f"each member of {group(rule.ids[0])}" if rule.is_group else user(rule.ids[0])
    who = f"each of the uids {in_words((rule.ids,))}" if len(rule.ids) > 1 else who
    bridges = ", ".join(rule.bridges) or "no bridge that no other rule names"
    denied = f"not on: {', '.join(rule.deny)}; " if rule.deny else ""
    words = ", ".join(_setting(field, value) for field, value in rule.port.items())
    words = words and f"; they {words}"
    return f"  {who} on: {bridges}; {denied}{taps} taps of {queues} queues{words}."


def _bridge_conf(policy: Policy) -> str:
    # Imported late: few hosts need it.
    from bpferry_helper.tap import bridge_conf  # noqa: PLC0415

    qemu = bridge_conf.read_bridge_conf(bridge_conf.BRIDGE_CONF_PATH)
    if qemu.mistake is not None:
        raise qemu.mistake
    allowed = ", ".join(dict.fromkeys(entry.name for entry in qemu.allows)) or "none"
    denied = ", ".join(dict.fromkeys(entry.name for entry in qemu.denies)) or "none"
    return (
        f"  everybody, as '{qemu.path}' says, on: {allowed}; {policy.queues_per_tap} queues.\n"
        f"  nobody, whatever is said here, on what it denies: {denied}."
    )


def _port(port: Port) -> str:
    usual = Port()
    settings = [
        _setting(field, getattr(port, field))
        for field in ("vlans", "addresses", "bandwidth", "tx_queue_length", *PORT_WORDS)
        if getattr(port, field) != getattr(usual, field)
    ]
    settings += ["need a bridge with an address of its own"] if port.refuse_unset_address else []
    words = ", ".join(settings) or "are attached as by default"
    return f"Taps on '{port.pattern}' {words}."


def _setting(field: str, value: Any) -> str:  # noqa: ANN401 - of a field of Port
    """Return what *value* in the *field* of Port means for a tap."""
    if field in PORT_WORDS:
        return PORT_WORDS[field][not value]
    if field == "vlans":
        return f"are only in the VLANs {in_words(value)}"
    if field == "bandwidth":
        return f"carry {limits_in_words(*(rate.average if rate else 0 for rate in value))}"
    if field == "addresses":
        return f"are for cards with {cards_in_words(value)}"
    return f"hold at most {value} frames in each queue"


def _locks(policy: Policy) -> bool:
    """Return whether *policy* has address-lock anywhere."""
    by_rule = any(rule.port.get("address_lock") for rule in policy.rules)
    return by_rule or any(port.address_lock for port in policy.ports)


def _idle(policy: Policy) -> list[str]:
    """Return a line about each ``addresses`` if nothing locks an address."""
    keys = [key for key in policy.lines if key.endswith(".addresses")]
    why = (
        "only limits what may be asked for: no table of the policy has 'address-lock = true', so a "
        "VM may send from any address"
    )
    return [] if _locks(policy) else [f"{policy.where(key)} {why}" for key in keys]


def _too_old(policy: Policy) -> list[str]:
    """Return a line about what this kernel is too old for."""
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if not _locks(policy) or found is None or (int(found[1]), int(found[2])) >= LOCKED_PORTS_SINCE:
        return []
    line = (
        f"Where address-lock is on, taps are refused on this host: its kernel, {release}, is too "
        "old to lock a port (that came with Linux 5.16)."
    )
    return [line]
