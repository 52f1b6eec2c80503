# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QEMU that would run VMs: whether it answers, what it carries, and its quirks.

The quirks come from the table by which cards are planned, applied to a card as users want it: some
queues, a tap, RSS.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.domain.model.cards import Card
from bpferry.errors import BpferryError
from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.emulator import find_package
from bpferry.machine.paths import exists
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.quirks import Consequence, Quirk, find_quirk
from bpferry.steering.rungs import Rung, Situation

CARD: Final = Card(type="bridge", bridge="br0", model="virtio", queues=4, rss=True)
"""What users come for. Nothing is asked about its bridge."""

ALL: Final = (Feature.RUN, Feature.KVM, Feature.EBPF)
"""What needs a QEMU."""


def ask(qemu: str) -> Capabilities | BpferryError:
    """Return what *qemu* can do, or why it cannot be asked."""
    try:
        return find_or_probe(qemu)
    except BpferryError as error:
        return error


def check_qemu(qemu: str, answer: Capabilities | BpferryError) -> Iterator[Finding]:
    """Yield what there is to say about *qemu*, which gave this *answer*."""
    if isinstance(answer, BpferryError):
        yield _no_answer(qemu, answer)
        return
    build = f" ({answer.package})" if answer.package else ""
    message = f"'{answer.qemu}' is QEMU {answer.version_text}{build}"
    yield Finding("qemu.answers", "ok", message, ALL)
    yield _sandbox(answer)
    yield from _steering(answer)


def _no_answer(qemu: str, error: BpferryError) -> Finding:
    package = find_package(Path(qemu).name)
    command = f"sudo apt install {package}" if package and not exists(qemu) else ""
    fix = "" if command else error.hint
    return Finding("qemu.answers", "fault", error.message, ALL, fix=fix, command=command)


def _sandbox(capabilities: Capabilities) -> Finding:
    name, of = "qemu.sandbox", (Feature.SAFETY,)
    if capabilities.sandbox:
        return Finding(
            name, "ok", "this QEMU can limit itself to the system calls that it needs", of
        )
    return Finding(
        name,
        "warning",
        "this QEMU was built without a sandbox (-sandbox), so a guest that breaks out can do more",
        of,
        fix="use a QEMU that was built with libseccomp",
    )


def _steering(capabilities: Capabilities) -> Iterator[Finding]:
    """Yield what cards of this QEMU can have: eBPF, and eBPF together with vhost."""
    *notes, alone = _quirks(capabilities, vhost=False)
    if alone:
        message = f"no RSS by eBPF: {alone.because}"
        yield Finding("qemu.ebpf", "fault", message, (Feature.EBPF,), fix=alone.hint)
        return
    message = "this QEMU carries the eBPF program for RSS, and takes it as fds"
    yield Finding("qemu.ebpf", "ok", message, (Feature.EBPF,))
    for note in notes:
        if note:
            yield Finding(f"qemu.{note.name}", "ok", note.because, (Feature.EBPF,))
    *_, both = _quirks(capabilities, vhost=True)
    yield _with_vhost(both)


def _with_vhost(obstacle: Quirk | None) -> Finding:
    name, of = "qemu.ebpf-with-vhost", (Feature.EBPF, Feature.VHOST)
    if obstacle is None:
        return Finding(name, "ok", "a card can have RSS by eBPF together with vhost", of)
    return Finding(
        name,
        "warning",
        f"a card has either RSS by eBPF or vhost: {obstacle.because}",
        of,
        fix=obstacle.hint or "QEMU 9.0 to 10.0 has both; docs/quirks.md says what a card gets",
    )


def _quirks(capabilities: Capabilities, *, vhost: bool) -> Iterator[Quirk | None]:
    """Yield the notes about a card with eBPF, and at the end why it cannot have it, or None."""
    asked: frozenset[str] = frozenset()
    situation = Situation(CARD, capabilities, Rung.EBPF, vhost)
    while quirk := find_quirk(situation, asked):
        yield quirk
        if quirk.consequence not in (Consequence.NOTE, Consequence.WARN):
            return
        asked |= {quirk.name}
    yield None
