# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry screenshot, vnc, spice of a VM that really runs, and the pictures themselves."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.errors import BpferryError
from bpferry.machine.pictures import png_of
from tests.client.running import BASE, DISK, runs, start, type_in
from tests.client.support import wait_until

VGA = '[[videos]]\nmodel = "vga"\n'
VNC = '[[graphics]]\ntype = "vnc"\nport = -1\n'


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


def fds_of(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_picture_has_the_same_points_as_png() -> None:
    """Line by line, as its definition says."""
    ppm = b"P6\n2 2\n255\n" + bytes(range(12))
    png = png_of(ppm)

    assert png[:16] == b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
    assert struct.unpack(">II", png[16:24]) == (2, 2)
    start_of_data = png.index(b"IDAT") + 4
    length = struct.unpack(">I", png[start_of_data - 8 : start_of_data - 4])[0]
    lines = zlib.decompress(png[start_of_data : start_of_data + length])
    assert lines == b"\0" + bytes(range(6)) + b"\0" + bytes(range(6, 12))


@pytest.mark.parametrize(
    "ppm", [b"", b"P6\n2 2\n255\n123", b"P6\n0 0\n255\n", b"P5\n1 1\n255\nxxx"]
)
def test_what_is_no_picture_is_no_png(ppm: bytes) -> None:
    """A QEMU that ends may leave half of one."""
    with pytest.raises(BpferryError, match="picture of the screen is not"):
        png_of(ppm)


@pytest.mark.qemu
def test_a_screenshot_is_written_by_who_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As PNG or PPM; afterwards nobody has an fd more than before."""
    with start(tmp_path, BASE + DISK + VGA) as run:
        runs(run)
        assert main(["screenshot", "t", str(tmp_path / "a.png")]) == 0
        assert capsys.readouterr().out == f"wrote '{tmp_path}/a.png'\n"
        assert main(["screenshot", "t", str(tmp_path / "nosuch" / "a.png")]) == 1
        assert "hint: give the path of a file that you may write" in capsys.readouterr().err
        before = fds_of(run.process.pid), fds_of(run.qemu())
        assert main(["screenshot", "--json", "t", str(tmp_path / "a.ppm")]) == 0
        told = json.loads(capsys.readouterr().out)
        # The connection of the first may still have been open.
        assert wait_until(lambda: fds_of(run.process.pid) <= before[0])
        assert wait_until(lambda: fds_of(run.qemu()) <= before[1])
        type_in(run, b"q")
        assert run.status() == 0

    ppm, png = ((tmp_path / f"a.{kind}").read_bytes() for kind in ("ppm", "png"))
    assert told == {"name": "t", "file": str(tmp_path / "a.ppm")}
    assert ppm.startswith(b"P6\n720 400\n255\n")
    assert any(ppm[20:]), "it is all black"
    assert struct.unpack(">II", png[16:24]) == (720, 400)


@pytest.mark.qemu
def test_a_vm_without_a_screen_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no displays either; a file that is neither PNG nor PPM is wrong usage."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        assert main(["screenshot", "t", str(tmp_path / "a.png")]) == 1
        said = capsys.readouterr().err
        assert main(["screenshot", "t", "a.jpg"]) == 2
        usage = capsys.readouterr().err
        assert main(["spice", "t"]) == 1
        display = capsys.readouterr().err
        type_in(run, b"q")
        assert run.status() == 0

    assert "error: 't' has no screen: it has no graphics card" in said
    assert not (tmp_path / "a.png").exists()
    assert "hint: write a.png" in usage
    assert "error: 't' has no display for spice" in display
    assert 'hint: add [[graphics]] with type = "spice"' in display


@pytest.mark.qemu
def test_the_users_own_viewer_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first that is there; its exit status is passed on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "vncviewer"
    program.write_text('#!/bin/sh\necho "$@"\nexit 5\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DISPLAY": ":7",
    }
    with start(tmp_path, BASE + DISK + VNC) as run:
        runs(run)
        assert run.says("bpferry: vnc: ")
        assert main(["vnc", "--print", "t"]) == 0
        address = capsys.readouterr().out.strip()
        done = subprocess.run(
            [sys.executable, "-m", "bpferry", "vnc", "t"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        del environment["DISPLAY"]
        blind = subprocess.run(
            [sys.executable, "-m", "bpferry", "vnc", "t"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert main(["spice", "t"]) == 1
        other = capsys.readouterr().err
        type_in(run, b"q")
        assert run.status() == 0

    assert address.startswith("vnc://127.0.0.1:59")
    port = address.rpartition(":")[2]
    assert (done.returncode, done.stdout) == (5, f"127.0.0.1::{port}\n")
    assert blind.returncode == 1
    assert f"error: cannot show '{address}': this is no graphical session" in blind.stderr
    assert "hint: it has one for vnc: bpferry vnc t" in other
