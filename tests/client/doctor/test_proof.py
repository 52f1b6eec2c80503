# SPDX-License-Identifier: LGPL-2.1-or-later
"""The proof by test vectors, with a real program in the running kernel, and with a wrong one."""

import math
from collections.abc import Iterator

import msgspec
import pytest

from bpferry.errors import BpferryError, NoHelper
from bpferry.machine.doctor.finding import Finding
from bpferry.machine.doctor.proof import KEY, LENGTHS, VECTORS, frame_of, load_set, prove
from bpferry.network.bpf_helper import GrantedSet
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering import maps, trial_run
from bpferry.steering.maps import Steering
from bpferry.steering.toeplitz import HashType, hash_input, toeplitz
from bpferry_wire.fds import BorrowedFd, OwnedFds
from bpferry_wire.objects import RSS
from tests.client import bpf
from tests.client.doctor.support import named
from tests.client.support import CAPABILITIES, QEMU
from tests.support.helper_process import running_helper
from tests.support.people import ALICE, acting_as

NAMES = (RSS.programs[0].name, *(shape.name for shape in RSS.maps))


def granted(fds: OwnedFds) -> GrantedSet:
    """Return *fds* as the helper would have given them."""
    return GrantedSet("rss", NAMES, fds)


def test_the_lengths_tell_every_hash_from_every_other() -> None:
    """They have no common divisor, and their product is beyond all hashes of 32 bits."""
    assert math.lcm(*LENGTHS) == math.prod(LENGTHS)
    assert math.prod(LENGTHS) > 2**32


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.source)
def test_the_vectors_are_what_we_predict(vector: object) -> None:
    """The published hashes and our own function agree."""
    assert isinstance(vector, type(VECTORS[0]))
    addresses, ports = HashType.IPV4 | HashType.IPV6, HashType.TCPV4 | HashType.TCPV6

    assert vector.of_addresses == toeplitz(KEY, hash_input(vector.flow, addresses) or b"")
    assert vector.with_ports == toeplitz(KEY, hash_input(vector.flow, ports) or b"")


@pytest.fixture
def program() -> Iterator[OwnedFds]:
    """Load the program of the installed QEMU."""
    with bpf.load_object(find_or_probe(QEMU).objects["rss"].data) as fds:
        yield fds


def states(findings: list[Finding]) -> dict[str, str]:
    """Return the state of each of *findings*."""
    return {one.name: one.state for one in findings}


@pytest.mark.kernel
@pytest.mark.qemu
def test_the_program_of_the_installed_qemu_is_proven(program: OwnedFds) -> None:
    """Each packet goes to the right queue, and the fds are closed after that."""
    found = list(prove(CAPABILITIES, lambda _: granted(program)))

    assert {"proof.load": "ok", "proof.vectors": "ok"} == states(found)
    assert "the kernel ran the program 88 times" in named(found, "proof.vectors").message
    with pytest.raises(ValueError, match="closed"):
        program.borrow()


@pytest.mark.kernel
@pytest.mark.qemu
def test_a_program_that_steers_wrongly_is_a_fault(program: OwnedFds) -> None:
    """One queue beside the right one is enough, and the packet is named."""

    def next_queue(fd: BorrowedFd, frame: bytes) -> int:
        return trial_run.run_once(fd, frame) + 1

    found = list(prove(CAPABILITIES, lambda _: granted(program), next_queue))

    assert named(found, "proof.vectors").state == "fault"
    assert "from 66.9.149.187 to 161.142.100.80" in named(found, "proof.vectors").message


@pytest.mark.kernel
def test_a_program_that_does_nothing_is_found_out() -> None:
    """A set with another program under the right name does not pass."""
    found = list(prove(CAPABILITIES, lambda _: granted(bpf.make_set())))

    assert named(found, "proof.vectors").state == "fault"
    assert "went to queue 0" in named(found, "proof.vectors").message


@pytest.mark.kernel
def test_a_kernel_that_runs_no_programs_for_users_is_a_warning() -> None:
    """As before Linux 5.19: nothing is known then."""

    def refused(_fd: BorrowedFd, _frame: bytes) -> int:
        raise BpferryError("the kernel does not run the eBPF program: Operation not permitted")

    found = list(prove(CAPABILITIES, lambda _: granted(bpf.make_set()), refused))

    assert named(found, "proof.vectors").state == "warning"
    assert "5.19" in named(found, "proof.vectors").fix


def test_a_set_that_is_not_granted_is_a_fault() -> None:
    """With the reason and the way out of whoever refused it."""

    def nobody(_capabilities: Capabilities) -> GrantedSet:
        raise NoHelper("nobody is there", "start it")

    [found] = prove(CAPABILITIES, nobody)

    assert (found.name, found.state, found.fix) == ("proof.load", "fault", "start it")
    assert "nobody is there" in found.message


@pytest.mark.parametrize("capabilities", [None, msgspec.structs.replace(CAPABILITIES, objects={})])
def test_without_a_program_nothing_is_loaded(capabilities: Capabilities | None) -> None:
    """The helper is not asked."""
    [found] = prove(capabilities, lambda _: pytest.fail("asked"))

    assert found.state == "fault"


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_an_ordinary_user_proves_it_through_the_real_helper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the digest to the last vector, without a privilege, on this kernel."""
    with running_helper("") as helper:
        monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(helper.path))
        capabilities = find_or_probe(QEMU)
        with acting_as(ALICE):
            found = list(prove(capabilities, load_set))

    assert {"proof.load": "ok", "proof.vectors": "ok"} == states(found)


@pytest.mark.kernel
def test_what_is_written_into_maps_is_read_back() -> None:
    """Our writing and our reading agree."""
    wanted = Steering(
        redirect=True,
        hash_types=HashType.TCPV6,
        key=KEY,
        table=(3, 1, 2),
        default_queue=7,
    )
    with bpf.make_set() as fds:
        _program, *ours = fds.borrow()
        maps.write(*ours, steering=wanted)
        with maps.SteeringMaps(*ours) as mapped:
            assert wanted == mapped.read()


def test_what_is_no_map_cannot_be_written() -> None:
    """The error says so."""
    wanted = Steering(False, HashType(0), KEY, (), 0)  # noqa: FBT003
    with pytest.raises(BpferryError, match="cannot map an eBPF map"):
        maps.write(BorrowedFd(0), BorrowedFd(0), BorrowedFd(0), steering=wanted)


def test_what_is_no_program_does_not_run() -> None:
    """The kernel's own reason is in the error."""
    with pytest.raises(BpferryError, match="does not run the eBPF program"):
        trial_run.run_once(BorrowedFd(0), frame_of(VECTORS[0].flow))


def test_a_machine_whose_system_calls_are_not_known_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No number is guessed."""
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(BpferryError, match="pdp11"):
        trial_run.run_once(BorrowedFd(0), b"")


@pytest.mark.kernel
@pytest.mark.qemu
def test_libbpf_and_the_bare_system_call_agree(program: OwnedFds) -> None:
    """The same program, the same frame, the same queue."""
    frame = frame_of(VECTORS[5].flow)
    wanted = bpf.Wanted(types=0x3F, key=KEY, table=tuple(range(128)))
    bpf.write_maps(program, wanted)
    fd = program[0].borrow()

    assert bpf.run_program(fd, frame) == trial_run.run_once(fd, frame) == 0x40207D3D % 128
