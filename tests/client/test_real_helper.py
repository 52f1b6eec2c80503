# SPDX-License-Identifier: LGPL-2.1-or-later
"""The client and the real helper, with the object of the installed QEMU."""

from collections.abc import Iterator

import pytest

from bpferry.errors import Refused
from bpferry.network.bpf_helper import BpfHelper
from bpferry.qemu.probe import probe
from bpferry.steering.maps import SteeringMaps
from bpferry_wire.messages import Load
from bpferry_wire.objects import RSS
from tests.client.support import QEMU
from tests.support.helper_process import HelperProcess, running_helper
from tests.support.people import ALICE, acting_as

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]


@pytest.fixture(scope="module")
def digest() -> bytes:
    """Return the digest of the object that the installed QEMU carries."""
    return probe(QEMU).objects["rss"].digest


@pytest.fixture
def helper() -> Iterator[HelperProcess]:
    """Run the real helper, which lets a user hold one set."""
    with running_helper("[quota]\nsets-per-user = 1\n") as running:
        yield running


def test_set_of_the_real_helper_is_sound(helper: HelperProcess, digest: bytes) -> None:
    """What the real helper hands to an ordinary user passes every check and can be read."""
    with acting_as(ALICE), BpfHelper(str(helper.path)) as client:
        assert client.hello().caller.uid == ALICE.uid
        assert client.can(Load("rss", digest)).allowed
        with client.load(Load("rss", digest)) as granted:
            by_name = granted.by_name()
            with SteeringMaps(*(by_name[shape.name] for shape in RSS.maps)) as maps:
                assert not maps.read().redirect


def test_quota_is_a_refusal(helper: HelperProcess, digest: bytes) -> None:
    """A second set, where one is allowed, is refused with the helper's own word."""
    with (
        acting_as(ALICE),
        BpfHelper(str(helper.path)) as client,
        client.load(Load("rss", digest)),
        pytest.raises(Refused) as caught,
    ):
        client.load(Load("rss", digest))

    assert (caught.value.code, caught.value.status) == ("quota", 4)


def test_restart_of_the_helper_goes_unnoticed(helper: HelperProcess, digest: bytes) -> None:
    """A helper that was killed between two questions is asked again."""
    with acting_as(ALICE), BpfHelper(str(helper.path)) as client:
        client.hello()
    with BpfHelper(str(helper.path)) as client:
        with acting_as(ALICE):
            client.hello()
        helper.restart()
        with acting_as(ALICE):
            client.load(Load("rss", digest)).close()
