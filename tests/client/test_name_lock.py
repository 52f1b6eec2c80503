# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock on a VM's name: who has it, what becomes of it, and that no two have it."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from bpferry.errors import BpferryError, NameTaken
from bpferry.machine import name_lock
from bpferry.machine.control_socket import open_control
from bpferry.machine.name_lock import Holder, find_conflict, hold_name
from tests.client.support import Record, wait_until

FILE = Path("/vms/web.toml")

HOLD = """
import os, sys, time
from pathlib import Path
from bpferry.machine.name_lock import hold_name
from tests.client.support import Record
with hold_name("web", Path("/vms/web.toml"), Record()) as fds:
    {body}
"""

STRIFE = """
import os, sys, time
from pathlib import Path
from bpferry.errors import NameTaken
from bpferry.machine.name_lock import hold_name
from tests.client.support import Record
mark, held = Path(sys.argv[1]), 0
for _ in range(200):
    try:
        with hold_name("web", Path("/x"), Record()):
            mark.touch(exist_ok=False)
            held += 1
            mark.unlink()
    except NameTaken:
        pass
print(held)
"""


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the VM's folders be in this test's own, two of them, and return that."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    """Return a list of processes that are killed in the end."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def python(
    processes: list["subprocess.Popen[str]"], text: str, *words: str
) -> "subprocess.Popen[str]":
    """Start a Python that runs *text*."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes.append(
        subprocess.Popen(
            [sys.executable, "-c", text, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    )
    return processes[-1]


def files(folder: Path) -> list[str]:
    """Return the files of locks below *folder*."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.lock"))


BOTH = ["run/bpferry/.web.lock", "state/bpferry/.web.lock"]


def test_name_is_taken_as_long_as_it_is_held(folders: Path, record: Record) -> None:
    """It is refused while it is held, with who has it; then nothing is left."""
    with hold_name("web", FILE, record) as fds:
        assert BOTH == files(folders)
        assert len(fds) == 2
        with pytest.raises(NameTaken) as caught, hold_name("web", FILE, record):
            pass
        assert BOTH == files(folders)

    assert files(folders) == []
    with hold_name("web", FILE, record):
        pass
    assert record.all == []
    error = caught.value
    assert (error.status, error.code) == (1, "name-taken")
    year = time.strftime("%Y-")
    begin = f"you already have a VM named 'web' running: process {os.getpid()}, since {year}"
    assert error.message.startswith(begin)
    assert error.message.endswith(", from '/vms/web.toml'")
    assert f"ps -fp {os.getpid()}; stop it: kill {os.getpid()}" in error.hint


def test_a_vm_that_can_be_asked_is_stopped_by_its_name(folders: Path, record: Record) -> None:
    """A process has to be looked for only if nobody listens at the VM's control socket any more.

    The file of one that was killed may be there still, also in another folder.
    """
    folder = folders / "run" / "bpferry" / "web"
    folder.mkdir(parents=True, exist_ok=True)
    with hold_name("web", FILE, record):
        with open_control(folder):
            asked = find_conflict("web")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
            killed.bind(str(folder / "control.sock"))
        deaf = find_conflict("web")

    assert asked is not None
    assert asked.hint.startswith("see it: bpferry status web; stop it: bpferry stop web; or give")
    assert deaf is not None
    assert deaf.hint.startswith("see it: ps -fp ")


def test_other_names_are_free(record: Record) -> None:
    """A name is in no other's way, also where folders cannot be called after them as they are."""
    with (
        hold_name("web", FILE, record),
        hold_name("web2", FILE, record),
        hold_name("a/b", FILE, record),
        hold_name("a_b", FILE, record),
        hold_name(".web", FILE, record),
    ):
        assert find_conflict("web3") is None


def test_conflict_is_seen_without_being_one(record: Record) -> None:
    """Whoever asks learns the same, makes no file, and is in nobody's way."""
    assert find_conflict("web") is None
    with hold_name("web", FILE, record):
        found = find_conflict("web")
        with pytest.raises(NameTaken) as caught, hold_name("web", FILE, record):
            pass

    assert found is not None
    assert (found.message, found.hint) == (caught.value.message, caught.value.hint)
    assert find_conflict("web") is None


def test_holder_that_has_not_said_who_it_is(folders: Path, record: Record) -> None:
    """Between the lock and the words in the file there is a moment in which it is taken as well."""
    with hold_name("web", FILE, record):
        (folders / BOTH[1]).write_text("", encoding="ascii")
        found = find_conflict("web")

    assert found is not None
    begin = "you already have a VM named 'web' running"
    assert found.message == f"{begin}: it has only just been started"
    assert f"fuser -v '{folders / BOTH[1]}'" in found.hint


@pytest.mark.parametrize("lost", ["run", "state"])
def test_deleted_folder_does_not_free_the_name(folders: Path, record: Record, lost: str) -> None:
    """One of the two folders may go while the VM runs; what is made again there goes in the end."""
    with hold_name("web", FILE, record):
        shutil.rmtree(folders / lost)
        assert find_conflict("web") is not None
        with pytest.raises(NameTaken), hold_name("web", FILE, record):
            pass

    with hold_name("web", FILE, record):
        pass
    assert files(folders) == []


def test_end_leaves_the_file_of_somebody_else(
    folders: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has lost their file does not remove the one that came into its place."""
    first = hold_name("web", FILE, record)
    first.__enter__()
    shutil.rmtree(folders / "state")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folders / "other"))
    with hold_name("web", FILE, record):
        first.__exit__(None, None, None)

        assert files(folders / "state") == ["bpferry/.web.lock"]
    assert files(folders) == []


def test_file_that_is_removed_before_it_is_locked(
    folders: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that was just removed by its owner is worthless: the next file is locked."""
    lock = fcntl.fcntl
    removed: list[int] = []

    def late(fd: int, command: int, argument: bytes) -> bytes:
        if command == fcntl.F_OFD_SETLK and not removed:
            (folders / BOTH[1]).unlink()
            removed.append(command)
        answer = lock(fd, command, argument)
        assert isinstance(answer, bytes)
        return answer

    monkeypatch.setattr(fcntl, "fcntl", late)
    with hold_name("web", FILE, record):
        assert removed
        assert BOTH == files(folders)


@pytest.mark.parametrize("other", ["XDG_STATE_HOME", "XDG_RUNTIME_DIR"])
def test_other_session_of_the_same_user(
    folders: Path, record: Record, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Who shares one of the two folders with a VM cannot have its name."""
    with hold_name("web", FILE, record):
        monkeypatch.setenv(other, str(folders / "other"))
        with pytest.raises(NameTaken), hold_name("web", FILE, record):
            pass
        assert BOTH == files(folders)


def test_nothing_shared(folders: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VM that shares neither folder with another is free to have its name."""
    with hold_name("web", FILE, record):
        monkeypatch.setenv("XDG_STATE_HOME", str(folders / "other"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folders / "another"))
        with hold_name("web", FILE, record) as fds:
            assert len(fds) == 2


def test_both_folders_may_be_one(
    folders: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has one folder for all is not in their own way, also under another path."""
    (folders / "state").mkdir()
    (folders / "run").symlink_to("state")
    with hold_name("web", FILE, record) as fds:
        assert len(fds) == 1
        with pytest.raises(NameTaken), hold_name("web", FILE, record):
            pass
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folders / "state"))
    with hold_name("web", FILE, record) as fds:
        assert len(fds) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"pid":"x"}',
        f'{{"pid":1,"since_s":5,"file":"/x","host":"{socket.gethostname()}"}}',
        "x" * 100_000,
    ],
    ids=["empty", "cut", "wrong", "alive", "long"],
)
def test_file_that_was_left_is_in_nobody_s_way(folders: Path, record: Record, text: str) -> None:
    """Whatever is in a file, only the kernel's lock counts; it says who has it afterwards."""
    path = folders / BOTH[0]
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="ascii")

    assert find_conflict("web") is None
    with hold_name("web", FILE, record):
        found = find_conflict("web")
        assert found is not None
        assert f"process {os.getpid()}," in found.message
        assert path.stat().st_size < 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_holder(
    processes: list["subprocess.Popen[str]"], record: Record, number: signal.Signals
) -> None:
    """However a process ends, its name is free."""
    child = python(processes, HOLD.format(body="print('held', flush=True); time.sleep(60)"))
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert find_conflict("web") is not None
    child.send_signal(number)
    child.wait(10)

    assert find_conflict("web") is None
    with hold_name("web", FILE, record):
        pass


OUTLIVED = """
    import subprocess
    subprocess.Popen(["cat"], pass_fds=fds, stdout=2)
    os.kill(os.getpid(), 9)
""".lstrip()
"""What stands for QEMU ends when nobody has the other end of its standard input."""


def test_qemu_that_is_still_ending_is_waited_for(
    processes: list["subprocess.Popen[str]"], record: Record
) -> None:
    """What inherited the lock keeps it after bpferry was killed, and the next start waits."""
    child = python(processes, HOLD.format(body=OUTLIVED))
    assert wait_until(lambda: "its bpferry does not" in str(find_conflict("web")))
    waited: list[bool] = []

    def end_what_is_waited_for() -> None:
        waited.append(wait_until(lambda: bool(record.all)))
        child.communicate()

    ending = Thread(target=end_what_is_waited_for)
    ending.start()
    with hold_name("web", FILE, record):
        assert [True] == waited
    ending.join()

    assert set(record.all) == {
        ("progress", "waiting for QEMU of 'web', whose bpferry was killed, to end")
    }


def test_qemu_that_never_ends(
    processes: list["subprocess.Popen[str]"],
    folders: Path,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not waited for without end, and the user learns how to find it."""
    monkeypatch.setattr(name_lock, "END_SECONDS", 0.2)
    python(processes, HOLD.format(body=OUTLIVED))
    assert wait_until(lambda: "its bpferry does not" in str(find_conflict("web")))

    with pytest.raises(NameTaken, match="its QEMU still runs") as caught:
        hold_name("web", FILE, record).__enter__()

    assert f"fuser -v '{folders}/state/bpferry/.web.lock'" in caught.value.hint


def test_zombie_has_ended(processes: list["subprocess.Popen[str]"]) -> None:
    """A process that nobody has waited for yet holds no name, and one that never was does not."""
    child = python(processes, "")
    here = socket.gethostname()
    running = Holder(os.getpid(), 0, "", here)

    assert wait_until(Holder(child.pid, 0, "", here).has_ended)
    assert child.returncode is None
    assert Holder(0, 0, "", here).has_ended()
    assert Holder(2**30, 0, "", here).has_ended()
    assert not running.has_ended()


def test_vm_on_another_host(record: Record, folders: Path) -> None:
    """With a home that two hosts share, it is said where the VM runs; its number means nothing."""
    theirs = '{"pid":99999999,"since_s":0,"file":"/x","host":"elsewhere"}'
    with hold_name("web", FILE, record):
        for path in files(folders):
            (folders / path).write_text(theirs, encoding="ascii")
        with pytest.raises(NameTaken) as caught, hold_name("web", FILE, record):
            pass

    assert "process 99999999 on the host 'elsewhere', since " in caught.value.message
    assert caught.value.hint.startswith("stop it there, ")


def test_one_folder_that_cannot_be_made(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home of their own starts VMs, and is told what is not noticed."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")

    with hold_name("web", FILE, record) as fds:
        assert len(fds) == 1
        with pytest.raises(NameTaken), hold_name("web", FILE, record):
            pass

    (text,) = record.texts("warning")
    assert text.startswith(
        "a second VM 'web' that is started in another session may not be noticed"
    )
    assert "/proc/nowhere" in text


def test_no_folder_that_can_be_made(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be locked, nothing is started."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/nowhere")

    with pytest.raises(
        BpferryError, match="cannot make sure that no other VM 'web' is running"
    ) as caught:
        hold_name("web", FILE, record).__enter__()

    assert "XDG_RUNTIME_DIR" in caught.value.hint


def test_file_that_is_not_a_file(folders: Path, record: Record) -> None:
    """A link that somebody has put there is not followed."""
    (folders / "state" / "bpferry").mkdir(parents=True)
    (folders / BOTH[1]).symlink_to(folders / "target")

    with hold_name("web", FILE, record):
        assert not (folders / "target").exists()

    assert "cannot lock" in record.texts("warning")[0]
    assert find_conflict("web") is None


def test_ten_who_come_and_go(folders: Path, processes: list["subprocess.Popen[str]"]) -> None:
    """However often ten of them take it and give it back, no two ever have it."""
    started = [python(processes, STRIFE, str(folders / "mark")) for _ in range(10)]
    ends = [(*process.communicate(timeout=60), process.returncode) for process in started]

    assert [(error, status) for _, error, status in ends] == [("", 0)] * 10
    assert sum(int(out) for out, _, _ in ends) >= 10
    assert files(folders) == []
