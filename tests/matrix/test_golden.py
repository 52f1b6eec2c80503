# SPDX-License-Identifier: LGPL-2.1-or-later
"""The golden records themselves; no QEMU is started."""

import json

import pytest

from tests.support.golden import FOLDER, capabilities_of, summarize, summary_of
from tests.support.old_qemu import SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_both_files_say_the_same(name: str) -> None:
    """The summary is one of the whole record."""
    assert summary_of(name) == summarize(capabilities_of(name))


@pytest.mark.parametrize("name", SOURCES)
def test_origin_is_told(name: str) -> None:
    """Each record says which build was asked, when, and how."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))

    assert name in record["provenance"]["package"]
    assert record["provenance"].keys() == {"package", "date", "command"}


@pytest.mark.parametrize("name", SOURCES)
def test_record_is_small(name: str) -> None:
    """A record does not weigh on the repository."""
    assert (FOLDER / f"{name}.json.xz").stat().st_size < 50_000


def test_no_record_is_left_behind() -> None:
    """There is a record of each QEMU that is asked, and of no other."""
    files = {path.name for path in FOLDER.iterdir()}

    assert files == {f"{name}{suffix}" for name in SOURCES for suffix in (".json", ".json.xz")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("7.2", (True, False, False, False)),
        ("10.0.2", (True, True, True, False)),
        ("10.0.13", (True, True, True, False)),
        ("11.1.3", (True, True, True, True)),
    ],
)
def test_what_steering_depends_on(name: str, expected: tuple[bool, ...]) -> None:
    """RSS, the object, the hand-over, and ending with the parent, as QEMU's history has them."""
    found = capabilities_of(name)

    assert expected == (
        found.has_rss,
        "rss" in found.objects,
        found.takes_ebpf_fds,
        found.exit_with_parent,
    )


@pytest.mark.parametrize("name", SOURCES)
def test_devices_of_modules_are_there(name: str) -> None:
    """Devices and options that come with the spice module are found."""
    found = capabilities_of(name)

    assert found.has_device("qxl")
    assert "spicevmc" in found.chardevs
    assert "spice" in found.options


def test_device_without_its_other_half_is_not_there() -> None:
    """Debian 12 has a graphics card in one package and what it is made of in another."""
    assert not capabilities_of("7.2").has_device("virtio-vga-gl")
