# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes beside QEMU: awaited, watched, and ended, whatever they do."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bpferry.commandline.parts import Companion, Step
from bpferry.errors import CompanionError
from bpferry.machine import companions as module
from bpferry.machine.companions import is_listening, start_companions
from tests import requires
from tests.client import support

SERVER = """
import socket, sys, time
print("preparing", flush=True)
time.sleep({delay})
sock = socket.socket(socket.AF_UNIX)
sock.bind({path!r})
{between}
sock.listen(1)
time.sleep(600)
"""


def companion(
    tmp_path: Path, script: str, steps: tuple[Step, ...] = (), folders: tuple[str, ...] = ()
) -> Companion:
    """Return a companion that is a Python *script*."""
    return Companion(
        "tester",
        (sys.executable, "-c", script),
        str(tmp_path / "run" / "tester.sock"),
        "tpm",
        package="tester-package",
        folders=folders,
        steps=steps,
    )


def server(tmp_path: Path, delay: float = 0.0, between: str = "") -> Companion:
    """Return a companion that listens after *delay* seconds."""
    path = str(tmp_path / "run" / "tester.sock")
    return companion(tmp_path, SERVER.format(path=path, delay=delay, between=between))


def test_companion_listens_in_the_block(tmp_path: Path, record: support.Record) -> None:
    """The block begins when the socket is there."""
    one = server(tmp_path, delay=0.2)

    with start_companions([one], record) as (running,):
        assert is_listening(running.companion.socket)


def test_bound_socket_that_does_not_listen_is_awaited(
    tmp_path: Path, record: support.Record
) -> None:
    """A socket's file is there before its owner listens; QEMU would be refused."""
    one = server(tmp_path, between="time.sleep(0.3)")
    before = time.monotonic()

    with start_companions([one], record):
        assert time.monotonic() - before >= 0.3


def test_companion_ends_with_the_block(tmp_path: Path, record: support.Record) -> None:
    """No process and no socket is left."""
    with start_companions([server(tmp_path)], record) as (running,):
        pid, path = running.child.pid, Path(running.companion.socket)

    assert support.is_gone(pid)
    assert not path.exists()


def test_companion_is_told_to_end_first(tmp_path: Path, record: support.Record) -> None:
    """A process can put its state in order before it goes."""
    note = tmp_path / "note"
    orderly = (
        "import signal\n"
        f"signal.signal(signal.SIGINT, lambda *_: sys.exit(open({str(note)!r}, 'w').write('x')))"
    )

    with start_companions([server(tmp_path, between=orderly)], record):
        pass

    assert "x" == note.read_text()


def test_companion_that_does_not_end_is_killed(
    tmp_path: Path, record: support.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ignores all signals goes as well."""
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    deaf = server(tmp_path, between="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")

    with start_companions([deaf], record) as (running,):
        pid = running.child.pid

    assert support.is_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_companion_does_not_hear_the_end_of_a_session(
    tmp_path: Path, record: support.Record, number: signal.Signals
) -> None:
    """The VM still needs it while its guest powers down, and we end it after that."""
    with start_companions([server(tmp_path)], record) as (running,):
        os.kill(running.child.pid, number)

        assert not running.child.wait(0.2)
    assert support.is_gone(running.child.pid)


def test_early_end_is_told_in_its_own_words(tmp_path: Path, record: support.Record) -> None:
    """The error carries what the process said, its status, and whom it was for."""
    one = companion(tmp_path, "import sys; print('no such state'); sys.exit(3)")

    with pytest.raises(CompanionError) as caught, start_companions([one], record):
        pass

    assert "'tester' exited before it listened on its socket: exit status 3" == caught.value.message
    assert "it said: no such state" == caught.value.hint
    assert "tpm" == caught.value.element


def test_silent_companion_is_not_awaited_for_ever(
    tmp_path: Path, record: support.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that never listens is given up after a bounded time, and ended."""
    monkeypatch.setattr(module, "SOCKET_SECONDS", 0.2)
    one = companion(tmp_path, "import time; time.sleep(600)")

    with (
        pytest.raises(CompanionError, match=r"does not listen after 0\.2 s"),
        start_companions([one], record),
    ):
        pass


def test_talkative_companion_is_not_held_up(tmp_path: Path, record: support.Record) -> None:
    """What it writes before it listens is read, however much it is."""
    one = server(tmp_path, between="print('x' * 300_000, flush=True)")

    with start_companions([one], record) as (running,):
        assert is_listening(running.companion.socket)


def test_second_that_fails_ends_the_first(tmp_path: Path, record: support.Record) -> None:
    """Where one of several cannot be started, those before it end."""
    first = server(tmp_path / "a")
    second = companion(tmp_path / "b", "raise SystemExit(1)")

    with pytest.raises(CompanionError), start_companions([first, second], record):
        pass

    assert not Path(first.socket).exists()


def test_later_end_is_described(tmp_path: Path, record: support.Record) -> None:
    """The supervisor can say what happened to one that ended while QEMU runs."""
    with start_companions([server(tmp_path)], record) as (running,):
        running.child.kill()
        running.child.wait(5)

        end = running.describe_end()
        assert "'tester' exited while the VM still needs it: killed by SIGKILL" == end.message
        assert f"'Killed process {running.child.pid}'" in end.hint


def test_program_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, record: support.Record
) -> None:
    """The hint says what to install."""
    one = Companion("x", ("no-such-program",), str(tmp_path / "s"), "tpm", "its-package")

    with pytest.raises(CompanionError) as caught, start_companions([one], record):
        pass

    assert "cannot start 'no-such-program': it is not installed" == caught.value.message
    assert "its-package" in caught.value.hint


def test_folders_are_made_for_the_user_alone(tmp_path: Path, record: support.Record) -> None:
    """State that holds a TPM's keys is for nobody else."""
    state = tmp_path / "state" / "tpm"
    one = server(tmp_path)
    with_folder = companion(tmp_path, one.argv[2], folders=(str(state),))

    with start_companions([with_folder], record):
        assert 0o700 == state.stat().st_mode & 0o7777


def step(script: str, empty: str | None = None) -> Step:
    """Return a step that is a shell *script*."""
    return Step(("/bin/sh", "-c", script), empty)


def test_step_is_done_once(tmp_path: Path, record: support.Record) -> None:
    """A step for an empty folder is left out where the folder has something in it."""
    state = tmp_path / "state"
    one = server(tmp_path)
    counting = step(f"echo done >> {state}/log", str(state))
    prepared = companion(tmp_path, one.argv[2], (counting,), (str(state),))

    for _ in range(2):
        with start_companions([prepared], record):
            pass

    assert "done\n" == (state / "log").read_text()


def test_failed_step_leaves_its_folder_empty(tmp_path: Path, record: support.Record) -> None:
    """The next run does the step again."""
    state = tmp_path / "state"
    failing = step(f"touch {state}/half; echo no keys; exit 1", str(state))
    one = companion(tmp_path, "", (failing,), (str(state),))

    with (
        pytest.raises(CompanionError, match="'sh' failed: exit status 1") as caught,
        start_companions([one], record),
    ):
        pass

    assert "it said: no keys" == caught.value.hint
    assert [] == list(state.iterdir())


def test_needed_step_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, record: support.Record
) -> None:
    """What has to be done before the start is an error if it cannot be."""
    needed = Step(("no-such-program",), package="its-tools")
    one = companion(tmp_path, "", (needed,))

    with pytest.raises(CompanionError) as caught, start_companions([one], record):
        pass

    assert "its-tools" in caught.value.hint


def test_dispensable_step_that_fails_is_announced(tmp_path: Path, record: support.Record) -> None:
    """What is left out is told once, with the reason, and what builds on it is left out too."""
    one = server(tmp_path)
    argv = ("/bin/sh", "-c", "exit 3")
    steps = (Step(argv, None, "no certificates"), Step(argv, None, "no certificates"))
    prepared = companion(tmp_path, one.argv[2], steps)

    with start_companions([prepared], record):
        pass

    (warning,) = record.texts("warning")
    assert warning.startswith("no certificates")
    assert "exit status 3" in warning


def test_inherited_end_of_a_socket_is_used(tmp_path: Path, record: support.Record) -> None:
    """A companion without a socket of its own talks over the fd that it inherits."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        script = f"import os; os.write({theirs.fileno()}, b'hello'); os.read(0, 1)"
        one = msgspec.structs.replace(companion(tmp_path, script), socket="", inherits=("end",))

        with start_companions([one], record, {"end": theirs.fileno()}):
            ours.settimeout(5)
            assert b"hello" == ours.recv(5)


def test_no_other_fd_is_inherited(tmp_path: Path, record: support.Record) -> None:
    """A companion gets those that it names, and not what others are to inherit."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one = msgspec.structs.replace(
            companion(tmp_path, "import os; print(os.listdir('/proc/self/fd'))"), socket=""
        )

        with start_companions([one], record, {"end": theirs.fileno()}) as (running,):
            running.child.wait(5)
            assert f"'{theirs.fileno()}'" not in running.child.tail()


@pytest.mark.qemu
def test_swtpm_listens_and_ends(tmp_path: Path, record: support.Record) -> None:
    """The one that most people use is awaited without being used up."""
    requires.program("swtpm")
    state, path = str(tmp_path / "state"), str(tmp_path / "tpm.sock")
    control, store = f"type=unixio,path={path}", f"dir={state}"
    argv = ("swtpm", "socket", "--ctrl", control, "--tpmstate", store, "--tpm2", "--terminate")

    with start_companions(
        [Companion("swtpm", argv, path, "tpm", package="", folders=(state,))], record
    ) as (one,):
        assert not one.child.wait(0.2)
