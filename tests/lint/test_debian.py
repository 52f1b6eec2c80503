# SPDX-License-Identifier: LGPL-2.1-or-later
"""debian/ has what tools/install and pyproject.toml ask for; and the unit that only it has."""

import re
import tomllib
from pathlib import Path
from typing import Final, get_args

import pytest

from bpferry.domain.model.machine import Arch
from tests.systemd.unit_file import UNITS, read_unit, values

REPOSITORY: Final = Path(__file__).parents[2]
DEBIAN: Final = REPOSITORY / "debian"

RELEASES: Final = ("trixie", "bookworm")


def read(path: str) -> str:
    """Return the text of a file of the clone."""
    return (REPOSITORY / path).read_text(encoding="utf-8")


def installed() -> str:
    """Return all lines about what goes into a package."""
    names = ("*.install", "*.links", "rules")
    return "\n".join(path.read_text() for name in names for path in sorted(DEBIAN.glob(name)))


def paragraph(package: str) -> str:
    """Return what debian/control says about *package*."""
    pattern = rf"^Package: {package}\n.*?(?=\n\n|\Z)"
    (found,) = re.findall(pattern, read("debian/control"), re.MULTILINE | re.DOTALL)
    return str(found)


def wheels(release: str) -> set[str]:
    """Return the wheels that tools/package puts into the client's package for *release*."""
    pattern = rf"^    {release}\)\n.*?client_wheels='([^']*)'"
    (found,) = re.findall(pattern, read("tools/package"), re.MULTILINE | re.DOTALL)
    return set(found.split())


def requirements(extra: str | None) -> list[tuple[str, str]]:
    """Return the names and oldest versions of *extra*, or of the project itself."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    words = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [(name, oldest) for name, _, oldest in (word.partition(">=") for word in words)]


def test_every_command_of_tools_install_is_in_a_package() -> None:
    """A new one has to be added to both."""
    commands = set(re.findall(r"/usr/local/(?:bin|sbin|libexec)/([\w-]+)", read("tools/install")))

    assert {"bpferry", "bpferry-helper", "bpferry-varlink"} <= commands
    assert [] == [name for name in sorted(commands) if not re.search(rf"/{name}\b", installed())]


def test_every_unit_and_profile_is_in_a_package() -> None:
    """All files below systemd/, but for those that dpkg's own steps name."""
    paths = [path for path in (REPOSITORY / "systemd").rglob("*") if path.is_file()]

    assert len(paths) >= 9
    assert [] == [path.name for path in paths if path.name not in installed()]


@pytest.mark.parametrize("release", RELEASES)
def test_client_has_all_that_it_imports(release: str) -> None:
    """Each requirement is a package of Debian's, not older than it may be, or a wheel."""
    said = paragraph("bpferry") + paragraph("python3-bpferry-wire") + read("debian/rules")
    lacking = [
        name
        for name, oldest in requirements("client") + requirements(None)
        if name.replace(".", "-") not in wheels(release)
        and not re.search(rf"python3-{name} \(>= {re.escape(oldest)}\)", said)
    ]

    assert [] == lacking


def test_helper_has_all_that_it_imports() -> None:
    """From Debian alone."""
    said = paragraph("bpferry-helper")

    for name, oldest in requirements("tap") + requirements(None):
        assert f"python3-{name} (>= {oldest})" in said


def test_versions_are_the_same() -> None:
    """That of the packages is that of the distribution."""
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]

    assert read("debian/changelog").startswith(f"bpferry ({version}) ")


def test_the_unit_that_keeps_objects_is_the_helper_without_its_capabilities() -> None:
    """The same user and folder; no privilege, no network, and no device."""
    keeper = read_unit(DEBIAN / "bpferry-keep.service")
    helper = read_unit(UNITS / "bpferry-bpf.service")

    for key in ("DynamicUser", "StateDirectory", "StateDirectoryMode", "UMask"):
        assert values(helper, key) == values(keeper, key), key
    # Where a unit does not say so, systemd names the dynamic user after the unit.
    assert (["bpferry-bpf"], []) == (values(keeper, "User"), values(helper, "User"))
    assert ([""], []) == (
        values(keeper, "CapabilityBoundingSet"),
        values(keeper, "AmbientCapabilities"),
    )
    for key in ("NoNewPrivileges", "PrivateDevices", "PrivateNetwork", "MemoryDenyWriteExecute"):
        assert ["yes"] == values(keeper, key), key
    assert ["strict"] == values(keeper, "ProtectSystem")


def test_each_qemu_has_a_name_for_launchers_and_a_trigger() -> None:
    """Those whose guests the client can run; tools/install looks at what is there."""
    machines = {"i386" if arch == "i686" else arch for arch in get_args(Arch)}
    name = r"qemu-system-(\w+)$"

    links, triggers = read("debian/bpferry.links"), read("debian/bpferry-helper.triggers")
    assert machines == set(re.findall(rf"usr/bin/bpferry-{name}", links, re.MULTILINE))
    assert machines == set(re.findall(rf"/usr/bin/{name}", triggers, re.MULTILINE))
