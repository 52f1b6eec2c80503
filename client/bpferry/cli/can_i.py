# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry can-i: what the helpers would do for the caller, with nothing made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bpferry.cli import output
from bpferry.domain.model.cards import VHOST_DEVICE
from bpferry.errors import BadInput, BpferryError, Refused, Unsupported
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.network.vhost import open_vhost
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.defaults import default_qemu
from bpferry.steering.plan import RSS_OBJECT
from bpferry.steering.requests import build_load, describe_source
from bpferry_wire.messages import CanReply, Tap


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say about one thing."""

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


def can_i(
    bridge: str | None,
    network: str | None,
    *,
    queues: int | None,
    mtu: int | None,
    ebpf: bool,
    vhost: bool,
    as_json: bool,
) -> int:
    """Print whether each of the things asked for is allowed, and why; return the exit status.

    Raises:
        BadInput: nothing is asked, or queues of no tap.
    """
    source = bridge or network
    if not (source or ebpf or vhost):
        raise BadInput(
            "wrong usage: nothing is asked", "such as: bpferry can-i --bridge br0 --ebpf --vhost"
        )
    if source is None and (queues or mtu):
        raise BadInput(
            "wrong usage: '--queues' and '--mtu' are about a tap, and no bridge is named",
            "add '--bridge NAME' or '--network NAME'",
        )
    tap = Tap(source, bridge is None, queues or 1, mtu) if source else None
    answers = list(_answers(tap, ebpf=ebpf, vhost=vhost))
    if as_json:
        output.print_json(_fields(answers))
    else:
        output.print_text(_text(answers))
    # A helper that is not there weighs more than a no, and a no more than a failure.
    return max(answer.status for answer in answers)


def _answers(tap: Tap | None, *, ebpf: bool, vhost: bool) -> Iterator[Answer]:
    if tap is not None:
        yield _answer("tap", _describe(tap), lambda: _ask_tap(tap))
    if ebpf:
        yield _answer("ebpf", f"eBPF program '{RSS_OBJECT}' of '{default_qemu()}'", _ask_ebpf)
    if vhost:
        yield _answer("vhost", f"vhost by '{VHOST_DEVICE}'", _ask_vhost)


def _describe(tap: Tap) -> str:
    mtu = "" if tap.mtu is None else f", MTU {tap.mtu}"
    return f"tap on {describe_source(tap)}, {output.count(tap.queues, 'queue')}{mtu}"


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
        return helper.can(tap)


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
        # It was no helper that said it, and yet it is a no and not a failure of ours.
        raise Refused(error.message, error.hint) from error
    return CanReply(allowed=True, because="the device opens for you, and is one")


def _text(answers: list[Answer]) -> str:
    lines = []
    for answer in answers:
        lines.append(f"{'no ' if answer.problem else 'yes'}  {answer.what}: {answer.because}")
        if answer.problem and answer.problem.hint:
            lines.append(f"     hint: {answer.problem.hint}")
    return "\n".join(lines)


def _fields(answers: list[Answer]) -> dict[str, object]:
    return {
        "allowed": not any(answer.problem for answer in answers),
        "answers": [
            {
                "asked": answer.asked,
                "allowed": answer.problem is None,
                "code": answer.problem.code if answer.problem else None,
                "because": answer.because,
                "hint": answer.problem.hint if answer.problem else "",
            }
            for answer in answers
        ],
    }
