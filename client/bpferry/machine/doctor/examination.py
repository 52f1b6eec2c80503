# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that is looked at, in order, and what follows from it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bpferry.domain.document import read_in_part
from bpferry.domain.model.machine import Machine
from bpferry.domain.variables import NOTHING, Given
from bpferry.errors import BpferryError
from bpferry.machine.creation.networks import NETWORKS
from bpferry.machine.doctor import emulator
from bpferry.machine.doctor.bridges import bridges_of, check_bridges
from bpferry.machine.doctor.description import (
    bridges_named,
    check_description,
    networks_named,
    wanted_by,
)
from bpferry.machine.doctor.devices import check_kvm, check_vhost
from bpferry.machine.doctor.finding import CORE, Feature, Finding, ready, settle
from bpferry.machine.doctor.firmware import check_firmware
from bpferry.machine.doctor.helpers import check_bpf_helper, check_tap_helper
from bpferry.machine.doctor.kernel import check_kernel
from bpferry.machine.doctor.proof import prove
from bpferry.machine.doctor.security import check_security
from bpferry.machine.doctor.session import Session, check_session
from bpferry.machine.doctor.tun import check_tun
from bpferry.machine.host_files import HOST, HostFiles
from bpferry.machine.reporter import Reporter
from bpferry.machine.secrets import NO_SECRETS, SecretFiles
from bpferry.machine.verdict import judge
from bpferry.qemu.defaults import default_qemu, qemu_of
from bpferry.qemu.firmware import firmware_of_host


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked about."""

    file: Path | None = None
    """A VM's description; None to ask for what users have bpferry for."""
    deep: bool = False
    """Whether to load an eBPF set and try it."""
    secrets: SecretFiles = field(default_factory=lambda: NO_SECRETS)
    given: Given = NOTHING
    files: HostFiles = HOST
    session: Session = field(default_factory=Session)


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found."""

    findings: tuple[Finding, ...]
    ready: dict[Feature, bool]
    """What this host can give, by what can fail."""

    @property
    def status(self) -> int:
        """1 if something that was asked for cannot work, otherwise 0."""
        return int(any(one.state == "fault" for one in self.findings))


def examine(subject: Subject, reporter: Reporter) -> Examination:
    """Look at this host, for one VM or for any.

    Raises:
        BpferryError: the file of *subject* cannot be read at all.
    """
    machine = None if subject.file is None else read_in_part(subject.file, subject.given).machine
    of_host = list(_of_host(subject, machine, reporter))
    wanted = CORE if machine is None else wanted_by(machine)
    findings = settle(of_host, wanted | {Feature.EBPF} if subject.deep else wanted)
    if subject.file is not None:
        reporter.progress(f"checking '{subject.file}'")
        verdict = judge(subject.file, reporter, secrets=subject.secrets, given=subject.given)
        findings += check_description(verdict)
    return Examination(tuple(findings), ready(of_host))


def _of_host(subject: Subject, machine: Machine | None, reporter: Reporter) -> Iterator[Finding]:
    files = subject.files
    yield from check_kernel(files)
    yield from check_tun(files)
    bridges, networks = bridges_of(files), list(NETWORKS)
    if machine is not None:
        bridges, networks = bridges_named(machine), networks_named(machine)
    yield from check_bridges(files, bridges)
    reporter.progress("asking the helpers")
    yield from check_tap_helper(files, bridges, networks)
    qemu = default_qemu() if machine is None else qemu_of(machine)
    reporter.progress(f"asking '{qemu}' what it can do")
    answer = emulator.ask(qemu)
    capabilities = None if isinstance(answer, BpferryError) else answer
    yield from check_bpf_helper(files, capabilities)
    yield from emulator.check_qemu(qemu, answer)
    reporter.progress("trying KVM")
    yield from check_kvm(capabilities)
    yield from check_vhost(files)
    if capabilities is not None:
        yield from check_firmware(firmware_of_host(), capabilities.arch)
    yield from check_session(files, subject.session)
    yield from check_security(files)
    if subject.deep:
        reporter.progress("trying an eBPF set")
        yield from prove(capabilities)
