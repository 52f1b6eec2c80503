# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was said about a VM that no journal keeps: a file in its state folder, of bounded size.

Under systemd there is a journal, and no such file. If the file cannot be written, as on a full
disk, the VM runs on; the user is told once, and the file says later how many lines it lacks.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.commandline.parts import Endpoint
from bpferry.errors import BpferryError, NameTaken, harmless
from bpferry.machine.folders import folders_of
from bpferry.machine.reporter import Reporter

if TYPE_CHECKING:
    from bpferry.steering.maps import Steering

MAX_BYTES: Final = 1 << 20
"""Of the file; another one of this size has what was said before that."""

MAX_LINE: Final = 8192
"""Letters of one line. A longer one, which is not ours, is cut off; it has to fit into a file."""

FILE_MODE: Final = 0o600


def log_files(vm_name: str) -> tuple[Path, Path]:
    """Return the log of the VM called *vm_name*, and the one with what was said before."""
    folder = Path(folders_of(vm_name).state)
    return folder / "log", folder / "log.1"


def goes_to_journal(fd: int = 2) -> bool:
    """Say whether *fd*, by default standard error, is the journal's.

    systemd says which file that is (systemd.exec(5), JOURNAL_STREAM).
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class LogFile:
    """Appends lines with their time. It is opened with the first line."""

    def __init__(self, vm_name: str, warn: Callable[[str], None]) -> None:
        """*warn* is told once if the file cannot be written."""
        self._path, self._former = log_files(vm_name)
        self._warn: Callable[[str], None] | None = warn
        self._fd = -1
        self._lost = 0

    def write(self, text: str) -> None:
        """Append the line *text*; this never fails."""
        text = harmless(text[:MAX_LINE])
        try:
            if self._lost:
                self._append(f"{self._lost} lines are missing here: they could not be written")
                self._lost = 0
            self._append(text)
        except (OSError, BpferryError) as error:
            self._lost += 1
            if self._warn is not None:
                # Reporting may come back here, and be lost too.
                warn, self._warn = self._warn, None
                cause = error.strerror if isinstance(error, OSError) else error.message
                warn(f"cannot write the log '{self._path}': {cause}")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _append(self, text: str) -> None:
        if self._fd < 0:
            self._open()
        line = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n"
        data = line.encode(errors="replace")
        size = os.fstat(self._fd).st_size
        if size + len(data) > MAX_BYTES:
            self.close()
            self._path.replace(self._former)
            self._append(text)
        elif os.write(self._fd, data) < len(data):
            # Half a line on a full disk is worse than none.
            with contextlib.suppress(OSError):
                os.truncate(self._fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> None:
        from bpferry.machine.listening import make_folder  # noqa: PLC0415 - not for `bpferry log`

        make_folder(self._path.parent)
        # A FIFO would be waited for, until somebody reads it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags | os.O_NONBLOCK, FILE_MODE)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise BpferryError("it is not a regular file")


class Logged:
    """A reporter that passes everything on, and has what is worth keeping written to a file."""

    def __init__(self, reporter: Reporter, log: LogFile) -> None:
        self._reporter = reporter
        self._log = log

    def progress(self, text: str) -> None:
        """Pass it on."""
        self._reporter.progress(text)

    def note(self, text: str) -> None:
        """Write it, and pass it on."""
        self._log.write(text)
        self._reporter.note(text)

    def warn(self, text: str, hint: str = "") -> None:
        """Write it, and pass it on."""
        self._log.write(f"warning: {text}" + (f" (hint: {hint})" if hint else ""))
        self._reporter.warn(text, hint)

    def qemu_said(self, line: str) -> None:
        """Write it, and pass it on."""
        self._log.write(f"qemu: {line}")
        self._reporter.qemu_said(line)

    def steering_changed(self, card_id: str, steering: "Steering") -> None:
        """Pass it on; the sentence about it comes as a note."""
        self._reporter.steering_changed(card_id, steering)

    def reachable(self, endpoint: Endpoint) -> None:
        """Pass it on; the sentence about it comes as a note."""
        self._reporter.reachable(endpoint)


@contextlib.contextmanager
def keep_log(vm_name: str, reporter: Reporter) -> Iterator[Reporter]:
    """Return a reporter that also writes the VM's log, unless *reporter* goes to the journal.

    An error that leaves the block is written too, unless another VM of that name has the log.
    """
    if goes_to_journal():
        yield reporter
        return
    log = LogFile(vm_name, reporter.warn)
    try:
        yield Logged(reporter, log)
    except NameTaken:
        raise
    except BpferryError as error:
        for one in (error, *error.others):
            log.write(f"error: {one.message}" + (f" (hint: {one.hint})" if one.hint else ""))
        raise
    finally:
        log.close()
