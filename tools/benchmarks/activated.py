# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helper behind a listening socket, started by the first client, with exactly its capabilities.

What systemd would do, in four programs, each of which executes the next:

    unshare                   a mount namespace with the bench's own policy
    setpriv                   a separate user, CAP_BPF and CAP_PERFMON
    systemd-socket-activate   listens, and becomes the helper when somebody connects
    python3                   the helper

The unit's sandbox is missing: setting it up takes systemd's time, not the helper's.
"""

import os
import pwd
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from activation.capabilities import drop_to
from benchmarks.command import BenchError, ending
from benchmarks.installed import PYTHON
from failure import last_lines

DYNAMIC_UIDS = range(61184, 65520)
"""The range of systemd's dynamic users (DynamicUser=yes)."""

LISTENS_WITHIN_S = 10.0
POLL_S = 0.002

UNPACED = """\
[quota]
loads-at-once = 1000
loads-per-second = 1000
loads-per-second-in-total = 1000
sets-ready = {ready}
"""
"""A policy that does not slow down the bench, and says how many sets are loaded ahead: none while
loads are measured. Otherwise the defaults."""


@dataclass(frozen=True, slots=True)
class Place:
    """The bench's folder, what starts the helper, and the user that it runs as."""

    folder: Path
    launcher: Path
    uid: int
    role: str = "bpf"

    @property
    def socket(self) -> Path:
        """Where the helper listens."""
        return self.folder / "run" / f"{self.role}.sock"

    @property
    def state(self) -> Path:
        """The helper's state folder; it stays from one start to the next."""
        return self.folder / "state"

    @property
    def policy(self) -> Path:
        """The bench's own policy."""
        return self.folder / "etc/bpferry/policy.toml"

    @property
    def log(self) -> Path:
        """The helper's output."""
        return self.folder / "log"


def make_place(folder: Path, launcher: Path, role: str = "bpf") -> Place:
    """Make the folders that the helper needs in *folder*, readable for it."""
    place = Place(folder, launcher, _unused_uid(), role)
    folder.chmod(0o755)
    for owned in (place.socket.parent, place.state):
        owned.mkdir(mode=0o700)
        os.chown(owned, place.uid, place.uid)
    place.policy.parent.mkdir(parents=True)
    place.policy.write_text(UNPACED.format(ready=0))
    return place


def _unused_uid() -> int:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in DYNAMIC_UIDS if uid not in taken)


@contextmanager
def listening(place: Place, *, paced: bool) -> Iterator[int]:
    """Listen for the helper's first client; end the helper afterwards. Yield its process id.

    Args:
        place: the helper's folders and user.
        paced: whether to use the default policy, that is no policy file.
    """
    with activated_by(_command(place, paced=paced), place) as pid:
        yield pid


@contextmanager
def activated_by(command: Sequence[str], place: Place) -> Iterator[int]:
    """Run *command*, which listens and becomes the helper; end it afterwards. Yield its process id.

    It has to print "Listening on" and the place's socket once it listens.
    """
    with (
        place.log.open("w") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, cwd="/", process_group=0,
        ) as process,
        ending(process),
    ):  # fmt: skip
        try:
            _wait_until_listening(place, process)
            yield process.pid
        finally:
            place.socket.unlink(missing_ok=True)


def _command(place: Place, *, paced: bool) -> list[str]:
    mount = _hide_policy() if paced else _lay_policy(place)
    return [
        "unshare", "--mount", "--", "sh", "-euc", f'{mount}; umask 0077; exec "$@"', "sh",
        *drop_to(place.role, place.uid),
        "systemd-socket-activate", "--seqpacket", f"--listen={place.socket}",
        f"--setenv=STATE_DIRECTORY={place.state}", "--setenv=MSGPACK_PUREPYTHON=1", "--",
        *helper_command(place),
    ]  # fmt: skip


def helper_command(place: Place) -> list[str]:
    """Return the command that is the helper."""
    return [PYTHON, "-I", "-S", "-B", str(place.launcher), place.role]


def _lay_policy(place: Place) -> str:
    """Return the command that mounts our policy over the host's /etc, which may not have one."""
    layers = shlex.quote(f"lowerdir={place.folder}/etc:/etc")
    return f"mount -t overlay -o {layers} overlay /etc"


def _hide_policy() -> str:
    return "[ ! -d /etc/bpferry ] || mount -t tmpfs tmpfs /etc/bpferry"


def _wait_until_listening(place: Place, process: subprocess.Popen[str]) -> None:
    # Connecting would start the helper, and its start is what is measured.
    deadline = time.monotonic() + LISTENS_WITHIN_S
    while f"Listening on {place.socket}" not in place.log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            words = last_lines(place.log.read_text())
            raise BenchError(f"cannot listen on '{place.socket}': {words}")
        time.sleep(POLL_S)
