# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's session with bpferry steering, replayed on a VM whose packets are made up."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from bpferry.cli.main import main
from bpferry.cli.options import build_parser
from bpferry.cli.steering_meter import Measured
from bpferry.cli.steering_text import draw
from bpferry.steering.remarks import remarks
from bpferry.steering.rings import Direction, Ring
from tests.client.test_steering_cli import CARD, STEERING, FakeVm, running

README: Final = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
[SECTION] = re.findall(r"^### What its queues do\n(.*?)^###? ", README, re.MULTILINE | re.DOTALL)
BLOCKS: Final = re.findall(r"^```(?:console|text)\n(.*?)\n```", SECTION, re.MULTILINE | re.DOTALL)

RECEIVED, SENT = (1840, 8920, 1796, 1871), (960, 4407, 911, 934)
WAITING: Final = (250, 231, 251, 249)

STEERED: Final = replace(
    CARD,
    because="QEMU 10.0.2 carries the eBPF object 'rss', and the helper loaded it; vhost",
    vhost=True,
    steering=replace(STEERING, table=tuple(entry % 4 for entry in range(128))),
    rings=tuple(
        Ring(queue, way, 256, 0, WAITING[queue] if way is Direction.RECEIVE else queue % 2)
        for queue in range(4)
        for way in Direction
    ),
)
RATES: Final = {
    ring.place: float((RECEIVED if ring.direction is Direction.RECEIVE else SENT)[ring.queue])
    for ring in STEERED.rings
}
"""One flow of many packets arrives on queue 1."""


def test_the_picture_is_what_is_drawn() -> None:
    """Of a card whose traffic is mostly one flow."""
    measured = Measured(STEERED, 1.0, {}, RATES, remarks(STEERED, RATES))

    assert BLOCKS[1].split("\n") == draw(measured)


def test_the_commands_are_those_that_there_are() -> None:
    """Each is taken as it is."""
    lines = [line for line in BLOCKS[0].split("\n") if line.startswith("bpferry ")]
    commands = [shlex.split(line, comments=True)[1:] for line in lines]

    assert {"steering", "metrics"} == {
        build_parser().parse_args(command).command for command in commands
    }


def test_the_prediction_is_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """By the command before it, with the key of the picture."""
    (command,) = (line for line in BLOCKS[0].split("\n") if "--predict" in line)
    with running(FakeVm(STEERED)):
        assert main(shlex.split(command)[1:]) == 0

    assert f"{BLOCKS[2]}\n" == capsys.readouterr().out
