# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry fds: another program with what the helpers give."""

import argparse
import fcntl
import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple, NoReturn

from bpferry.errors import BadInput, BpferryError
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.messages import Load, Tap

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START of sd-daemon.h."""

HINT: Final = "see: bpferry fds --help"


class NamedFd(NamedTuple):
    """An fd for the program."""

    name: str
    fd: BorrowedFd


def become(options: argparse.Namespace) -> NoReturn:
    """Replace this process by the program, with the fds that *options* ask for.

    Raises:
        BpferryError: a helper did not give them, or the program cannot be started.
    """
    _check(options)
    with ExitStack() as stack:
        granted = [*_object(options, stack), *_queues(options, stack)]
        _exec(options.program, granted)


def _check(options: argparse.Namespace) -> None:
    """Raise BadInput for options that ask for nothing, or that have no effect."""
    has_tap = options.bridge is not None or options.network is not None
    if options.object is None and not has_tap:
        raise BadInput("wrong usage: no '--object', '--bridge' or '--network' is given", HINT)
    if not has_tap and (options.queues is not None or options.mac is not None):
        raise BadInput(
            "wrong usage: '--queues' and '--mac' are for a tap, which needs a bridge", HINT
        )
    if options.object is None and options.qemu is not None:
        raise BadInput("wrong usage: '--qemu' is for an '--object'", HINT)
    if not options.program:
        raise BadInput("wrong usage: no program follows '--exec'", HINT)


def _object(options: argparse.Namespace, stack: ExitStack) -> list[NamedFd]:
    if options.object is None:
        return []
    with BpfHelper() as helper:
        request = Load(options.object, _digest(options.object, options.qemu))
        loaded = stack.enter_context(helper.load(request))
    return [NamedFd(name, fd) for name, fd in loaded.by_name().items()]


def _digest(object_id: str, qemu: str | None) -> bytes:
    """Return the SHA-256 of the object that *qemu*, or the default one, carries.

    Raises:
        BpferryError: it cannot be asked, or has no such object.
    """
    from bpferry.qemu.cache import find_or_probe  # noqa: PLC0415 - not needed for a tap
    from bpferry.qemu.defaults import chosen_qemu  # noqa: PLC0415 - as above

    path = chosen_qemu(qemu)
    objects = find_or_probe(path).objects
    if object_id not in objects:
        has = ", ".join(f"'{name}'" for name in sorted(objects)) or "no eBPF object"
        message = f"'{path}' carries no eBPF object '{object_id}', only {has}"
        raise BadInput(message, "see: bpferry capabilities")
    return objects[object_id].digest


def _queues(options: argparse.Namespace, stack: ExitStack) -> list[NamedFd]:
    source = options.network if options.bridge is None else options.bridge
    if source is None:
        return []
    request = Tap(
        source,
        is_network=options.bridge is None,
        queues=options.queues or 1,
        mac=options.mac,
    )
    with TapHelper() as helper:
        tap = stack.enter_context(helper.tap(request))
    return [NamedFd(tap.interface, fd) for fd in tap.borrow()]


def _exec(program: Sequence[str], granted: Sequence[NamedFd]) -> NoReturn:
    """Become *program*, with *granted* from number 3 on. If that fails, this process has to end."""
    after = FIRST_FD + len(granted)
    # Their numbers may be among those that they get.
    high = [fcntl.fcntl(entry.fd, fcntl.F_DUPFD_CLOEXEC, after) for entry in granted]
    for number, fd in enumerate(high, FIRST_FD):
        os.dup2(fd, number, inheritable=True)
    environment = {
        **os.environ,
        "LISTEN_FDS": str(len(granted)),
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDNAMES": ":".join(entry.name for entry in granted),
    }
    # Python ignores it, and a program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(program[0], list(program), environment)  # noqa: S606 - that is the command
    except OSError as error:
        message = f"cannot start '{program[0]}': {error.strerror or error}"
        raise BpferryError(message, "give a path, or a program of your PATH") from error
