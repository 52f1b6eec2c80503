# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMUs that answer otherwise than the installed one: played by a monitor on paper."""

import asyncio
import base64

import pytest

from bpferry.errors import QemuError
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.monitor import CommandRefused, Monitor
from bpferry.qemu.questions import ask

TYPES = {
    "device": ["virtio-net-pci", "toy", "toy-cpu"],
    "cpu": ["toy-cpu"],
    "user-creatable": ["rng-random"],
    "accel": ["tcg-accel", "accel"],
}

SCHEMA = [
    {"name": "request-ebpf", "meta-type": "command", "arg-type": "1"},
    {"name": "1", "meta-type": "object", "members": [{"name": "id", "type": "2"}]},
    {"name": "2", "meta-type": "enum", "members": [{"name": "rss"}, {"name": "next"}]},
]

ANSWERS: dict[str, object] = {
    "query-version": {"qemu": {"major": 12, "minor": 1, "micro": 2}, "package": ""},
    "query-target": {"arch": "riscv64"},
    "query-qmp-schema": SCHEMA,
    "query-machines": [{"name": "virt", "cpu-max": 8}, {"name": "microvm", "is-default": True}],
    "query-command-line-options": [{"option": "sandbox", "parameters": [{"name": "spawn"}]}],
    "query-chardev-backends": [{"name": "null"}],
    "device-list-properties": [
        {"name": "rss", "type": "bool"},
        {"name": "x-secret", "type": "bool"},
    ],
    "qom-list-properties": [{"name": "aia", "type": "str"}],
    "request-ebpf": {"object": base64.b64encode(b"\x7fELF").decode()},
}


class PaperMonitor(Monitor):
    """Answers from a table; what is not there is refused."""

    def __init__(self, answers: dict[str, object], refused: tuple[str, ...] = ()) -> None:
        self.answers = answers
        self.refused = refused
        self.asked: list[str] = []

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """Answer, or refuse."""
        given = arguments or {}
        self.asked.append(f"{command} {given.get('typename', given.get('id', ''))}".strip())
        if command == "qom-list-types":
            return [{"name": name} for name in TYPES[str(given["implements"])]]
        if command not in self.answers or given.get("typename") in self.refused:
            raise CommandRefused(f"refused '{command}'")
        return self.answers[command]


def _ask(monitor: PaperMonitor) -> Capabilities:
    return asyncio.run(ask("/qemu", monitor))


def test_every_object_is_fetched() -> None:
    """An object with an id that nobody knows is fetched like the others."""
    found = _ask(PaperMonitor(ANSWERS))

    assert ["rss", "next"] == list(found.objects)
    assert {b"\x7fELF"} == {entry.data for entry in found.objects.values()}


def test_processors_are_no_devices() -> None:
    """A processor is not listed as a device, and is not asked about."""
    monitor = PaperMonitor(ANSWERS)

    found = _ask(monitor)

    assert ["toy", "virtio-net-pci"] == list(found.devices)
    assert "device-list-properties toy-cpu" not in monitor.asked


def test_experimental_properties_are_left_out() -> None:
    """What QEMU promises nothing about is not kept."""
    assert {"rss": "bool"} == _ask(PaperMonitor(ANSWERS)).card_properties


def test_qemu_that_lists_no_processors() -> None:
    """A target whose processors QEMU does not list has none, and that is not an error."""
    found = _ask(PaperMonitor(ANSWERS))

    assert ({}, {}) == (found.cpu_models, found.cpu_properties)


def test_fullest_processor_is_asked_about() -> None:
    """Where there is a model 'max', its properties are those that one can name."""
    models = [{"name": "max", "typename": "max-toy-cpu"}, {"name": "toy", "typename": "toy-cpu"}]

    found = _ask(PaperMonitor({**ANSWERS, "query-cpu-definitions": models}))

    assert {"rss": "bool"} == found.cpu_properties
    assert "max-toy-cpu" == found.cpu_models["max"].typename


def test_device_that_qemu_tells_nothing_about() -> None:
    """A device whose properties QEMU refuses to tell is there, with none."""
    found = _ask(PaperMonitor(ANSWERS, refused=("virtio-net-pci",)))

    assert (True, False) == (found.has_device("virtio-net-pci"), found.has_rss)


def test_only_harmless_machines_are_asked_about() -> None:
    """No question makes a machine of a kind that may end a QEMU."""
    monitor = PaperMonitor(ANSWERS)

    found = _ask(monitor)

    assert {"virt": {"aia": "str"}} == found.machine_properties
    assert "qom-list-properties microvm-machine" not in monitor.asked


def test_default_machine() -> None:
    """The machine type that is taken by itself is known by its flag."""
    assert "microvm" == _ask(PaperMonitor(ANSWERS)).default_machine


def test_base_of_accelerators_is_none() -> None:
    """QEMU 7.2 lists the base type among those that one can use."""
    assert {"tcg"} == _ask(PaperMonitor(ANSWERS)).accelerators


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("query-version", {}),
        ("query-version", []),
        ("query-target", {"arch": 64}),
        ("query-qmp-schema", [{"name": 1}]),
        ("query-machines", {"name": "virt"}),
        ("device-list-properties", [{"name": "rss"}]),
        ("request-ebpf", {"object": None}),
    ],
)
def test_answer_of_another_form(command: str, answer: object) -> None:
    """An answer that is not valid QMP is an error that names the question."""
    with pytest.raises(QemuError, match=f"an answer to '{command}' that is not valid QMP"):
        _ask(PaperMonitor({**ANSWERS, command: answer}))


def test_object_that_is_promised_and_refused() -> None:
    """An object that the schema names and QEMU does not give is an error, not one less."""
    answers = {name: answer for name, answer in ANSWERS.items() if name != "request-ebpf"}

    with pytest.raises(QemuError, match="refused 'request-ebpf'"):
        _ask(PaperMonitor(answers))


@pytest.mark.parametrize(
    ("have", "left"),
    [
        (["virtio-vga-gl"], []),
        (["virtio-vga-gl", "virtio-gpu-gl-device"], ["virtio-gpu-gl-device", "virtio-vga-gl"]),
        (["virtio-gpu-pci", "virtio-gpu-gl-device"], ["virtio-gpu-gl-device"]),
        (["vhost-user-vga"], []),
        (["VGA"], ["VGA"]),
    ],
)
def test_graphics_card_without_its_other_half(
    have: list[str], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that is made of a device which is missing counts as missing, and is not touched."""
    monkeypatch.setitem(TYPES, "device", have)

    assert left == list(_ask(PaperMonitor(ANSWERS)).devices)
