# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is played, for launchers that would not run on less than a real one.

In its namespace

    /etc            is a copy in which the user has a name
    /usr/local/bin  has what tools/install puts there, with the sockets of this host's helpers
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest.command import GuestError, run
from guest.netns import Namespace, bridged
from steering_demo.helpers import activated_helpers
from steering_demo.play import explaining
from steering_demo.stations import HOST, MTU
from steering_demo.workplace import BRIDGE, Workplace, workplace

USER: Final = "alice"

PROGRAMS: Final = {
    "bpferry": "bpferry.cli.main",
    "bpferry-qemu-system-x86_64": "bpferry.cli.emulator",
    "bpferry-bridge-helper": "bpferry.cli.bridge_helper",
}
"""Each with the module whose main() it calls."""

PROGRAM: Final = """\
#!{python} -B
import os, sys
sys.path[:0] = ["{place.folder}/client", "{place.folder}/shared"]
os.environ["BPFERRY_TAP_SOCKET"] = "{place.folder}/tap.sock"
os.environ["BPFERRY_BPF_SOCKET"] = "{place.folder}/bpf.sock"
from {module} import main
sys.exit(main())
"""
"""What launch_client.py does. libvirt starts QEMU with an environment of its own."""


@dataclass(frozen=True, slots=True)
class LauncherHost:
    """The host, on which both helpers are. Borrows all of it."""

    place: Workplace
    space: Namespace

    def as_user(self, argv: Sequence[str]) -> list[str]:
        """Return *argv* as a command with which root becomes the user, as in a session."""
        home, uid = self.place.home, self.place.user_uid
        return [
            "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all",
            "env", "--ignore-environment", f"--chdir={home}",
            f"HOME={home}", f"XDG_RUNTIME_DIR={home}/run", f"USER={USER}", f"LOGNAME={USER}",
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin", "TERM=dumb", "LC_ALL=C.UTF-8", *argv,
        ]  # fmt: skip

    def words(self, argv: Sequence[str]) -> list[str]:
        """Return the command *argv* of the user, in here."""
        return self.space.command(self.as_user(argv))

    def run(self, *argv: str, text: str = "") -> str:
        """Run *argv* as the user, with *text* as its input, and return what it printed.

        Raises:
            GuestError: it failed.
        """
        return run(self.words(argv), text=text)

    def qemu_pid(self) -> int:
        """Return the process id of the one QEMU that runs here.

        Raises:
            GuestError: none or several do.
        """
        return self.pid_of("qemu-system-")

    def pid_of(self, prefix: str) -> int:
        """Return the process id of the one program that runs here whose name begins with *prefix*.

        Raises:
            GuestError: none or several do.
        """
        here = f"/proc/{self.space.holder}/ns/net"
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                program = (path / "exe").readlink().name
                if program.startswith(prefix) and (path / "ns/net").samefile(here):
                    found.append(int(path.name))
        if len(found) != 1:
            raise GuestError(f"cannot find the launcher's '{prefix}': {len(found)} run there")
        return found[0]

    def put(self, name: str, text: str) -> Path:
        """Write a file of the user's into their home, and return its path."""
        path = self.place.home / name
        path.write_text(text, encoding="utf-8")
        os.chown(path, self.place.user_uid, self.place.user_uid)
        return path


@contextmanager
def launcher_host() -> Iterator[LauncherHost]:
    """Make the host, and take it down."""
    with (
        workplace() as place,
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
    ):
        host = LauncherHost(place, space)
        _name_the_user(host)
        _install(host)
        yield host


def _name_the_user(host: LauncherHost) -> None:
    etc, uid = host.place.folder / "host-etc", host.place.user_uid
    shutil.copytree("/etc", etc, symlinks=True)
    for name, line in (("passwd", f":{uid}::{host.place.home}:/bin/sh"), ("group", ":")):
        with (etc / name).open("a", encoding="ascii") as file:
            file.write(f"{USER}:x:{uid}{line}\n")
    host.space.run(["mount", "--bind", str(etc), "/etc"])
    run = host.place.home / "run"
    run.mkdir(mode=0o700)
    os.chown(run, uid, uid)


def _install(host: LauncherHost) -> None:
    folder = host.place.folder / "bin"
    folder.mkdir()
    for name, module in PROGRAMS.items():
        path = folder / name
        text = PROGRAM.format(python=sys.executable, place=host.place, module=module)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    host.space.run(["mount", "--bind", str(folder), "/usr/local/bin"])
