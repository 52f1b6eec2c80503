# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helpers: whether their sockets can be reached, and what the policy lets this user have.

The helpers themselves are asked. Nothing is made.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from bpferry.errors import BpferryError, NoHelper, Refused
from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.doctor.learning import check_learning
from bpferry.machine.host_files import HostFiles
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.connection import Connection, why_not
from bpferry.network.learning import find_learning_limit
from bpferry.network.tap_helper import TapHelper
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import RSS_OBJECT
from bpferry.steering.requests import build_load
from bpferry_wire import VERSION, limits
from bpferry_wire.messages import HelloReply, QuotaReply, Tap

T = TypeVar("T")

UNITS: Final = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where units can be (systemd.unit(5))."""

MASKS: Final = ("/etc/systemd/system", "/run/systemd/system")
"""Where ``systemctl mask`` puts its links to /dev/null."""

NOT_INSTALLED: Final = "bpferry's helpers are not installed on this host"
INSTALL: Final = "sudo tools/install  # in a clone of bpferry; or install its bpferry-helper.deb"

SINGLE: Final = 1


def check_tap_helper(
    files: HostFiles,
    bridges: Sequence[str],
    networks: Sequence[str] = (),
    find_limit: Callable[[str], int | None] = find_learning_limit,
) -> Iterator[Finding]:
    """Yield whether the helper for taps answers, and on which of *bridges* one may have taps.

    *find_limit* returns how many addresses a bridge may learn; see ``check_learning``.
    """
    of = (Feature.TAPS,)
    with TapHelper() as helper:
        greeting = _ask(helper.hello)
        yield _greeted("helpers.tap", helper, greeting, files)
        if isinstance(greeting, BpferryError):
            return
        quota = _ask(helper.quota)
        yield from _quota("policy.taps", quota, "taps", of)
        if isinstance(quota, Refused):
            # The policy has a mistake, and no other answer would be about these bridges.
            return
        allowed = []
        for name in bridges:
            found = _about_bridge(helper, name, is_network=False)
            allowed.append(found.state == "ok")
            yield found
            if found.state == "ok":
                yield check_learning(helper, name, find_limit)
        for name in networks:
            found = _about_bridge(helper, name, is_network=True)
            if found.state == "ok":
                yield found
    if bridges and not any(allowed):
        yield Finding(
            "policy.bridges",
            "fault",
            "the policy lets you use none of this host's bridges",
            of,
            fix="ask the administrator to write a line such as 'bridges = "
            f'["{bridges[0]}"]\' below [users.YOU] into /etc/bpferry/policy.toml',
        )


def check_bpf_helper(files: HostFiles, capabilities: Capabilities | None) -> Iterator[Finding]:
    """Yield whether the helper for eBPF answers, and grants what the QEMU carries."""
    of = (Feature.EBPF,)
    with BpfHelper() as helper:
        greeting = _ask(helper.hello)
        yield _greeted("helpers.bpf", helper, greeting, files)
        if isinstance(greeting, BpferryError):
            return
        quota = _ask(helper.quota)
        yield from _quota("policy.sets", quota, "eBPF sets", of)
        if isinstance(quota, Refused):
            return
        if capabilities is not None and RSS_OBJECT in capabilities.objects:
            yield _about_object(helper, capabilities)


def _ask(question: Callable[[], T]) -> T | BpferryError:
    try:
        return question()
    except BpferryError as error:
        return error


def _greeted(
    name: str, helper: Connection, answer: HelloReply | BpferryError, files: HostFiles
) -> Finding:
    of = (Feature.TAPS if isinstance(helper, TapHelper) else Feature.EBPF,)
    unit = helper.service.unit
    if isinstance(answer, NoHelper) and helper.path == helper.service.path:
        masked = " ".join(_masked(unit, files))
        start = f"sudo systemctl enable --now {unit}.socket"
        if masked:
            message = f"{answer.message}; masked: {masked}"
            command = f"sudo systemctl unmask {masked} && {start}"
            return Finding(name, "fault", message, of, command=command)
        if any(files.exists(f"{folder}/{unit}.socket") for folder in UNITS):
            return Finding(name, "fault", answer.message, of, command=start)
        return Finding(name, "fault", f"{NOT_INSTALLED}: {answer.message}", of, command=INSTALL)
    if isinstance(answer, BpferryError):
        return Finding(name, "fault", answer.message, of, fix=answer.hint)
    if answer.version != VERSION:
        return Finding(
            name,
            "warning",
            f"the helper at '{helper.path}' is of version {answer.version}, and this command of "
            f"{VERSION}",
            of,
            fix="install both from one version, and restart the helper",
            command=f"sudo systemctl restart {unit}.service",
        )
    return Finding(name, "ok", f"the helper at '{helper.path}' answers you", of)


def _masked(unit: str, files: HostFiles) -> Iterator[str]:
    """Yield the socket and the service of *unit* if somebody has masked them."""
    for name in (f"{unit}.socket", f"{unit}.service"):
        if any(files.target(f"{folder}/{name}") == "null" for folder in MASKS):
            yield name


def _quota(
    name: str, answer: QuotaReply | BpferryError, things: str, of: tuple[Feature, ...]
) -> Iterator[Finding]:
    if isinstance(answer, BpferryError):
        yield Finding(name, "fault", answer.message, of, fix=answer.hint)
        return
    held = f"you hold {answer.held} of the {answer.allowed} {things} that you may have"
    if answer.held >= answer.allowed:
        yield Finding(name, "fault", held, of, fix=_less_of(things))
    elif answer.held_by_all >= answer.allowed_to_all:
        message = f"all users together hold all {answer.allowed_to_all} {things} of this host"
        fix = "ask the administrator: 'sudo bpferry-helper status' shows who holds them"
        yield Finding(name, "fault", message, of, fix=fix)
    else:
        yield Finding(name, "ok", held, of)


def _less_of(things: str) -> str:
    if things == "taps":
        return "end a VM, or delete a tap that 'bpferry tap list' shows: bpferry tap delete NAME"
    return "end a VM, or ask the administrator for a larger quota"


def _about_bridge(helper: TapHelper, name: str, *, is_network: bool) -> Finding:
    """Return whether one may have taps on the bridge or network *name*, and with how many queues.

    A refusal of one bridge is no fault: the user may have others.
    """
    kind = "network" if is_network else "bridge"
    fact, what = f"policy.{kind}", f"{kind} '{name}'"
    try:
        answer = helper.can(Tap(name, is_network, 1))
        problem = why_not(answer)
        if problem is None:
            queues = _most_queues(helper, name, is_network=is_network)
            return _allowed(fact, what, queues, answer.because)
    except BpferryError as error:
        problem = error
    message = f"no tap on {what}: {problem.message}"
    return Finding(fact, "warning", message, (Feature.TAPS,), fix=problem.hint)


def _most_queues(helper: TapHelper, name: str, *, is_network: bool) -> int:
    """Return with how many queues one may have a tap there; with one, the answer was yes."""
    most, refused = 1, limits.MAX_QUEUES + 1
    asked = limits.MAX_QUEUES
    while refused - most > 1:
        if helper.can(Tap(name, is_network, asked)).allowed:
            most = asked
        else:
            refused = asked
        asked = (most + refused) // 2
    return most


def _allowed(fact: str, what: str, queues: int, because: str) -> Finding:
    of = (Feature.TAPS,)
    if queues == SINGLE:
        return Finding(
            fact,
            "warning",
            f"you may have taps on {what}, but with one queue only ({because}): that leaves "
            "nothing to spread",
            of,
            fix="ask the administrator to raise 'queues-per-tap' in /etc/bpferry/policy.toml",
        )
    message = f"you may have taps on {what}, with up to {queues} queues ({because})"
    return Finding(fact, "ok", message, of)


def _about_object(helper: BpfHelper, capabilities: Capabilities) -> Finding:
    name, of = "policy.object", (Feature.EBPF,)
    try:
        answer = helper.can(build_load(capabilities))
        problem = why_not(answer)
    except BpferryError as error:
        problem = error
    what = f"the eBPF program of '{capabilities.qemu}'"
    if problem is not None:
        return Finding(name, "fault", f"{what}: {problem.message}", of, fix=problem.hint)
    return Finding(name, "ok", f"you may load {what} ({answer.because})", of)
