# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real swtpm, passt and virtiofsd beside a real VM: they begin and end with it, and leave nothing.

What is there before and after is compared: processes, sockets, and files in the runtime folder.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import requires
from tests.client.running import BASE, BROKEN, DISK, Run, start, type_in
from tests.client.support import is_gone, script, wait_until
from tests.support.debian_virtiofsd import debian_virtiofsd

pytestmark = pytest.mark.qemu

LONG = 150.0
"""Seconds after which something has gone wrong, and is not only slow."""

TPM = '[[tpms]]\nbackend = "emulator"\nversion = "2.0"\nmodel = "tpm-crb"\n'
CARD = '[[cards]]\ntype = "user"\nbackend = "passt"\n'
SHARED = '[memory-backing]\nsource = "memfd"\naccess = "shared"\n'
FOLDER = '[[filesystems]]\ndriver = "virtiofs"\nfolder = "/srv"\ntag = "t"\nbinary = "{}"\n'

KINDS = ("swtpm", "passt", "virtiofsd")


@pytest.fixture(name="place", autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test folders of its own, to see what is left in them."""
    for name, folder in (("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state")):
        (tmp_path / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


@pytest.fixture(name="vm", params=KINDS)
def _vm(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Return the name of a process beside QEMU, and the description of a VM that has it."""
    name = str(request.param)
    return name, _description(name, tmp_path)


def _description(name: str, folder: Path) -> str:
    if name == "virtiofsd":
        requires.root()
        return BASE + SHARED + DISK + FOLDER.format(debian_virtiofsd(folder))
    requires.program(name)
    if name == "passt":
        requires.default_route()
    return BASE + DISK + (TPM if name == "swtpm" else CARD)


def family(pid: int) -> set[int]:
    """Return *pid* and all that descend from it."""
    found = {pid}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for word in path.read_text(encoding="ascii").split():
                found |= family(int(word))
    return found


def command_of(pid: int) -> str:
    """Return the command line of *pid*."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    return ""


def companion_of(run: Run, name: str) -> int:
    """Return the process id of the companion *name* of *run*, and not of a step before it."""
    own = {"swtpm": r"swtpm socket ", "passt": r"passt\S* --foreground ", "virtiofsd": r" --fd="}
    pids = [pid for pid in family(run.process.pid) if re.search(own[name], command_of(pid))]
    return min(pids)


def qemu_of(run: Run) -> int:
    """Return the process id of the QEMU of *run*."""
    (pid,) = [pid for pid in family(run.process.pid) if "guest=t," in command_of(pid)]
    return pid


def sockets_at(folder: Path) -> list[str]:
    """Return the paths of Unix sockets below *folder* that the kernel knows."""
    lines = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if str(folder) in line]


@contextlib.contextmanager
def leaving_nothing(folder: Path) -> Iterator[set[int]]:
    """After the block no process of the set is alive, and only the name's lock is a file."""
    pids: set[int] = set()
    yield pids
    assert wait_until(lambda: all(is_gone(pid) for pid in pids), LONG)
    assert sockets_at(folder) == []
    left = {str(path.relative_to(folder / "run")) for path in (folder / "run").rglob("*")}
    assert left <= {"bpferry", "bpferry/.t.lock"}


@contextlib.contextmanager
def running(folder: Path, text: str, *options: str) -> Iterator[tuple[Run, set[int]]]:
    """Run the VM of *text* until its guest greets; nothing may be left of it."""
    with leaving_nothing(folder) as pids, start(folder, text, *options) as run:
        assert wait_until(lambda: "hello" in run.out() or _has_ended(run), LONG), run.err()
        pids.update(family(run.process.pid))
        yield run, pids
        run.process.wait(LONG)


def _has_ended(run: Run) -> bool:
    return run.process.poll() is not None


def test_clean_end_leaves_nothing(vm: tuple[str, str], place: Path) -> None:
    """When the guest powers off, the process beside QEMU ends too; so again at the next start."""
    name, text = vm
    for _ in range(2):
        with running(place, text) as (run, pids):
            assert companion_of(run, name) in pids
            type_in(run, b"q")

            assert run.process.wait(LONG) == 0
        assert "while the VM still needs it" not in run.err()


def test_nothing_is_at_a_path(vm: tuple[str, str], place: Path) -> None:
    """While the VM runs, its folder has only the sockets that are for its user."""
    with running(place, vm[1]) as (run, _):
        found = {path.name for path in (place / "run" / "bpferry" / "t").iterdir()}
        type_in(run, b"q")

    assert found == {"control.sock", "qmp.sock"}


def test_killed_qemu_leaves_nothing(vm: tuple[str, str], place: Path) -> None:
    """The process ends as soon as the connection to QEMU does."""
    with running(place, vm[1]) as (run, _):
        os.kill(qemu_of(run), signal.SIGKILL)

        assert run.process.wait(LONG) == 128 + signal.SIGKILL
    assert "while the VM still needs it" not in run.err()


def test_killed_bpferry_leaves_no_process(vm: tuple[str, str], place: Path) -> None:
    """What is beside QEMU dies with its parent, as QEMU does."""
    with start(place, vm[1]) as run:
        assert wait_until(lambda: "hello" in run.out(), LONG), run.err()
        pids = family(run.process.pid)
        run.process.kill()

        assert wait_until(lambda: all(is_gone(pid) for pid in pids), LONG)
    assert wait_until(lambda: sockets_at(place) == [], LONG)


def test_death_is_told_and_the_vm_goes_on(vm: tuple[str, str], place: Path) -> None:
    """The user learns what was killed; QEMU runs on, and the end of the VM is a clean one."""
    name, text = vm
    with running(place, text) as (run, _):
        os.kill(companion_of(run, name), signal.SIGKILL)
        told = f"'{name}' exited while the VM still needs it: killed by SIGKILL"
        assert wait_until(lambda: told in run.err(), LONG), run.err()
        assert run.err().count(told) == 1
        type_in(run, b"echo")
        assert wait_until(lambda: "echo" in run.out(), LONG)
        type_in(run, b"q")

        assert run.process.wait(LONG) == 0


def test_failed_start_leaves_nothing(vm: tuple[str, str], place: Path) -> None:
    """Where QEMU refuses its arguments, that is told, and not the end of the process beside it."""
    with running(place, BROKEN + vm[1]) as (run, _):
        assert run.process.wait(LONG) == 1
    assert "Invalid parameter 'such'" in run.err()
    assert "while the VM still needs it" not in run.err()


WAITS = """\
case "$*" in *guest=t,*) while [ ! -e {folder}/tried ]; do sleep 0.05; done; sleep 1;; esac
exec qemu-system-x86_64 "$@"
"""
"""A QEMU that takes longer to start than the process beside it to fail."""


@pytest.mark.parametrize("name", KINDS)
def test_process_that_fails_at_once_ends_the_start(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has its own words and its place, and no VM runs without what it needs."""
    fails = script(place, f"touch {place}/tried; echo no luck today; exit 3", name)
    script(place, "exit 0", "swtpm_setup")
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    qemu = f'qemu = "{script(place, WAITS.format(folder=place))}"\n'
    needs = {"swtpm": TPM, "passt": CARD, "virtiofsd": SHARED + FOLDER.format(fails)}[name]

    with running(place, BASE + qemu + needs + DISK) as (run, _):
        assert run.process.wait(LONG) == 1
    place_of = {"swtpm": "tpms[0]", "passt": "cards[0]", "virtiofsd": "filesystems[0]"}[name]
    assert f"'{place_of}': '{name}' exited while the VM still needs it: exit status 3" in run.err()
    assert "it said: no luck today" in run.err()


def test_saved_vm_goes_on_with_its_tpm(place: Path) -> None:
    """A restored VM has a new swtpm, which gets the state of the old one; nothing is left."""
    text, file = _description("swtpm", place), place / "saved"
    with running(place, text):
        bpferry = [sys.executable, "-m", "bpferry", "save", "t", str(file)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(bpferry, check=True, env=environment, stdout=subprocess.DEVNULL)

    restored = start(place, text, "--restore", str(file), writes=False)
    with leaving_nothing(place) as pids, restored as run:
        assert wait_until(lambda: "the VM continues" in run.err() or _has_ended(run), LONG)
        type_in(run, b"echo")
        assert wait_until(lambda: "echo" in run.out() or _has_ended(run), LONG), run.err()
        pids.update(family(run.process.pid))
        assert companion_of(run, "swtpm") in pids
        type_in(run, b"q")

        assert run.process.wait(LONG) == 0
