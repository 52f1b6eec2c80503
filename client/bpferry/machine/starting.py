# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's start.

Python takes as long to import the supervisor and what it needs, such as asyncio and QMP, as QEMU
takes to start. So QEMU is started first, and nothing here or in ``preparation`` imports those.

The same for all that comes before: what looks at a part that few VMs have is imported where there
is one, and a regular expression that few descriptions need is a text, which ``re`` compiles when it
is used for the first time.
"""

import contextlib
import gc
import signal
from collections.abc import Iterator, Sequence
from types import FrameType

from msgspec import Struct

from bpferry.commandline.parts import Limit
from bpferry.machine.pinning import pin_process
from bpferry.machine.preparation import Prepared
from bpferry.machine.reporter import Reporter
from bpferry.machine.service_manager import ServiceManager
from bpferry.qemu.process import STOP_SIGNALS, Child, start_child


class Started(Struct, frozen=True):
    """A QEMU that has been started, and what the supervisor has to know of that time."""

    child: Child
    manager: ServiceManager
    early: list[signal.Signals]
    """The signals that came since, to be heeded once somebody can ask the guest."""


@contextlib.contextmanager
def start(prepared: Prepared, reporter: Reporter) -> Iterator[Started]:
    """Start QEMU; what is left of it at the end of the block is killed.

    Raises:
        BpferryError: it cannot be started, or limited as it should be.
    """
    # What is there by now is needed until the end; nobody has to look for garbage in it.
    gc.freeze()
    manager = ServiceManager()
    limits = prepared.built.of(Limit)
    streams = None if prepared.streams is None else prepared.streams.fileno()
    with (
        kept_signals() as early,
        _confined(prepared.document.machine.name, limits) as through,
        start_child(
            prepared.argv,
            prepared.pass_fds,
            streams=streams,
            environment=prepared.environment,
            blocked=STOP_SIGNALS,
            through=through,
        ) as child,
    ):
        prepared.inherited.close()
        pin_process(child.pid, prepared.affinities, reporter)
        yield Started(child, manager, early)


def _confined(
    vm_name: str, limits: Sequence[Limit]
) -> contextlib.AbstractContextManager[tuple[str, ...]]:
    if not limits:
        return contextlib.nullcontext(())
    from bpferry.machine.limits import confined  # noqa: PLC0415 - few VMs have any

    return confined(vm_name, limits)


@contextlib.contextmanager
def kept_signals() -> Iterator[list[signal.Signals]]:
    """Keep each signal that arrives, instead of its usual effect, which would cut the power."""
    kept: list[signal.Signals] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        kept.append(signal.Signals(number))

    before = {number: signal.signal(number, keep) for number in STOP_SIGNALS}
    try:
        yield kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
