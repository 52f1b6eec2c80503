# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real QEMUs of Debian 12, its backports, 13 and its backports, against their golden records.

Debian's stable updates change the last number of a version and the name of the build; everything
else has to be as it was. If it is not, look at what has changed, then: python -m tests.matrix.renew
"""

import subprocess

import pytest
from msgspec.structs import replace

from bpferry.domain.model.accelerator import Accelerator
from bpferry.qemu import trial
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.probe import probe
from tests import requires
from tests.support.golden import as_installed, capabilities_of, summarize, summary_of
from tests.support.old_qemu import SOURCES, old_qemu

pytestmark = [pytest.mark.qemu, pytest.mark.privileged]

NULL_IN_JSON = '{"id": "null0", "backend": {"type": "null", "data": {}}}'


@pytest.fixture(name="name", scope="module", params=list(SOURCES))
def _name(request: pytest.FixtureRequest) -> str:
    """Return the name of a QEMU."""
    requires.mmdebstrap()
    name: str = request.param
    return name


@pytest.fixture(name="qemu", scope="module")
def _qemu(name: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of that QEMU."""
    return str(old_qemu(tmp_path_factory.mktemp("qemu"), name))


@pytest.fixture(name="found", scope="module")
def _found(qemu: str) -> Capabilities:
    """Return what that QEMU can do, asked now."""
    return probe(qemu)


def test_summary(name: str, found: Capabilities) -> None:
    """What a reader would compare is as it was."""
    assert summary_of(name) == summarize(found)


@pytest.mark.parametrize("field", Capabilities.__struct_fields__)
def test_whole(name: str, field: str, found: Capabilities) -> None:
    """Everything is as it was, but for what a stable update changes."""
    expected = capabilities_of(name)
    now = replace(as_installed(found), package=expected.package)
    if now.version[:2] == expected.version[:2]:
        now = replace(now, version=expected.version)

    assert getattr(expected, field) == getattr(now, field)


def test_chardev_takes_no_json(qemu: str) -> None:
    """None of them takes JSON for ``-chardev``; when one does, bpferry can use it."""
    command = [qemu, "-machine", "none", "-nodefaults", "-display", "none"]
    done = subprocess.run(
        [*command, "-chardev", NULL_IN_JSON],
        check=False, capture_output=True, text=True, timeout=20,
    )  # fmt: skip

    assert done.returncode == 1
    assert "Invalid parameter" in done.stderr


def test_guest_runs(qemu: str) -> None:
    """A guest of a few instructions runs under TCG, so that KVM can be tried out."""
    assert trial.trial(qemu, Accelerator.TCG, seconds=10) == ""
