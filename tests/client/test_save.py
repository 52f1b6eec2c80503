# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry save, and bpferry run --restore, with a real QEMU."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.errors import BadInput, NotReady
from bpferry.machine import saved
from bpferry.machine.control.running import connect
from bpferry.machine.incoming import open_saved
from tests.client import guest
from tests.client.running import BASE, DISK, Run, start, state, type_in
from tests.client.support import wait_until
from tests.support.census import fd_targets

pytestmark = pytest.mark.qemu

FULL = (
    "unshare", "--mount", "sh", "-c",
    'mount -t tmpfs -o size="$1" small "$2" && shift 2 && exec "$@"', "sh",
)  # fmt: skip
"""Runs a program that finds a file system of a size at a folder, which are the first arguments."""

CARD = '[[cards]]\ntype = "user"\n'


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


@contextmanager
def running(folder: Path, text: str = BASE + DISK) -> Iterator[Run]:
    """Run a VM whose guest has greeted."""
    with start(folder, text) as run:
        assert run.says("hello from the boot sector")
        assert wait_until(lambda: state() == "running")
        yield run


@contextmanager
def restored(folder: Path, *options: str, text: str = BASE + DISK) -> Iterator[Run]:
    """Restore the VM from ``saved`` in *folder*, with its disk as it is."""
    with start(folder, text, "--restore", str(folder / "saved"), *options, writes=False) as run:
        yield run


def open_files(run: Run) -> set[str]:
    """Return what bpferry and its QEMU have open."""
    return {*fd_targets(run.process.pid), *fd_targets(run.qemu())}


def save(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Save the VM to ``saved``, and return what is printed."""
    assert main(("save", *options, "t", str(folder / "saved"))) == 0
    return capsys.readouterr().out


def test_a_saved_vm_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its guest does not start anew: it answers, and does not greet."""
    with running(tmp_path, BASE + DISK + CARD) as run:
        said = save(tmp_path, capsys)
        assert said == f"'t' is saved in '{tmp_path}/saved'\n"
        assert run.status() == 0
        assert run.err().endswith("the VM has stopped\n")
    assert (tmp_path / "saved").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "saved.part").exists()
    with restored(tmp_path, text=BASE + DISK + CARD) as run:
        assert wait_until(lambda: state() == "running")
        # Whoever deletes the file gets its space back, while the VM runs.
        assert wait_until(lambda: str(tmp_path / "saved") not in open_files(run))
        type_in(run, b"still there")
        assert run.says("still there")
        type_in(run, b"q")
        assert run.status() == 0
        assert "hello" not in run.out()


def test_a_vm_that_was_paused_is_paused_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until its user lets it continue."""
    with running(tmp_path):
        assert main(("pause", "t")) == 0
        capsys.readouterr()
        told = json.loads(save(tmp_path, capsys, "--json"))
        assert told["bytes"] == (tmp_path / "saved").stat().st_size > saved.HEADER_BYTES
    with restored(tmp_path) as run:
        assert wait_until(lambda: state() == "paused")
        assert main(("resume", "t")) == 0
        type_in(run, b"x")
        assert run.says("x")


def test_a_changed_disk_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guest that goes on with another disk than it knows destroys it."""
    with running(tmp_path):
        save(tmp_path, capsys)
    os.utime(tmp_path / "disk.img")
    with restored(tmp_path) as run:
        assert run.status() == 1
        assert "'{}' has changed since".format(tmp_path / "disk.img") in run.err()
        assert "start the VM without --restore" in run.err()


def test_another_vm_than_before_is_refused_with_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """QEMU would refuse some of it, in words that help nobody."""
    with running(tmp_path):
        save(tmp_path, capsys)
    with restored(tmp_path, text=BASE.replace("32 MiB", "64 MiB") + DISK) as run:
        assert run.status() == 1
        assert "the VM is not the same as when it was saved: it had '-m " in run.err()


def test_a_file_that_is_there_is_kept_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The VM goes on after the refusal."""
    (tmp_path / "saved").write_text("precious")
    with running(tmp_path) as run:
        assert main(("save", "t", str(tmp_path / "saved"))) == 1
        assert "it is there already" in capsys.readouterr().err
        assert state() == "running"
        type_in(run, b"x")
        assert run.says("x")
        save(tmp_path, capsys, "--force")
    assert (tmp_path / "saved").read_bytes().startswith(saved.MAGIC)


def test_a_folder_that_is_not_there_leaves_the_vm_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was stopped for it."""
    with running(tmp_path) as run:
        assert main(("save", "t", str(tmp_path / "nowhere/saved"))) == 1
        assert "No such file or directory" in capsys.readouterr().err
        type_in(run, b"x")
        assert run.says("x")


def test_a_full_disk_lets_the_guest_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RLIMIT_FSIZE stands in for it; the half file is removed."""
    limit = ("prlimit", f"--fsize={saved.HEADER_BYTES + 65536}")
    with start(tmp_path, BASE + DISK, prefix=limit) as run:
        assert run.says("hello")
        assert wait_until(lambda: state() == "running")
        assert main(("save", "t", str(tmp_path / "saved"))) == 1
        assert f"cannot save 't' to '{tmp_path}/saved': " in capsys.readouterr().err
        assert wait_until(lambda: state() == "running")
        type_in(run, b"x")
        assert run.says("x")
        assert not list(tmp_path.glob("saved*"))


@pytest.mark.privileged
@pytest.mark.parametrize(
    ("size", "failure"),
    [("512k", "cannot save 't' to '{}': "), ("4k", "cannot write '{}.part': ")],
    ids=["the memory", "the header"],
)
def test_a_full_disk_is_told_with_what_to_do(
    size: str, failure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file system of its own, which only that bpferry sees, has no room for it."""
    small = tmp_path / "small"
    small.mkdir()
    with start(tmp_path, BASE + DISK, prefix=(*FULL, size, str(small))) as run:
        assert run.says("hello")
        assert wait_until(lambda: state() == "running")
        assert main(("save", "t", str(small / "saved"))) == 1
        said = capsys.readouterr().err
        assert failure.format(small / "saved") in said
        assert "No space left on device\n" in said
        assert "hint: free some space there: 'df -h' shows how much is left\n" in said


def test_ctrl_c_cancels_and_the_guest_continues(tmp_path: Path) -> None:
    """If it comes too late the VM is saved, and nothing in between."""
    command = [sys.executable, "-m", "bpferry", "save", "t", str(tmp_path / "saved")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with running(tmp_path, BASE.replace("32 MiB", "1024 MiB") + DISK) as run:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
        assert wait_until((tmp_path / "saved.part").exists)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        if process.returncode == 0 or (tmp_path / "saved").exists():
            assert run.status() == 0
            return
        assert process.returncode == 130
        assert "cancelling: the guest continues" in said
        assert wait_until(lambda: state() == "running")
        type_in(run, b"x")
        assert run.says("x")
        assert not list(tmp_path.glob("saved*"))


def test_a_vm_that_ends_while_it_is_saved_leaves_no_file(tmp_path: Path) -> None:
    """A killed QEMU has not written everything."""
    with (
        running(tmp_path, BASE.replace("32 MiB", "512 MiB") + DISK) as run,
        connect("t") as control,
    ):
        control.ask("save", path=str(tmp_path / "saved"), replace=False)
        os.kill(run.qemu(), signal.SIGKILL)
        assert control.wait_for_end(20)
        run.status()
    assert not list(tmp_path.glob("saved*"))


@pytest.mark.parametrize(
    "content", [b"", b"x" * 1000, saved.MAGIC, saved.MAGIC.ljust(saved.HEADER_BYTES, b"{")]
)
def test_another_file_is_called_what_it_is(tmp_path: Path, content: bytes) -> None:
    """No QEMU has to see it."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with (
        pytest.raises(BadInput, match=r"not a VM that|header is damaged"),
        open_saved(str(path), "t"),
    ):
        pass


def test_a_header_that_was_damaged_or_is_of_another_vm_is_refused(tmp_path: Path) -> None:
    """The name is the first thing that is compared."""
    path = tmp_path / "file"
    header = saved.Header(
        name="web",
        qemu="/q",
        version="10.0",
        words=("-m 1",),
        paused=False,
        saved_s=1,
        complete=True,
    )
    with path.open("wb") as file:
        saved.write_header(file.fileno(), header)
    with open_saved(str(path), "web") as found:
        assert found.header == header
        saved.check_words(header, ("-m 1",), "file")
        with pytest.raises(NotReady, match=r"it had '-m 1'; it has '-m 2'"):
            saved.check_words(header, ("-m 2",), "file")
    with pytest.raises(BadInput, match="it is the VM 'web'"), open_saved(str(path), "db"):
        pass


# -- Snapshots of disks


QCOW2 = '[[serials]]\ntype = "stdio"\n[[disks]]\nfile = "disk.qcow2"\nformat = "qcow2"\n'


def snapshots(path: Path) -> list[str]:
    """Return the names of the snapshots in an image that nobody uses."""
    done = subprocess.run(
        ["qemu-img", "info", "--output=json", str(path)], check=True, capture_output=True
    )
    return [one["name"] for one in json.loads(done.stdout).get("snapshots", ())]


def qcow2(folder: Path, name: str) -> Path:
    """Make a bootable qcow2 image."""
    guest.write_disk(folder / "raw.img")
    command = ["qemu-img", "convert", "-O", "qcow2", str(folder / "raw.img"), str(folder / name)]
    subprocess.run(command, check=True)
    return folder / name


def test_all_disks_get_the_snapshot_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that one of them has already is refused with that image, and the VM runs on."""
    paths = [qcow2(tmp_path, "disk.qcow2"), qcow2(tmp_path, "other.qcow2")]
    subprocess.run(["qemu-img", "snapshot", "-c", "taken", str(paths[1])], check=True)
    text = BASE + QCOW2 + '[[disks]]\nfile = "other.qcow2"\nformat = "qcow2"\n'
    with running(tmp_path, text) as run:
        assert main(("snapshot", "t", "first")) == 0
        said = capsys.readouterr().out
        assert said.splitlines() == [f"'{path}' has the snapshot 'first'" for path in paths]
        assert main(("snapshot", "t", "taken")) == 1
        refused = capsys.readouterr().err
        assert f"'{paths[1]}' has a snapshot 'taken' already\n" in refused
        assert f"remove that one: qemu-img snapshot -d taken {paths[1]}\n" in refused
        assert main(("snapshot", "t", "12")) == 2
        type_in(run, b"q")
        assert run.status() == 0
    assert snapshots(paths[0]) == ["first"]
    assert snapshots(paths[1]) == ["taken", "first"]


def test_a_disk_without_snapshots_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A raw image has none."""
    with running(tmp_path):
        assert main(("snapshot", "t", "first")) == 3
        assert "disk.img' is not in the format 'qcow2'" in capsys.readouterr().err


# -- Links


def test_a_link_that_was_taken_down_is_down_in_the_restored_vm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The description has it up, as for a start."""
    with running(tmp_path, BASE + DISK + CARD):
        assert main(("set-link", "t", "net0", "down")) == 0
        save(tmp_path, capsys)
    with restored(tmp_path, text=BASE + DISK + CARD):
        assert wait_until(lambda: state() == "running")
        capsys.readouterr()
        assert main(("status", "t", "--json")) == 0
        (card,) = json.loads(capsys.readouterr().out)["cards"]
        assert card["link"] == "down"
