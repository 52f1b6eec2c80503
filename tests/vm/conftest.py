# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host, booted once for all tests of this folder; a failed test shows its console's end."""

from collections.abc import Generator, Iterator
from typing import Final

import pytest

from guest.build import CACHE, build_guest
from tests import requires
from tests.vm.apparmor import unexpected
from tests.vm.freight import CLONE, write_freight
from tests.vm.host import Host, boot
from tests.vm.image import host_image

PREPARE_SECONDS: Final = 900
"""It takes less time than the boot before it (``host.BOOT_SECONDS``)."""

BOOTED: Final = pytest.StashKey[Host]()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Host]:
    """Return a host with bpferry installed and three users; see ``inside/prepare``."""
    requires.mmdebstrap()
    requires.program("mke2fs")
    requires.qemu()
    folder = tmp_path_factory.mktemp("vm")
    freight = folder / "freight.tar"
    write_freight(freight, build_guest(CACHE, print))
    with boot(host_image(), freight, folder / "console.log") as booted:
        pytestconfig.stash[BOOTED] = booted
        booted.check(f"{CLONE}/tests/vm/inside/prepare", timeout=PREPARE_SECONDS)
        yield booted
        # Whatever the tests let the helpers do, AppArmor does not stand in the way.
        assert [] == unexpected(booted)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of the host's console to the report of a test that failed."""
    report = yield
    booted = item.config.stash.get(BOOTED, None)
    if report.failed and booted is not None:
        report.sections.append(("console of the host", booted.console()))
    return report
