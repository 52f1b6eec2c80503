# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts of other kinds: who may use bpf(2), no compiler for its programs, lockdown, no BTF.

In every run those that can be undone, on the host of the other tests. In the long form all of them,
with Debian 13's kernel, with Debian 12's, and with one that has no BTF: each on a host of its own.
The table of all is printed, each row as soon as it is known.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from guest.build import CACHE, build_guest
from tests import requires
from tests.abuse.amounts import IS_LONG, amount
from tests.support.debian_folder import BUILD_SECONDS
from tests.support.debian_packages import build
from tests.support.shown import Say, past_capture
from tests.vm.apparmor import unexpected
from tests.vm.built_kernel import BUILD_SECONDS as KERNEL_SECONDS
from tests.vm.built_kernel import kernel_without_btf
from tests.vm.conftest import BOOTED, PREPARE_SECONDS
from tests.vm.freight import CLONE, write_freight
from tests.vm.host import IN_THE_HOST, Host, boot
from tests.vm.image import fresh_image, host_image
from tests.vm.kind_steps import AFTERWARDS, ALL, ON_PACKAGES, UNDONE, WITHOUT_BTF, Step
from tests.vm.kinds import HEADINGS, Row, in_columns, look
from tests.vm.user import kvm_works, wait_until

pytestmark = [
    # A kernel may have to be built.
    pytest.mark.timeout(5 * BUILD_SECONDS + KERNEL_SECONDS),
    *IN_THE_HOST,
    pytest.mark.qemu,
]

NEW, OLD, WITHOUT = "6.12", "6.1", "6.12-without-btf"
STEPS: Final = {NEW: ALL, OLD: ON_PACKAGES, WITHOUT: WITHOUT_BTF}
KERNELS: Final = amount((NEW,), tuple(STEPS))

FDS: Final = 4
"""Of a set: a program and three maps."""

ALL_FLOWS: Final = "48 of 48 flows"

Seen = list[tuple[Step, Row]]


@pytest.fixture(scope="module", params=KERNELS)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    """Return what was seen after each step on a host with this kernel."""
    say = past_capture(request.config)
    if not IS_LONG:
        shared: Host = request.getfixturevalue("host")
        assert wait_until(lambda: kvm_works(shared, "alice"))
        yield _take(shared, UNDONE, say)
        for command in AFTERWARDS:
            shared.check("sh", "-c", command)
        return
    with _own_host(request.param, tmp_path_factory.mktemp("kind")) as host:
        request.config.stash[BOOTED] = host
        yield _take(host, STEPS[request.param], say)
        assert [] == unexpected(host)


@contextmanager
def _own_host(kernel: str, folder: Path) -> Iterator[Host]:
    """Boot a host with this *kernel*, with bpferry and alice in it."""
    requires.mmdebstrap()
    requires.program("mke2fs")
    packages = sorted(build("bookworm").glob("*.deb")) if kernel == OLD else ()
    built = kernel_without_btf() if kernel == WITHOUT else None
    release = "bookworm" if packages else "trixie"
    image = built.image if built else fresh_image(release) if packages else host_image()
    write_freight(folder / "freight.tar", build_guest(CACHE, print), packages, release)
    with boot(image, folder / "freight.tar", folder / "console.log") as host:
        if built:
            built.introduce(host)
        words = ["packages"] if packages else []
        host.check(f"{CLONE}/tests/vm/inside/prepare", *words, timeout=PREPARE_SECONDS)
        assert wait_until(lambda: kvm_works(host, "alice"))
        yield host


def _take(host: Host, steps: Sequence[Step], say: Say) -> Seen:
    """Take *steps* on *host*, look at it after each, and say what was seen."""
    taken: Seen = []
    say(f"\n{in_columns(HEADINGS)}")
    for step in steps:
        for command in step.commands:
            host.check("sh", "-c", command)
        taken.append((step, look(host, plays=IS_LONG and step.plays)))
        say(taken[-1][1].text)
    return taken


def test_host_is_of_the_kind_that_it_should_be(seen: Seen) -> None:
    """As the host itself says, which is the table's first part."""
    assert [step.settings for step, _ in seen] == [row.host[1:4] for _, row in seen]


def test_helper_grants_wherever_it_can_count(seen: Seen) -> None:
    """Everywhere but on a kernel without BTF; there it says why, and what can be done."""
    assert [FDS * step.grants for step, _ in seen] == [row.fds for _, row in seen]
    refusals = {row.refusal for step, row in seen if not step.grants}
    assert all("it has no BTF" in said and "without-census" in said for said in refusals)


def test_program_steers_as_it_should_wherever_there_is_one(seen: Seen) -> None:
    """What ``doctor --deep`` sees of it: also where no compiler has made it machine code."""
    for step, row in seen:
        state, said = row.doctor["proof.vectors" if step.grants else "proof.load"]
        assert (("ok" if step.grants else "fault"), False) == (state, "wrongly" in said)


def test_doctor_knows_what_is_wrong_with_the_kernel(seen: Seen) -> None:
    """And finds nothing wrong with the others. Whether there is eBPF is the helper's to say."""
    assert [step.told for step, _ in seen] == [row.told for _, row in seen]
    for step, row in seen:
        assert ("ok" if step.grants else "fault") == row.doctor["policy.object"][0]


def test_vm_is_steered_by_the_kernel_wherever_a_set_is_granted(seen: Seen) -> None:
    """With vhost; otherwise QEMU steers in user space, for which vhost is given up and named."""
    for step, row in seen:
        assert step.plan == (row.card["steering"], row.card["vhost"])
        assert row.flows == (ALL_FLOWS if IS_LONG and step.plays else "")
        assert step.grants or any("BTF" in reason for reason in row.card["because"])
