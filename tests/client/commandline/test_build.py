# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line as a whole."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import Unsupported
from bpferry.machine.draft import draft
from tests.client.support import Record

TWICE = """\
name = "x"
memory = "64 MiB"
accelerator = "tcg"
[[rngs]]
backend = "random"
alias = "ua-a"
[[rngs]]
backend = "random"
alias = "{second}"
"""


@pytest.mark.qemu
def test_name_that_two_devices_have() -> None:
    """Two devices of one name are refused, since one of them would be lost."""
    document = read_bytes(TWICE.format(second="ua-a").encode(), Path("/vm.toml"))

    with pytest.raises(Unsupported) as caught:
        draft(document, Record())
    place = "'/vm.toml':9: 'rngs[1].alias'"
    assert f"{place}: another device is called 'ua-a' already" == caught.value.message


@pytest.mark.qemu
def test_names_of_their_own() -> None:
    """Devices keep the names that the user chose."""
    document = read_bytes(TWICE.format(second="ua-b").encode(), Path("/vm.toml"))

    found = draft(document, Record())

    names = {device.id for device in found.built.devices}
    assert {"ua-a", "ua-b"} <= names
