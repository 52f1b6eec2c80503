# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command, its options, its exit status.

This module and what it imports load fast, so that a help text comes at once: each command's own
module is imported when the command is run.
"""

import argparse
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

from bpferry.cli import output
from bpferry.cli.options import build_parser
from bpferry.errors import BpferryError

if TYPE_CHECKING:
    from bpferry.machine.secrets import SecretFiles


WITHOUT_MSGSPEC: Final = ("list", "tap", "varlink")
"""Commands that do not need it, and should not take the time to import it."""

PACKAGES: Final[Mapping[str, str]] = {
    "defusedxml": "defusedxml",
    "msgpack": "msgpack",
    "msgspec": "msgspec",
    "qemu": "qemu.qmp",
    "tomli_w": "tomli-w",
}
"""What commands import that Python does not have by itself, to the package's name."""

GARBAGE: Final = 20_000
"""New objects after which Python looks for garbage. What a command imports and plans is needed
until its end: to look after each 700 takes a sixth of the time that a start takes."""


class Interrupted(KeyboardInterrupt):
    """A signal asks us to end before a VM runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stopped(BpferryError):  # noqa: N818 - it is no fault
    """What a program is told when a signal ended us."""

    code = "interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (sys.argv) ask for, and return the exit status."""
    _fill_standard_fds()
    gc.set_threshold(GARBAGE)
    words = _separate_dry_run(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words or "--dry-run=json" in words
    with _signals():
        try:
            # It may have had to wait until now (__main__).
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
            return _run(build_parser().parse_args(words))
        except BpferryError as error:
            output.print_error(error, as_json=as_json)
            return error.status
        except KeyboardInterrupt as interrupt:
            number = getattr(interrupt, "number", signal.SIGINT)
            name = signal.Signals(number).name
            output.print_error(Stopped(f"stopped by {name}"), as_json=as_json)
            return 128 + int(number)
        except ModuleNotFoundError as error:
            failure = _missing(error)
            output.print_error(failure, as_json=as_json)
            return failure.status
        except BrokenPipeError:
            # The reader of our standard output has left; there is nobody to tell.
            sys.stdout = None
            return 1
        except OSError as error:
            # Such as too many open files. Errors with better messages are raised where they happen.
            failure = BpferryError(f"cannot continue: {error}")
            output.print_error(failure, as_json=as_json)
            return failure.status
        finally:
            output.forget_unread()


def _missing(error: ModuleNotFoundError) -> BpferryError:
    """Return what to tell about a package that is not there; a module of ours is a bug."""
    package = (error.name or "").partition(".")[0]
    if package not in PACKAGES:
        raise error
    what = f"Python's package '{PACKAGES[package]}' is not installed for {sys.executable}"
    return BpferryError(what, "install what the client needs: pip install 'bpferry[client]'")


def varlink() -> int:
    """Run ``bpferry varlink``: a varlink address cannot have words after the program."""
    return main(["varlink"])


def _fill_standard_fds() -> None:
    """Open /dev/null in place of a closed standard stream.

    Otherwise a socket of ours would get its number, and the child's own streams would replace it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one


def _separate_dry_run(words: Sequence[str]) -> list[str]:
    """Expand a bare ``--dry-run``, since argparse would take the next word for its value."""
    return ["--dry-run=text" if word == "--dry-run" else word for word in words]


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as SIGINT does, so that nothing is left behind."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace) -> int:
    if options.command not in WITHOUT_MSGSPEC:
        _import_msgspec()
    return RUNNERS[options.command](options)


def _import_msgspec() -> None:
    """Import it undivided by signals.

    It swallows an exception that is raised meanwhile, such as that of Ctrl-C, remains incomplete,
    and crashes the interpreter when it is used (SIGSEGV; seen with 0.22.0).
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        importlib.import_module("msgspec")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Each imports its command when it runs: see the module's docstring.


def _run_vm(options: argparse.Namespace) -> int:
    from bpferry.cli.run import run  # noqa: PLC0415

    return run(
        options.file,
        dry_run=options.dry_run,
        require_ebpf=options.require_ebpf,
        ignore_unsupported=options.ignore_unsupported,
        as_json=options.json,
        secrets=_secrets(options),
        restore=options.restore,
        stop_timeout=options.stop_timeout,
        escape=options.escape_key,
    )


def _secrets(options: argparse.Namespace) -> "SecretFiles":
    """Return where the user says that passwords and keys are; ``--secret`` overrides the file."""
    from bpferry.machine.secret_map import read_map  # noqa: PLC0415
    from bpferry.machine.secrets import NamedSecrets  # noqa: PLC0415

    named = dict(options.secret)
    listed = {} if options.secrets is None else read_map(options.secrets)
    return NamedSecrets({**listed, **named}, list(named))


def _create(options: argparse.Namespace) -> int:
    from bpferry.cli.create import create  # noqa: PLC0415

    return create(options)


def _convert(options: argparse.Namespace) -> int:
    from bpferry.cli.convert import convert  # noqa: PLC0415

    return convert(
        options.file,
        options.to,
        ignore_unsupported=options.ignore_unsupported,
        as_json=options.json,
    )


def _check(options: argparse.Namespace) -> int:
    from bpferry.cli.check import check  # noqa: PLC0415

    return check(
        options.file,
        libvirt_session=options.libvirt_session,
        list_ignored=options.ignored,
        as_json=options.json,
        secrets=_secrets(options),
    )


def _capabilities(options: argparse.Namespace) -> int:
    from bpferry.cli.capabilities import show  # noqa: PLC0415

    return show(options.qemu, as_json=options.json, refresh=options.refresh, clear=options.clear)


def _tap(options: argparse.Namespace) -> int:
    from bpferry.cli import tap  # noqa: PLC0415

    if options.action == "create":
        return tap.create(
            options.source,
            is_network=options.network,
            queues=options.queues or 1,
            mtu=options.mtu,
            mac=options.mac,
            isolated=options.isolated,
            vlan=options.vlan,
            inbound=options.inbound,
            outbound=options.outbound,
            as_json=options.json,
        )
    if options.action == "delete":
        return tap.delete(options.name, as_json=options.json)
    return tap.list_own(as_json=options.json)


def _can_i(options: argparse.Namespace) -> int:
    from bpferry.cli.can_i import can_i  # noqa: PLC0415

    return can_i(
        options.bridge,
        options.network,
        queues=options.queues,
        mtu=options.mtu,
        mac=options.mac,
        ebpf=options.ebpf,
        vhost=options.vhost,
        as_json=options.json,
    )


def _fds(options: argparse.Namespace) -> int:
    from bpferry.cli.fds import become  # noqa: PLC0415

    become(options)


def _varlink(_options: argparse.Namespace) -> int:
    from bpferry.varlink.service import serve  # noqa: PLC0415

    return serve()


def _list(options: argparse.Namespace) -> int:
    from bpferry.cli.running import list_all  # noqa: PLC0415

    return list_all(as_json=options.json)


def _status(options: argparse.Namespace) -> int:
    from bpferry.cli.running import status  # noqa: PLC0415

    return status(options.name, as_json=options.json)


def _stop(options: argparse.Namespace) -> int:
    from bpferry.cli.running import stop  # noqa: PLC0415

    return stop(options.names, force=options.force, timeout_s=options.timeout, as_json=options.json)


def _service(options: argparse.Namespace) -> int:
    from bpferry.cli import service  # noqa: PLC0415

    act = {
        "start": service.start,
        "restart": service.restart,
        "enable": service.enable,
        "disable": service.disable,
    }[options.command]
    return act(options.name, as_json=options.json)


def _log(options: argparse.Namespace) -> int:
    from bpferry.cli.log import show  # noqa: PLC0415

    return show(options.name, follow=options.follow, as_json=options.json)


def _save(options: argparse.Namespace) -> int:
    from bpferry.cli.save import save  # noqa: PLC0415

    return save(options.name, options.file, replace=options.force, as_json=options.json)


def _migrate(options: argparse.Namespace) -> int:
    from bpferry.cli.migrate import migrate  # noqa: PLC0415

    return migrate(options.name, options.destination, as_json=options.json)


def _receive(options: argparse.Namespace) -> int:
    from bpferry.cli.receive import receive  # noqa: PLC0415

    return receive(options.name, options.front)


def _snapshot(options: argparse.Namespace) -> int:
    from bpferry.cli.save import snapshot  # noqa: PLC0415

    return snapshot(options.name, options.tag, as_json=options.json)


def _change(options: argparse.Namespace) -> int:
    from bpferry.cli.running import change  # noqa: PLC0415

    return change(options.command, options.name, as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from bpferry.cli.doctor import doctor  # noqa: PLC0415

    return doctor(options.file, deep=options.deep, as_json=options.json, secrets=_secrets(options))


def _attach_nic(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import attach_nic  # noqa: PLC0415

    return attach_nic(options)


def _detach_nic(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import detach_nic  # noqa: PLC0415

    return detach_nic(options.name, options.card, timeout_s=options.timeout, as_json=options.json)


def _set_link(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import set_link  # noqa: PLC0415

    return set_link(options.name, options.card, link=options.link, as_json=options.json)


def _console(options: argparse.Namespace) -> int:
    from bpferry.cli.console import console, escape_key  # noqa: PLC0415

    return console(options.name, options.serial, escape_key(options.escape_key))


def _steering(options: argparse.Namespace) -> int:
    from bpferry.cli import steering  # noqa: PLC0415

    name, card, interval_s, as_json = options.name, options.card, options.interval, options.json
    if options.predict is not None:
        return steering.predict_flow(name, card, options.predict, as_json=as_json)
    if options.svg is not None:
        file = options.svg
        return steering.write_svg(name, card, file, interval_s=interval_s, as_json=as_json)
    act = steering.watch if options.watch else steering.show
    return act(name, card, interval_s=interval_s, as_json=as_json)


def _metrics(options: argparse.Namespace) -> int:
    from bpferry.cli.metrics import metrics  # noqa: PLC0415

    return metrics(options.name, interval_s=options.interval, as_json=options.json)


def _ip(options: argparse.Namespace) -> int:
    from bpferry.cli.reach import show_addresses  # noqa: PLC0415

    return show_addresses(options.name, options.card, as_json=options.json)


def _ssh(options: argparse.Namespace) -> int:
    from bpferry.cli.reach import log_in  # noqa: PLC0415

    return log_in(options)


def _attach_disk(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import attach_disk  # noqa: PLC0415

    return attach_disk(options)


def _detach_disk(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import detach_disk  # noqa: PLC0415

    return detach_disk(
        options.name, options.target, timeout_s=options.timeout, as_json=options.json
    )


def _screenshot(options: argparse.Namespace) -> int:
    from bpferry.cli.screens import screenshot  # noqa: PLC0415

    return screenshot(options.name, options.file, as_json=options.json)


def _view(options: argparse.Namespace) -> int:
    from bpferry.cli.screens import view  # noqa: PLC0415

    return view(options.command, options.name, only_print=options.print)


RUNNERS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "create": _create,
    "run": _run_vm,
    "check": _check,
    "convert": _convert,
    "capabilities": _capabilities,
    "list": _list,
    "status": _status,
    "stop": _stop,
    "start": _service,
    "restart": _service,
    "enable": _service,
    "disable": _service,
    "log": _log,
    "save": _save,
    "snapshot": _snapshot,
    "migrate": _migrate,
    "receive": _receive,
    "pause": _change,
    "resume": _change,
    "reset": _change,
    "ip": _ip,
    "ssh": _ssh,
    "screenshot": _screenshot,
    "vnc": _view,
    "spice": _view,
    "attach-nic": _attach_nic,
    "detach-nic": _detach_nic,
    "set-link": _set_link,
    "console": _console,
    "steering": _steering,
    "metrics": _metrics,
    "attach-disk": _attach_disk,
    "detach-disk": _detach_disk,
    "tap": _tap,
    "fds": _fds,
    "can-i": _can_i,
    "varlink": _varlink,
    "doctor": _doctor,
}
