# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry migrate: move a VM to another host while it runs."""

import contextlib
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from typing import Final

from bpferry.cli import output
from bpferry.cli.patience import ProgressLine
from bpferry.errors import BpferryError, NotRunning
from bpferry.machine.control.client import Control
from bpferry.machine.control.packets import error_of, texts
from bpferry.machine.control.running import connect
from bpferry.machine.migration.destination import Destination, parse_destination
from bpferry_wire.fds import OwnedFds

LOOK_SECONDS: Final = 0.2
"""How often the VM is asked how far it is."""

END_SECONDS: Final = 20.0
"""For ssh to end, once the connection is closed and nothing is left at the other host."""

NOT_FOUND: Final = 127
"""The status of a shell that has no such command."""

SSH_FAILED: Final = 255
"""The status of ssh if it could not log in, or lost the connection."""

Values = Mapping[str, object]


def migrate(vm_name: str, destination: str, *, as_json: bool) -> int:
    """Move the VM, and return when it runs there.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it could not be moved; it goes on here.
    """
    place = parse_destination(destination)
    with connect(vm_name) as control:
        fds = control.ask_for_fds("migrate", host=place.host).fds
        with fds, _ssh(place, vm_name, fds) as ssh:
            try:
                told = _wait(control, ssh, place)
            except KeyboardInterrupt:
                _cancel(control)
                raise
            except BpferryError:
                _cancel_quietly(control)
                raise
    _tell(vm_name, place, told, as_json=as_json)
    return 0


@contextlib.contextmanager
def _ssh(place: Destination, vm_name: str, fds: OwnedFds) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ssh with the fd as its standard input and output, and end it with the block.

    It may ask for a password on our terminal. Ctrl-C does not reach it: we decide what follows.
    """
    (fd,) = fds.borrow()
    with _kept_terminal():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            ssh = subprocess.Popen(place.argv(vm_name), stdin=fd, stdout=fd)
        except OSError as error:
            raise BpferryError(
                f"cannot start 'ssh': {error.strerror}", "install an ssh client"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # Otherwise nobody would notice that ssh has ended.
        fds.close()
        try:
            yield ssh
        finally:
            _end(ssh)


@contextlib.contextmanager
def _kept_terminal() -> Iterator[None]:
    """Leave the terminal as it was: an ssh that is ended while it asks does not."""
    try:
        before = termios.tcgetattr(sys.stdin.fileno()) if sys.stdin is not None else None
    except (OSError, ValueError, termios.error):
        before = None
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, before)


def _end(ssh: "subprocess.Popen[bytes]") -> None:
    """Wait until ssh ends by itself: then nothing is left at the other host."""
    try:
        ssh.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        ssh.terminate()
        ssh.wait()
    except KeyboardInterrupt:
        ssh.terminate()
        raise


def _wait(control: Control, ssh: "subprocess.Popen[bytes]", place: Destination) -> Values:
    """Show how far it is, and return what is told once the VM is there."""
    line = ProgressLine()
    reporter = output.StderrReporter()
    warned = False
    try:
        while True:
            told = _ask(control)
            if not warned and texts(told, "warnings"):
                warned = True
                line.end()
                for warning in texts(told, "warnings"):
                    reporter.warn(warning)
            if not told.get("active"):
                return _outcome(control, told, ssh, place)
            line.show(progress_of(told))
            if control.wait_for_end(LOOK_SECONDS):
                raise BpferryError(
                    f"'{control.vm_name}' has ended here while it was moved",
                    f"see: bpferry log {shlex.quote(control.vm_name)}",
                )
    finally:
        line.end()


def _ask(control: Control) -> Values:
    return control.ask("migrating")


def _outcome(
    control: Control, told: Values, ssh: "subprocess.Popen[bytes]", place: Destination
) -> Values:
    error = told.get("error")
    if isinstance(error, dict):
        message, hint = str(error.get("message")), str(error.get("hint"))
        raise error_of(str(error.get("code")), message, _ssh_hint(ssh, place) or hint)
    if "pid" not in told:
        raise BpferryError(f"'{control.vm_name}' was not moved, and does not say why")
    return told


def _ssh_hint(ssh: "subprocess.Popen[bytes]", place: Destination) -> str:
    """Return what to do about an ssh that has ended for a reason of its own; empty if it did not.

    Its own words are on our standard error already.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = ssh.wait(1)
        command = shlex.join(place.ssh)
        if status == NOT_FOUND:
            what = "'bpferry' is not in the PATH of ssh's commands there"
            return f"{what}: see {command} which bpferry"
        if status == SSH_FAILED:
            return f"ssh could not reach '{place.host}', or lost it: try {command} true"
    return ""


def progress_of(told: Values) -> str:
    """Return in words how far a move is."""
    if told.get("phase") != "copying" or "transferred" not in told:
        return f"{told.get('phase')} ..."
    transferred, remaining = (_number(told, key) for key in ("transferred", "remaining"))
    line = f"copied {transferred >> 20} MiB, {remaining >> 20} MiB left"
    downtime = told.get("expected_downtime_ms")
    return line if downtime is None else f"{line}, expected standstill {downtime} ms"


def _number(told: Values, key: str) -> int:
    value = told.get(key)
    return value if isinstance(value, int) else 0


def _cancel(control: Control) -> None:
    """Let the guest stay here, and wait until it is so; say so if it is too late for that."""
    output.say("cancelling: the VM stays here")
    told = _cancel_quietly(control)
    if told is None or "pid" in told:
        output.say(f"it was too late: '{control.vm_name}' is at the other host")


def _cancel_quietly(control: Control) -> Values | None:
    """Do so, and return what is told at last; None if the VM is not here any more."""
    # On a connection of its own: a reply may be on its way on the other.
    try:
        with connect(control.vm_name) as own:
            own.ask("cancel-migration")
            told = _ask(own)
            while told.get("active"):
                if own.wait_for_end(LOOK_SECONDS):
                    return None
                told = _ask(own)
            return told
    except NotRunning:
        return None


def _tell(vm_name: str, place: Destination, told: Values, *, as_json: bool) -> None:
    if as_json:
        output.print_json({
            "name": vm_name,
            "host": place.host,
            "pid": told.get("pid"),
            "kept_by": told.get("kept_by"),
            "transferred": told.get("transferred"),
            "downtime_ms": told.get("downtime_ms"),
            "warnings": list(texts(told, "warnings")),
        })  # fmt: skip
        return
    still = told.get("downtime_ms")
    stood = "" if still is None else f"; its guest stood still for {still} ms"
    does = "is paused" if told.get("paused") else "runs"
    keeper = told.get("kept_by")
    output.print_text(f"'{vm_name}' {does} at '{place.host}', kept by {keeper}{stood}")
