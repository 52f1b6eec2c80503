# SPDX-License-Identifier: LGPL-2.1-or-later
"""Graphics cards in a real QEMU."""

import json
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from tests.client.support import wait_until
from tests.devices import fake_gpu
from tests.devices.running import domain, running

pytestmark = pytest.mark.qemu


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize(
    ("model", "driver"),
    [
        ("type='vga' vram='32768'", "VGA"),
        ("type='cirrus'", "cirrus-vga"),
        ("type='vmvga'", "vmware-svga"),
        ("type='qxl' vgamem='32768' heads='2'", "qxl-vga"),
        ("type='virtio' heads='4'", "virtio-vga"),
        ("type='bochs'", "bochs-display"),
        ("type='ramfb'", "ramfb"),
    ],
)
def test_primary_card(model: str, driver: str, machine: str, tmp_path: Path) -> None:
    """Each model is there."""
    document = domain(f"<video><model {model}/></video>", machine=machine)
    with running(document, tmp_path) as vm:
        assert driver == vm.qom_type("video0")


def test_cards_beside_each_other(tmp_path: Path) -> None:
    """The first is the one that says so, and the others have sizes of their own."""
    video = "<video><model type='{}'><resolution x='1280' y='720'/></model></video>"
    second = "<video><model type='vga' primary='yes' vram='8192'/></video>"
    document = domain(video.format("virtio") + second + video.format("qxl"))
    with running(document, tmp_path) as vm:
        assert ["VGA", "virtio-gpu-pci", "qxl"] == [vm.qom_type(f"video{n}") for n in range(3)]
        assert 8 == vm.property_of("video0", "vgamem_mb")
        assert (1280, 720) == tuple(vm.property_of("video1", name) for name in ("xres", "yres"))


def test_display_without_a_card_in_the_document(tmp_path: Path) -> None:
    """It shows libvirt's usual card."""
    with running(domain("<graphics type='spice'/>"), tmp_path) as vm:
        assert "cirrus-vga" == vm.qom_type("video0")


@pytest.fixture
def _gpu_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program of ours be the one that plays graphics cards on this host."""
    program = tmp_path / "gpu"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_gpu.__file__} "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "config" / "qemu" / "vhost-user"
    folder.mkdir(parents=True)
    described = {"description": "a GPU", "type": "gpu", "binary": str(program)}
    (folder / "10-gpu.json").write_text(json.dumps(described))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _programs_that_run() -> list[int]:
    """Return the ids of the processes that run our program."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if fake_gpu.__file__.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


OUTSIDE = "<video><driver name='vhostuser'/><model type='virtio'/></video>"


@pytest.mark.usefixtures("_gpu_program")
def test_cards_that_other_processes_play(tmp_path: Path) -> None:
    """QEMU reaches each process over the socket that both inherit, and makes the device."""
    with running(domain(OUTSIDE * 2), tmp_path) as vm:
        assert "vhost-user-vga" == vm.qom_type("video0")
        assert "vhost-user-gpu-pci" == vm.qom_type("video1")
        assert 2 == len(_programs_that_run())
    assert [] == _programs_that_run()


@pytest.mark.usefixtures("_gpu_program")
def test_process_of_a_card_ends_with_qemu(tmp_path: Path) -> None:
    """It sees that QEMU has hung up, since nobody else keeps QEMU's end of the socket."""
    with running(domain(OUTSIDE), tmp_path) as vm:
        vm.child.kill()
        assert wait_until(lambda: not _programs_that_run())


@pytest.mark.usefixtures("_gpu_program")
def test_qemu_sees_the_end_of_the_process_of_a_card(tmp_path: Path) -> None:
    """QEMU sees that the process has hung up, since nobody else keeps its end of the socket."""
    with running(domain(OUTSIDE), tmp_path) as vm:

        def is_disconnected() -> bool:
            answer = msgspec.convert(vm.execute("query-chardev"), list[dict[str, str | bool]])
            (state,) = [one["filename"] for one in answer if one["label"] == "chr-vu-video0"]
            return str(state).startswith("disconnected")

        assert not is_disconnected()
        (process,) = _programs_that_run()
        os.kill(process, signal.SIGKILL)
        assert wait_until(is_disconnected)
