# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a fault is, by what was asked for; and the description of a VM beside its host."""

from pathlib import Path

import msgspec
import pytest

from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.errors import BadInput, NameTaken
from bpferry.machine.doctor.description import (
    bridges_named,
    check_description,
    networks_named,
    wanted_by,
)
from bpferry.machine.doctor.examination import Examination, Subject, examine
from bpferry.machine.doctor.finding import CORE, NAMES, PROVEN, Feature, Finding, ready, settle
from bpferry.machine.faults import Fault
from bpferry.machine.verdict import Verdict
from tests.client.doctor.support import named
from tests.client.support import MACHINE, Record

BRIDGED = msgspec.structs.replace(
    MACHINE, cards=(Card(type="bridge", bridge="br0"), Card(type="bridge", bridge="br0"))
)


def fault(*features: Feature) -> Finding:
    """Return a fault that matters for *features*."""
    return Finding("x.y", "fault", "it does not work", features)


@pytest.mark.parametrize(
    ("finding", "wanted", "state"),
    [
        (fault(Feature.TAPS), CORE, "fault"),
        (fault(Feature.VHOST), CORE, "warning"),
        (fault(Feature.VHOST, Feature.EBPF), CORE, "fault"),
        (fault(Feature.EBPF), frozenset({Feature.RUN}), "warning"),
        (fault(), frozenset(), "fault"),
        (Finding("x.y", "warning", "", (Feature.TAPS,)), CORE, "warning"),
        (Finding("x.y", "ok", "", (Feature.TAPS,)), CORE, "ok"),
    ],
)
def test_a_fault_is_about_what_was_asked_for(
    finding: Finding, wanted: frozenset[Feature], state: str
) -> None:
    """All others are warnings, and nothing becomes worse."""
    assert [state] == [one.state for one in settle([finding], wanted)]


def test_what_is_ready_is_what_has_no_fault() -> None:
    """Of what something was said about, and what can fail at all."""
    found = [
        fault(Feature.VHOST),
        Finding("x.y", "ok", "", (Feature.VHOST, Feature.EBPF)),
        Finding("x.y", "warning", "", (Feature.SAFETY,)),
    ]

    assert {Feature.EBPF: True, Feature.VHOST: False} == ready(found)


def test_every_feature_has_a_name_for_people() -> None:
    """And what can fail is among them."""
    assert set(Feature) == set(NAMES)
    assert set(Feature) > PROVEN > CORE


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        (MACHINE, {Feature.RUN}),
        (BRIDGED, {Feature.RUN, Feature.TAPS}),
        (
            msgspec.structs.replace(MACHINE, cards=(Card(type="network", network="default"),)),
            {Feature.RUN, Feature.TAPS},
        ),
        (
            msgspec.structs.replace(MACHINE, cards=(Card(type="ethernet", tap="tap0"),)),
            {Feature.RUN},
        ),
        (
            msgspec.structs.replace(
                MACHINE, cards=(Card(type="bridge", bridge="br0", driver="vhost"),)
            ),
            {Feature.RUN, Feature.TAPS, Feature.VHOST},
        ),
        (msgspec.structs.replace(MACHINE, require_ebpf=True), {Feature.RUN, Feature.EBPF}),
        (
            msgspec.structs.replace(MACHINE, accelerator="kvm", tcg_fallback=False),
            {Feature.RUN, Feature.KVM},
        ),
        (
            msgspec.structs.replace(MACHINE, accelerator="kvm", tcg_fallback=True),
            {Feature.RUN},
        ),
        (msgspec.structs.replace(MACHINE, firmware="efi"), {Feature.RUN, Feature.UEFI}),
    ],
)
def test_a_vm_asks_for_what_it_cannot_start_without(machine: Machine, wanted: set[Feature]) -> None:
    """RSS without eBPF, and a tap that is there already, need no helper."""
    assert wanted == wanted_by(machine)


def test_bridges_and_networks_are_named_once() -> None:
    """However many cards are on them."""
    assert ["br0"] == bridges_named(BRIDGED)
    assert [] == networks_named(BRIDGED)


@pytest.mark.parametrize(
    ("level", "state"),
    [("error", "fault"), ("data-loss", "warning"), ("warning", "warning"), ("note", "ok")],
)
def test_what_a_check_finds_has_a_state(level: str, state: str) -> None:
    """Its sentence and what to do are the same."""
    one = Fault("cards[0]", level, "it is so", cause="why", fix="do that")  # type: ignore[arg-type]
    verdict = Verdict(None, (), (one,))
    found = named(check_description(verdict), "vm.design")

    assert (found.state, found.message, found.fix) == (state, "it is so: why", "do that")


def test_a_vm_without_errors_can_start() -> None:
    """That is said, since nothing else may be."""
    assert named(check_description(Verdict(None, ())), "vm.starts").state == "ok"


def test_a_vm_with_an_error_is_not_called_startable() -> None:
    """A QEMU that could not be asked is told as well."""
    error = BadInput("wrong")
    names = [one.name for one in check_description(Verdict(None, (error,), not_asked=error))]

    assert ["vm.bad-input", "vm.not-checked"] == names


def test_a_vm_that_runs_is_no_fault() -> None:
    """Its name is taken, so it cannot be started again; the host is ready for it all the same."""
    taken = NameTaken("you already have a VM named 't' running", "stop it", "name")
    (found,) = check_description(Verdict(None, (taken,)))

    assert ("vm.runs", "ok", "") == (found.name, found.state, found.mended_by)
    assert "you already have a VM named 't' running" in found.message


def test_the_status_is_that_of_faults() -> None:
    """A warning is none."""
    warning = Finding("x.y", "warning", "")

    assert Examination((warning,), {}).status == 0
    assert Examination((warning, fault()), {}).status == 1


@pytest.mark.qemu
def test_a_vm_without_a_card_needs_no_helper(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bridge and no helper are warnings, and the VM can start."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tmp_path / "tap.sock"))
    monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(tmp_path / "bpf.sock"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    file = tmp_path / "vm.toml"
    file.write_text('name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n', encoding="utf-8")
    found = examine(Subject(file), record)

    assert (found.status, named(found.findings, "vm.starts").state) == (0, "ok")
    assert named(found.findings, "helpers.tap").state == "warning"
    assert found.ready[Feature.TAPS] is False
    assert "asking '/usr/bin/qemu-system-x86_64' what it can do" in record.texts("progress")


def test_a_file_that_cannot_be_read_is_no_finding(tmp_path: Path, record: Record) -> None:
    """It is the command line that is wrong."""
    with pytest.raises(BadInput, match="cannot read"):
        examine(Subject(tmp_path / "none.toml"), record)
