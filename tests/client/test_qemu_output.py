# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU writes on its standard error: passed on, explained, or said better."""

import asyncio
from pathlib import Path

import pytest

from bpferry.cli.output import StderrReporter
from bpferry.commandline.parts import Endpoint
from bpferry.machine.qemu_output import LOADED_BY_ITSELF, QemuOutput
from bpferry.qemu.process import start_child
from bpferry.steering.plan import CardPlan, Rung
from tests.client.support import Record, script

PLAN = CardPlan("net0", Rung.EBPF, vhost=False, queues=4, because=())

LIBBPF = """\
libbpf: Failed to bump RLIMIT_MEMLOCK (err = -1), you might need to do it explicitly!
libbpf: Error in bpf_object__probe_loading():{}. Couldn't load trivial BPF program. Make sure that
libbpf: failed to load object 'rss_bpf'
libbpf: failed to load BPF skeleton 'rss_bpf': -1
"""
NOT_LOADED = "qemu-system-x86_64: -device virtio-net-pci: warning: Unable to load eBPF program\n"


def reported(folder: Path, words: str, *endpoints: Endpoint, seconds: float = 0.0) -> Record:
    """Return what is reported of a QEMU that writes *words*, and then stays for *seconds*."""
    (folder / "words").write_text(words, encoding="utf-8")
    record = Record()

    async def read() -> None:
        with start_child([script(folder, f"cat {folder}/words >&2; sleep {seconds}")]) as child:
            output = QemuOutput(child, record, [PLAN], endpoints)
            if seconds:
                await asyncio.sleep(seconds)
            else:
                child.wait(10)
                output.stop()
            output.stop()

    asyncio.run(read())
    return record


def test_qemus_word_that_it_does_not_steer_becomes_a_warning(tmp_path: Path) -> None:
    """QEMU's line is passed on, and what it means is said."""
    words = "warning: Can't load eBPF RSS - fallback to software RSS"

    record = reported(tmp_path, words)

    assert [words] == record.texts("qemu")
    (warning,) = record.texts("warning")
    assert warning.startswith(
        "net0: the plan was 'ebpf', but QEMU could not attach the eBPF program"
    )
    assert "see the kernel's log" in warning


@pytest.mark.parametrize("cause", ["Operation not permitted(1)", "-EPERM"])
@pytest.mark.parametrize("cards", [1, 3])
def test_libbpf_without_a_privilege_is_one_line(cause: str, cards: int, tmp_path: Path) -> None:
    """However many cards there are, it is said once what those lines mean, and what comes after."""
    words = (LIBBPF.format(cause) + NOT_LOADED) * cards + "something else\n"

    record = reported(tmp_path, words)

    assert [("note", LOADED_BY_ITSELF), ("qemu", "something else")] == record.all


def test_libbpf_with_another_cause_is_passed_on(tmp_path: Path) -> None:
    """What nobody expects is shown as it is."""
    words = LIBBPF.format("Invalid argument(22)") + NOT_LOADED

    assert words.splitlines() == reported(tmp_path, words).texts("qemu")


def test_libbpf_is_not_kept_back_for_long(tmp_path: Path) -> None:
    """Where no other line follows, what was written is shown while QEMU runs."""
    words = "libbpf: prog 'x': something\n"

    assert ["libbpf: prog 'x': something"] == reported(tmp_path, words, seconds=1.5).texts("qemu")


@pytest.mark.parametrize(
    ("line", "endpoint"),
    [
        (
            "char device redirected to /dev/pts/3 (label charserial0)",
            Endpoint("serial0", "pty", "serials[0]", chardev="charserial0"),
        ),
        (
            "VNC server running on 127.0.0.1:5900",
            Endpoint("vnc", "tcp", "graphics[0]", protocol="vnc"),
        ),
    ],
)
def test_what_bpferry_says_itself_is_not_said_twice(
    line: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    """QEMU's own line is left out where the user is told, and shown where nobody else tells."""
    assert [] == reported(tmp_path, line, endpoint).texts("qemu")
    assert [line] == reported(tmp_path, line).texts("qemu")


def test_what_qemu_says_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It may repeat what a guest or an image says."""
    StderrReporter().qemu_said("\x1b]0;title\x07\té")

    assert capsys.readouterr().err == "bpferry: qemu: \\x1b]0;title\\x07\té\n"
