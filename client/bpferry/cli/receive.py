# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry receive: the other end of bpferry migrate, which ssh starts.

What goes wrong is told to the source, whose user reads it there. Standard output is the connection.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bpferry.domain.document import Document, read_bytes
from bpferry.errors import BadInput, BpferryError, all_in_one
from bpferry.machine.card_fds import Helpers
from bpferry.machine.control.record import Record
from bpferry.machine.draft import Draft
from bpferry.machine.folders import folders_of
from bpferry.machine.log_file import keep_log
from bpferry.machine.migration.comparison import (
    check_disks,
    check_plan,
    check_protocol,
    lost_vhost,
)
from bpferry.machine.migration.keeping import Keeper, fork_off, service_argv, unit_of
from bpferry.machine.migration.messages import Offer, Problem, Talk
from bpferry.machine.migration.receiving import Receiving, keep_description
from bpferry.machine.preparation import prepare
from bpferry.machine.reporter import Reporter, Silent
from bpferry.machine.secrets import NamedSecrets
from bpferry.machine.starting import start
from bpferry.machine.supervisor import supervise
from bpferry.machine.verdict import judge_document
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper

STDIN, STDOUT, STDERR = 0, 1, 2


def receive(vm_name: str, front: int | None) -> int:
    """Receive the VM, stay until it ends, and return QEMU's exit status.

    *front* is the process that ssh has started; None if that is this one.
    """
    if os.isatty(STDIN) or os.isatty(STDOUT):
        raise BadInput(
            "'bpferry receive' is started by 'bpferry migrate', through ssh",
            "to move a VM to this host: bpferry migrate NAME ssh://HOST, at the host where it runs",
        )
    if front is None:
        service = service_argv(vm_name)
        if service is not None:
            os.execv(service[0], service)  # noqa: S606 - systemd-run, with words of ours
        keeper = _keeper(fork_off(), f"process {os.getpid()}, in the background")
    else:
        keeper = _keeper(front, f"your systemd, as '{unit_of(vm_name)}'")
    with _connection() as (talk, stream_fd):
        return _Arrival(vm_name, talk, stream_fd, keeper).run()


def _keeper(front: int, words: str) -> Keeper:
    return Keeper(words, os.pidfd_open(front))


@contextlib.contextmanager
def _connection() -> Iterator[tuple[Talk, int]]:
    """Yield the connection, with the fd where QEMU's stream comes; nobody else writes to it."""
    read_fd, write_fd = os.dup(STDIN), os.dup(STDOUT)
    _to_null(STDIN, STDOUT)
    yield Talk(read_fd, write_fd), read_fd


def _to_null(*fds: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        os.dup2(null, fd)
    os.close(null)


class _Arrival:
    """One VM on its way here."""

    def __init__(self, vm_name: str, talk: Talk, stream_fd: int, keeper: Keeper) -> None:
        self._name = vm_name
        self._talk = talk
        self._stream_fd = stream_fd
        self._keeper = keeper
        self._receiving: Receiving | None = None

    def run(self) -> int:
        """Receive it, and stay until it ends; if it cannot be, say so when nothing is left."""
        try:
            status = self._stay()
        except BpferryError as error:
            if self._has_arrived:
                raise
            self._tell(error)
            return error.status
        if not self._has_arrived:
            self._tell(BpferryError("its QEMU was told to stop before the VM was there"))
        return status

    @property
    def _has_arrived(self) -> bool:
        return self._receiving is not None and self._receiving.has_arrived

    def _tell(self, error: BpferryError) -> None:
        """Tell the source what is wrong, if it is still there."""
        others = "".join(f"; {one.message}" for one in error.others)
        problem = Problem(code=error.code, message=f"{error.message}{others}", hint=error.hint)
        with contextlib.suppress(BpferryError):
            asyncio.run(self._talk.tell(problem))

    def _stay(self) -> int:
        """Do it, and return QEMU's exit status."""
        offer = asyncio.run(_hear_offer(self._talk))
        if offer.name != self._name:
            raise BadInput(f"'{offer.name}' was offered, and '{self._name}' was expected")
        check_protocol(offer)
        check_disks(offer)
        with keep_log(offer.name, Silent()) as kept:
            plan = _plan(offer, kept)
            check_plan(offer, plan)
            return self._start(offer, plan, Record(kept))

    def _start(self, offer: Offer, plan: Draft, record: Record) -> int:
        warnings = tuple(lost_vhost(offer, plan.plans))
        receiving = self._receiving = Receiving(
            offer,
            self._talk,
            self._stream_fd,
            warnings=warnings,
            arrive=lambda: self._let_go(offer, record),
            kept_by=self._keeper.words,
        )
        with (
            Helpers(BpfHelper(), TapHelper()) as helpers,
            prepare(plan, helpers, record, receiving) as prepared,
        ):
            helpers.close()
            record.note(f"'{offer.name}' comes from '{offer.host}'")
            with start(prepared, record) as started:
                return supervise(prepared, record, started, None, offer.stop_seconds)

    def _let_go(self, offer: Offer, record: Record) -> None:
        """Let the connection end; the VM stays."""
        keep_description(offer, _description_path(offer), record)
        _to_null(STDERR)
        self._talk.close()
        self._keeper.let_go()


async def _hear_offer(talk: Talk) -> Offer:
    await talk.greet()
    return await talk.hear(Offer)


def _plan(offer: Offer, reporter: Reporter) -> Draft:
    """Return what the VM would be here.

    Raises:
        BpferryError: it cannot start here.
    """
    verdict = judge_document(
        _document(offer),
        reporter,
        require_ebpf=offer.require_ebpf,
        secrets=NamedSecrets(offer.secret_files, ()),
        images_are_shared=True,
    )
    if verdict.errors or verdict.draft is None:
        raise all_in_one(verdict.errors)
    return verdict.draft


def _document(offer: Offer) -> Document:
    path = _description_path(offer)
    return read_bytes(offer.description.encode(), path, in_part=True, ignore_unsupported=True)


def _description_path(offer: Offer) -> Path:
    """Return where the description is kept, once the VM is here."""
    return Path(folders_of(offer.name).state) / f"migrated.{offer.kind}"
