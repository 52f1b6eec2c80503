# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry run: start a VM, or say what would be started."""

import contextlib
import sys
from typing import TYPE_CHECKING

from msgspec import Struct

from bpferry.cli import output
from bpferry.cli.card_plans import RUNG_NAMES, nics
from bpferry.cli.escape_key import escape_key
from bpferry.commandline.parts import StandardStreams
from bpferry.domain.names import cards_of
from bpferry.domain.variables import NOTHING, Given
from bpferry.errors import all_in_one
from bpferry.machine.draft import Draft
from bpferry.machine.own_vms import check_name_of, description_of
from bpferry.machine.secrets import NO_SECRETS, SecretFiles
from bpferry.machine.verdict import Verdict, judge
from bpferry.steering.plan import Notice

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bpferry.machine.card_fds import Helpers
    from bpferry.machine.console.foreground import Leash
    from bpferry.machine.console.streams import Streams
    from bpferry.machine.control.record import Record
    from bpferry.machine.incoming import Incoming
    from bpferry.machine.preparation import Prepared
    from bpferry.machine.reporter import Reporter
    from bpferry.network.tap_helper import GrantedTap
    from bpferry.steering.maps import Steering

STDIN, STDOUT, STDERR = 0, 1, 2


def run(
    file: str,
    *,
    dry_run: str | None,
    require_ebpf: bool,
    ignore_unsupported: bool,
    as_json: bool,
    secrets: SecretFiles = NO_SECRETS,
    given: Given = NOTHING,
    stop_timeout: int | None = None,
    restore: str | None = None,
    escape: str | None = None,
) -> int:
    """Start the VM that *file* describes and return QEMU's exit status; or only describe that.

    What is *given* stands for the variables of *file*, and in place of its name. *stop_timeout*, in
    seconds and 0 for no limit, goes before the description's. With *restore*, the VM goes on where
    it was saved in that file. *escape* is the key that leaves the console on a terminal.
    """
    key = escape_key(escape)
    reporter = output.StderrReporter()
    path = description_of(file)
    verdict = judge(
        path,
        reporter,
        require_ebpf=require_ebpf,
        ignore_unsupported=ignore_unsupported,
        secrets=secrets,
        given=given,
        starts=not dry_run,
    )
    as_json = as_json or dry_run == "json"
    plan = verdict.describable if dry_run else verdict.startable
    if plan is None:
        return _fail(verdict, as_json=as_json)
    if given.name is None:
        check_name_of(path, plan.machine.name, file)
    seconds = plan.machine.stop_timeout if stop_timeout is None else stop_timeout
    if not dry_run:
        return _start(plan, verdict, _How(seconds or None, restore, as_json), key)
    from bpferry.cli import dry_run as dry  # noqa: PLC0415 - not for a start

    if as_json:
        output.print_json(dry.as_fields(plan, verdict, seconds))
    else:
        output.print_text(dry.as_text(plan, verdict, seconds))
    return 0


def _fail(verdict: Verdict, *, as_json: bool) -> int:
    """Say why there is nothing to start or to describe."""
    if not as_json:
        raise all_in_one(verdict.errors)
    from bpferry.cli.findings import as_fields  # noqa: PLC0415 - not for a start

    output.print_json(as_fields(verdict))
    return verdict.status


class _How(Struct, frozen=True):
    """How to start a VM, besides its description."""

    stop_seconds: float | None
    restore: str | None
    as_json: bool


def _start(plan: Draft, verdict: Verdict, how: _How, escape: int | None) -> int:
    """Start a VM. On a terminal that becomes its console, a child of ours does so."""
    from bpferry.machine.console.streams import Streams  # noqa: PLC0415 - not for a dry run

    streams = Streams(STDERR if how.as_json else STDOUT, None if sys.stdin is None else STDIN)
    if not _is_on_terminal(plan, streams):
        return _stay_parent(plan, verdict, _without_journal(streams), how)
    from bpferry.cli.console import stay  # noqa: PLC0415 - for a terminal only
    from bpferry.machine.console.foreground import (  # noqa: PLC0415 - as above
        Foreground,
        fork_supervisor,
    )

    # Before anything is started, which would end with us.
    forked = fork_supervisor(plan.machine.name)
    if isinstance(forked, Foreground):
        return stay(forked, streams, escape, as_json=how.as_json)
    return _stay_parent(plan, verdict, forked, how)


def _is_on_terminal(plan: Draft, streams: "Streams") -> bool:
    """Say whether the guest's console is on a terminal of ours."""
    if streams.keyboard is None or not plan.built.of(StandardStreams):
        return False
    from bpferry.machine.console.terminal import (  # noqa: PLC0415 - for a console only
        is_own_terminal,
    )

    return is_own_terminal(streams.keyboard)


def _without_journal(streams: "Streams") -> "Streams | None":
    """Return *streams*, unless they are the journal, which no guest fills."""
    from bpferry.machine.log_file import goes_to_journal  # noqa: PLC0415 - not for `bpferry --help`

    return None if goes_to_journal(streams.output) else streams


def _stay_parent(
    plan: Draft,
    verdict: Verdict,
    user: "Streams | Leash | None",
    how: _How,
) -> int:
    """Start QEMU and stay until it ends."""
    # What a start needs is not for a dry run; asyncio comes while QEMU starts (``starting``).
    from bpferry.cli.stderr_thread import unhurried_stderr  # noqa: PLC0415
    from bpferry.machine.console.streams import Streams  # noqa: PLC0415
    from bpferry.machine.control.record import Record  # noqa: PLC0415
    from bpferry.machine.log_file import keep_log  # noqa: PLC0415
    from bpferry.machine.preparation import prepare  # noqa: PLC0415
    from bpferry.machine.starting import start  # noqa: PLC0415

    reporter, name = output.StderrReporter(), plan.machine.name
    with (
        unhurried_stderr(None if user is None or isinstance(user, Streams) else user.spoke),
        _saved(how.restore, name) as incoming,
        keep_log(name, reporter) as kept,
        _helpers(plan) as helpers,
        prepare(plan, helpers, record := Record(kept), incoming) as prepared,
    ):
        if helpers is not None:
            helpers.close()
        notices = _notices(plan, verdict, prepared)
        _introduce(plan, notices, prepared, record)
        if user is None and prepared.console is not None:
            import shlex  # noqa: PLC0415 - not for a dry run

            record.note(f"the guest's console is at: bpferry console {shlex.quote(name)}")
        with start(prepared, record) as started:
            from bpferry.machine.supervisor import supervise  # noqa: PLC0415 - while QEMU starts

            status = supervise(prepared, record, started, user, how.stop_seconds)
    if how.as_json:
        output.print_json(_end_fields(prepared, notices, record, status))
    return status


def _helpers(plan: Draft) -> "AbstractContextManager[Helpers | None]":
    """Return both helpers, which a VM without cards does not need."""
    if not plan.plans:
        return contextlib.nullcontext()
    from bpferry.machine.card_fds import Helpers  # noqa: PLC0415 - where there is a card
    from bpferry.network.bpf_helper import BpfHelper  # noqa: PLC0415 - as above
    from bpferry.network.tap_helper import TapHelper  # noqa: PLC0415 - as above

    return Helpers(BpfHelper(), TapHelper())


def _introduce(
    plan: Draft, notices: tuple[Notice, ...], prepared: "Prepared", reporter: "Reporter"
) -> None:
    """Say what is started, and what it lacks."""
    for notice in notices:
        reporter.warn(notice.message, notice.hint)
    reporter.note(f"'{plan.machine.name}' starts with {_accelerator(plan)}")
    for card in prepared.plans.values():
        if card.card_id in prepared.taps:
            reporter.note(f"{card.card_id}: {tap_text(prepared.taps[card.card_id])}")
        reporter.note(f"{card.card_id}: {RUNG_NAMES[card.rung]}: {'; '.join(card.because)}")


def _saved(path: str | None, vm_name: str) -> "AbstractContextManager[Incoming | None]":
    """Open the file in which the VM was saved, if there is one."""
    if path is None:
        return contextlib.nullcontext()
    from bpferry.machine.incoming import open_saved  # noqa: PLC0415 - brings asyncio

    return open_saved(path, vm_name)


def _accelerator(plan: Draft) -> str:
    """Return the accelerator; the warnings say why it is not KVM."""
    return plan.accelerator_reason.partition(":")[0]


def tap_text(tap: "GrantedTap") -> str:
    """Return what *tap* is."""
    queues = output.count(tap.queues, "queue")
    return f"tap '{tap.interface}' on bridge '{tap.bridge}', {queues}, MTU {tap.mtu}"


def _notices(plan: Draft, verdict: Verdict, prepared: "Prepared") -> tuple[Notice, ...]:
    """Return all warnings; those of cards' plans as they are after the helpers' answers."""
    general = [fault for fault in verdict.warnings if not fault.is_of_plan]
    told = {fault.key for fault in general}
    of_cards = (
        warning
        for device in cards_of(plan.machine)
        for warning in prepared.plans[device.id].warnings
        if f"{device.key}.{warning.field}" not in told
    )
    return (*(Notice(fault.sentence, fault.fix) for fault in general), *of_cards)


def _end_fields(
    prepared: "Prepared",
    notices: tuple[Notice, ...],
    record: "Record",
    status: int,
) -> dict[str, object]:
    """Return what ``run --json`` prints when the VM has ended."""
    from bpferry.machine import endpoints  # noqa: PLC0415 - for programs only

    return {
        "exit_status": status,
        "nics": nics(prepared.plans),
        "taps": {
            card_id: {"interface": tap.interface, "bridge": tap.bridge, "mtu": tap.mtu}
            for card_id, tap in prepared.taps.items()
        },
        "seen": {card_id: _seen(found) for card_id, found in record.steering.items()},
        "endpoints": [endpoints.fields(endpoint) for endpoint in record.endpoints],
        "warnings": [notice.message for notice in notices],
    }


def _seen(steering: "Steering") -> dict[str, object]:
    return {
        "hash_types": int(steering.hash_types),
        "key": steering.key.hex(),
        "table": list(steering.table),
        "default_queue": steering.default_queue,
    }
