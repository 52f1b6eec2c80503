# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own command lines as the input of bpferry exec: only cards change, and only once."""

import shlex
from pathlib import Path

import pytest

from bpferry.launcher import conversion
from bpferry.launcher.conversion import Wishes, convert
from bpferry.launcher.giving import NoGiver
from bpferry.launcher.words import Option, read_options
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.capabilities import Capabilities
from tests import requires

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="module")
def capabilities() -> Capabilities:
    """Return what the installed QEMU can do."""
    return find_or_probe(requires.qemu())


@pytest.fixture(scope="module")
def lines() -> dict[str, list[str]]:
    """Return the command lines, by the names of their files."""
    folder = requires.conformance() / "libvirt-11.3"
    return {path.stem: _argv(path) for path in sorted(folder.glob("*.args"))}


def _argv(path: Path) -> list[str]:
    """Return the words of QEMU: what comes before them is the environment."""
    words = shlex.split(path.read_text(encoding="utf-8").replace("\\\n", " "))
    return words[next(place for place, word in enumerate(words) if "/" in word[:1]) :]


def _others(argv: list[str]) -> list[Option]:
    """Return the options that are not about cards."""
    return [
        option._replace(place=0)
        for option in read_options(argv)
        if option.name != "netdev" and "netdev" not in (option.value or "")
    ]


@pytest.mark.parametrize("queues", [None, 4])
def test_only_cards_change_and_only_once(
    queues: int | None,
    lines: dict[str, list[str]],
    capabilities: Capabilities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All else stays to the byte, and so does everything in a second pass.

    Their single fds are not open here, and are taken for those of qemu-bridge-helper; and this host
    may have no vhost, which theirs had.
    """
    monkeypatch.setattr(conversion, "bridge_of", lambda _fd: "br0")
    monkeypatch.setattr(conversion, "probe_vhost", lambda _device: "")
    wishes, changed = Wishes(queues), 0
    for name, argv in lines.items():
        made = convert(argv, capabilities, NoGiver(), wishes)

        assert _others(argv) == _others(made.argv), name
        assert len(argv) == len(made.argv), name
        assert made.argv == convert(made.argv, capabilities, NoGiver(), wishes).argv, name
        assert made.is_changed == (argv != made.argv), name
        changed += made.is_changed

    assert 455 == len(lines)
    assert changed >= (1 if queues is None else 6), changed
