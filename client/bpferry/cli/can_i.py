# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry can-i: what the helpers would do for the caller, with nothing made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.cli.slow_helpers import tell_of_slow_helpers
from bpferry.domain.model.cards import VHOST_DEVICE
from bpferry.errors import BadInput, BpferryError, NotReady, Refused, Unsupported, harmless
from bpferry.machine.creation.networks import NETWORKS
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.network.vhost import open_vhost
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.defaults import default_qemu
from bpferry.steering.plan import RSS_OBJECT
from bpferry.steering.requests import build_load, describe_source
from bpferry_wire.messages import CanReply, QuotaReply, Tap

INTERFACES: Final = Path("/sys/class/net")

NO_BRIDGE: Final = "no-such-bridge"

WORDS: Final = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer about one thing."""

    asked: str
    """``tap``, ``ebpf`` or ``vhost``."""
    what: str
    """The same in words."""
    because: str
    problem: BpferryError | None = None
    """None if it is allowed."""

    @property
    def status(self) -> int:
        """The exit status that it leads to."""
        return self.problem.status if self.problem else 0

    @property
    def allowed(self) -> bool | None:
        """Whether it is allowed; None if no helper has answered."""
        if self.problem is None:
            return True
        certain = isinstance(self.problem, Refused | Unsupported | NotReady)
        return False if certain else None


def can_i(
    bridge: str | None,
    network: str | None,
    *,
    queues: int | None,
    mtu: int | None,
    mac: bytes | None,
    ebpf: bool,
    vhost: bool,
    as_json: bool,
) -> int:
    """Print whether each of the things asked for is allowed, and why; return the exit status.

    Raises:
        BadInput: queues are asked for without a tap.
    """
    tell_of_slow_helpers()
    source = bridge or network
    if source is None and (queues or mtu or mac):
        raise BadInput(
            "wrong usage: '--queues', '--mtu' and '--mac' are about a tap, and no bridge is named",
            "add '--bridge NAME' or '--network NAME'",
        )
    if not (source or ebpf or vhost):
        return _show_all(as_json=as_json)
    tap = Tap(source, bridge is None, queues or 1, mtu, mac) if source else None
    answers = list(_answers(tap, ebpf=ebpf, vhost=vhost))
    if as_json:
        output.print_json(_fields(answers))
    else:
        output.print_text("\n".join(_lines(answers)))
    # A missing helper outweighs a refusal, and a refusal outweighs a failure.
    return max(answer.status for answer in answers)


def _answers(tap: Tap | None, *, ebpf: bool, vhost: bool) -> Iterator[Answer]:
    if tap is not None:
        yield _answer("tap", _describe(tap), lambda: _ask_tap(tap))
    if ebpf:
        yield _answer("ebpf", f"eBPF program '{RSS_OBJECT}' of '{default_qemu()}'", _ask_ebpf)
    if vhost:
        yield _answer("vhost", f"vhost by '{VHOST_DEVICE}'", _ask_vhost)


def _show_all(*, as_json: bool) -> int:
    """Print what the caller may do, and what not; return 0 if the helpers answered."""
    answers = list(_everything())
    quotas, missing = _quotas()
    if as_json:
        held = {name: quota._asdict() for name, quota in quotas.items()}
        output.print_json({**_fields(answers), "quota": held})
    else:
        of_quotas = (_quota_line(name, quota) for name, quota in quotas.items())
        output.print_text("\n".join((*_lines(answers), *of_quotas)))
    # A refusal is not a failure here: the question was what is allowed.
    return max((error.status for error in missing), default=0)


def _everything() -> Iterator[Answer]:
    """Yield an answer for each thing that could be asked on this host."""
    try:
        with TapHelper() as helper:
            helper.hello()
    except BpferryError as error:
        yield Answer("tap", "taps on bridges of this host", error.message, error)
    else:
        names = sorted(path.parent.name for path in INTERFACES.glob("*/bridge"))
        taps = [Tap(name, is_network=False, queues=1) for name in names]
        taps += [Tap(name, is_network=True, queues=1) for name in NETWORKS]
        for tap in taps:
            yield from _answers(tap, ebpf=False, vhost=False)
    yield from _answers(None, ebpf=True, vhost=True)


def _quotas() -> tuple[dict[str, QuotaReply], list[BpferryError]]:
    """Return what the caller holds and may hold, by kind, and why a helper does not say."""
    quotas: dict[str, QuotaReply] = {}
    missing: list[BpferryError] = []
    for name, helper in (("taps", TapHelper()), ("sets", BpfHelper())):
        try:
            with helper:
                quotas[name] = helper.quota()
        except BpferryError as error:
            missing.append(error)
    return quotas, missing


def _quota_line(name: str, quota: QuotaReply) -> str:
    what = {"taps": "taps", "sets": "eBPF sets"}[name]
    return (
        f"{what}: you hold {quota.held} of {quota.allowed}, all users {quota.held_by_all} of "
        f"{quota.allowed_to_all}"
    )


def _describe(tap: Tap) -> str:
    mtu = "" if tap.mtu is None else f", MTU {tap.mtu}"
    mac = "" if tap.mac is None else f", MAC {tap.mac.hex(':')}"
    return f"tap on {describe_source(tap)}, {output.count(tap.queues, 'queue')}{mtu}{mac}"


def _answer(asked: str, what: str, ask: Callable[[], CanReply]) -> Answer:
    try:
        reply = ask()
    except BpferryError as error:
        return Answer(asked, what, error.message, error)
    if reply.allowed:
        return Answer(asked, what, reply.because)
    return Answer(asked, what, reply.because, Refused(reply.because))


def _ask_tap(tap: Tap) -> CanReply:
    with TapHelper() as helper:
        reply = helper.can(tap)
    if not (reply.allowed or tap.is_network or (INTERFACES / tap.source / "bridge").is_dir()):
        # The helper looks for a bridge only if policy allows one of that name.
        message = f"this host has no bridge '{tap.source}' ({reply.because})"
        error = NotReady(message, "see: ip link show type bridge")
        error.code = NO_BRIDGE
        raise error
    return reply


def _ask_ebpf() -> CanReply:
    capabilities = find_or_probe(default_qemu(), note=output.say)
    if RSS_OBJECT not in capabilities.objects:
        raise Unsupported(
            f"'{capabilities.qemu}' (QEMU {capabilities.version_text}) carries no such object",
            "use a QEMU that was built with eBPF",
        )
    with BpfHelper() as helper:
        return helper.can(build_load(capabilities))


def _ask_vhost() -> CanReply:
    try:
        open_vhost(VHOST_DEVICE, 1).close()
    except BpferryError as error:
        # Certain, and something of this host: no policy says it.
        raise NotReady(error.message, error.hint) from error
    return CanReply(allowed=True, because="you can open the device")


def _lines(answers: list[Answer]) -> Iterator[str]:
    width = max(len("yes"), *(len(WORDS[answer.allowed]) for answer in answers))
    for answer in answers:
        yield harmless(f"{WORDS[answer.allowed]:<{width}}  {answer.what}: {answer.because}")
        if answer.problem and answer.problem.hint:
            yield f"{'':{width}}  hint: {answer.problem.hint}"


def _fields(answers: list[Answer]) -> dict[str, object]:
    said = {answer.allowed for answer in answers}
    return {
        "allowed": False if False in said else None if None in said else True,
        "answers": [
            {
                "asked": answer.asked,
                "what": answer.what,
                "allowed": answer.allowed,
                "code": answer.problem.code if answer.problem else None,
                "because": answer.because,
                "hint": answer.problem.hint if answer.problem else "",
            }
            for answer in answers
        ],
    }
