# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU starts before what looks after it is imported."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.machine import starting
from bpferry.qemu.process import STOP_SIGNALS

DESCRIPTION = 'name = "t"\nmemory = "32 MiB"\naccelerator = "tcg"\n'

LIST_MODULES = """
import os, sys
from bpferry.cli.main import main
def stop(event, _arguments):
    if event == "subprocess.Popen":
        os.write(1, " ".join(sys.modules).encode())
        os._exit(0)
sys.addaudithook(stop)
main(["run", sys.argv[1]])
"""
"""Tells what is imported when the first process is started: QEMU, if it need not be asked."""

LATER = {
    "asyncio",
    "bpferry.commandline.buses.libvirt_order",
    "bpferry.domain.model.extras",
    "bpferry.domain.model.firmware",
    "bpferry.domain.reasons",
    "bpferry.domain.xml_reader",
    "bpferry.machine.card_fds",
    "bpferry.machine.console.relay",
    "bpferry.machine.console.terminal",
    "bpferry.machine.control.hot_plug",
    "bpferry.machine.control.server",
    "bpferry.machine.incoming",
    "bpferry.machine.exposure",
    "bpferry.machine.limits",
    "bpferry.machine.permissions",
    "bpferry.machine.processes",
    "bpferry.machine.supervisor",
    "bpferry.machine.uefi_files",
    "bpferry.network.bpf_helper",
    "bpferry.network.macvtap",
    "bpferry.network.tap_helper",
    "bpferry.network.vhost",
    "bpferry.qemu.monitor",
    "bpferry.steering.maps",
    "bpferry.steering.requests",
    "bpferry_wire.messages",
    "concurrent.futures",
    "copy",
    "hashlib",
    "hmac",
    "inspect",
    "ipaddress",
    "logging",
    "mmap",
    "msgpack",
    "qemu",
    "shutil",
    "ssl",
    "typing_extensions",
    "urllib",
}
"""What takes as long to import as QEMU takes to start, and what only a document in XML, or a VM
with cards, UEFI or limits, needs."""


RARE = {
    "bpferry.domain.model.characters",
    "bpferry.domain.model.disks",
    "bpferry.machine.complaints",
    "bpferry.machine.control.hot_plug.cards",
    "bpferry.machine.control.move",
    "bpferry.machine.images",
    "bpferry.machine.migration",
    "bpferry.machine.serials",
}
"""For moves to other hosts, consoles, hot-plug, and a QEMU that does not start."""


def modules_after(code: str, *arguments: str, **variables: str) -> set[str]:
    """Run *code*, which prints the names of all modules last, and return them."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_what_a_running_vm_needs_is_imported_while_qemu_starts(tmp_path: Path) -> None:
    """Otherwise the user would wait for one after the other."""
    path = tmp_path / "t.toml"
    path.write_text(DESCRIPTION, encoding="utf-8")
    # From then on it is known what this QEMU can do.
    assert main(["run", "--dry-run=json", str(path)]) == 0
    folders = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}

    loaded = modules_after(LIST_MODULES, str(path), **folders)
    assert "bpferry.machine.preparation" in loaded
    assert loaded & LATER == set()


WITH_CARD = f"""{DESCRIPTION}
[[cards]]
bridge = "br0"
queues = 4
rss = true
"""

NOT_FOR_A_CARD = {
    "bpferry.domain.model.characters",
    "bpferry.machine.character_sources",
    "bpferry.machine.console.relay",
    "bpferry.machine.console.terminal",
    "bpferry.network.existing_tap",
    "bpferry.network.macvtap",
    "bpferry.machine.exposure",
    "bpferry.machine.servers",
    "ipaddress",
    "termios",
}
"""What only a VM that is started needs, or one with ports or servers, or with a tap that is there
already."""


def test_a_card_with_a_tap_of_the_helpers_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """Nor does a dry run import what only a start needs."""
    path = tmp_path / "t.toml"
    path.write_text(WITH_CARD, encoding="utf-8")
    code = "import sys; from bpferry.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    # From then on it is known what this QEMU can do.
    assert main(["run", "--dry-run=json", str(path)]) == 0

    loaded = modules_after(code, "run", "--dry-run=json", str(path))
    assert "bpferry.steering.requests" in loaded
    assert loaded & NOT_FOR_A_CARD == set()


SERVER = Path(__file__).parents[1] / "documents" / "server.xml"

NOT_FOR_A_SERVER = {
    "bpferry.commandline.buses.hubs",
    "bpferry.commandline.characters.channels",
    "bpferry.commandline.characters.redirection",
    "bpferry.commandline.characters.smartcards",
    "bpferry.commandline.characters.tpm",
    "bpferry.commandline.displays.inputs",
    "bpferry.commandline.displays.sounds",
    "bpferry.commandline.displays.spice",
    "bpferry.commandline.displays.vhost_user_videos",
    "bpferry.commandline.memory.modules",
    "bpferry.commandline.storage.network_images",
    "bpferry.commandline.storage.vhost_user_disks",
    "bpferry.domain.leaving_out",
    "bpferry.domain.refusals",
    "bpferry.machine.companions",
    "bpferry.machine.console.keys",
    "locale",
    "platform",
    "subprocess",
    "urllib",
}
"""What a document with disks, cards, a port and a screen has no use for."""


def test_a_dry_run_of_a_server_imports_no_more_than_it_needs() -> None:
    """A script may ask for many of them."""
    code = "import sys; from bpferry.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    # From then on it is known what this QEMU can do.
    assert main(["run", "--dry-run=json", str(SERVER)]) == 0

    loaded = modules_after(code, "run", "--dry-run=json", str(SERVER))
    assert "bpferry.commandline.displays.graphics" in loaded
    assert loaded & NOT_FOR_A_SERVER == set()


def test_what_few_running_vms_are_asked_for_is_not_imported_for_all() -> None:
    """A guest that could run would wait for it."""
    code = "import sys, bpferry.machine.supervisor; print(*sys.modules)"

    assert modules_after(code) & RARE == set()


def test_no_guest_runs_before_somebody_can_power_it_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """QEMU waits with it, so that a signal before the supervisor is there cuts no power."""
    path = tmp_path / "t.toml"
    path.write_text(DESCRIPTION, encoding="utf-8")

    assert main(["run", "--dry-run=json", str(path)]) == 0

    assert "-S" in json.loads(capsys.readouterr().out)["argv"]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signals_before_the_supervisor_is_there_are_kept_for_it(number: signal.Signals) -> None:
    """They would end us, and QEMU with us, while the guest boots already."""
    before = signal.getsignal(number)

    with starting.kept_signals() as kept:
        signal.raise_signal(number)

    assert kept == [number]
    assert signal.getsignal(number) == before
