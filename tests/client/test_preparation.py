# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a draft to what QEMU needs: what is in it is opened, and then it is built once more."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from bpferry.commandline.build import build
from bpferry.domain.document import read_bytes
from bpferry.errors import CompanionError
from bpferry.machine.card_fds import Helpers
from bpferry.machine.draft import Draft, draft
from bpferry.machine.preparation import prepare
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from tests.client.support import Record

pytestmark = pytest.mark.qemu

TEXT = """\
name = "built-once"
memory = "32 MiB"
accelerator = "tcg"
[[cards]]
type = "user"
[[serials]]
type = "pty"
"""


def times_built(step: Callable[[], object]) -> int:
    """Return how often *step* builds a command line."""
    count = 0

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code is build.__code__

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        step()
    finally:
        sys.setprofile(before)
    return count


def drafted() -> Draft:
    """Return the draft of a small VM."""
    return draft(read_bytes(TEXT.encode(), Path("/vm.toml")), Record())


def test_a_dry_run_builds_once() -> None:
    """All that it says is in the draft."""
    assert 1 == times_built(drafted)


TPM = """\
<domain type='qemu'>
  <name>without-swtpm</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices><tpm model='tpm-crb'><backend type='emulator'/></tpm></devices>
</domain>
"""


def test_what_cannot_be_started_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told which part of the document needs it."""
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    found = draft(read_bytes(TPM.encode(), Path("/vm.xml")), Record())
    monkeypatch.setenv("PATH", str(tmp_path))

    with (
        pytest.raises(CompanionError) as caught,
        Helpers(BpfHelper(), TapHelper()) as helpers,
        prepare(found, helpers, Record()),
    ):
        pass

    place = "'/vm.xml':5: '/domain/devices/tpm'"
    assert f"{place}: cannot start 'swtpm': it is not installed" == caught.value.message


def test_a_run_builds_once_more() -> None:
    """What is to be opened is in the draft; then each fd has its number."""
    found = drafted()

    def run() -> None:
        with (
            Helpers(BpfHelper(), TapHelper()) as helpers,
            prepare(found, helpers, Record()) as prepared,
        ):
            assert "fd=qmp" not in " ".join(prepared.argv)

    assert 1 == times_built(run)
