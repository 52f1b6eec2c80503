# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a description becomes on this host: a plan for each card, and a command line.

``draft`` asks QEMU what it can do and plans; it needs no helper, no tap and no right. What it
found is enough for a dry run; ``inheritance`` opens the rest.
"""

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bpferry.commandline.build import Built, build
from bpferry.commandline.context import Context
from bpferry.commandline.extras.vsock import NODE as VSOCK_NODE
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import Affinity, Remark
from bpferry.domain.document import Document
from bpferry.domain.explain import around, remove_key
from bpferry.domain.identity import Owner, names_all
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of
from bpferry.errors import BpferryError, Unsupported
from bpferry.machine.absent_media import without_absent_media
from bpferry.machine.certificates import find_tls_folder
from bpferry.machine.folders import folders_of
from bpferry.machine.host import gather_facts
from bpferry.machine.identity import find_identity
from bpferry.machine.pinning import find_absent, online_processors
from bpferry.machine.reporter import Reporter
from bpferry.machine.secrets import NO_SECRETS, SecretFiles, files_of, find_exposed
from bpferry.qemu import accelerator as accelerators
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import machine_type_of, qemu_of
from bpferry.qemu.firmware import read_descriptors
from bpferry.qemu.vhost_user import GPU_PROGRAM, find_gpu_program
from bpferry.steering.plan import (
    CardPlan,
    HelperAnswer,
    HostFacts,
    Notice,
    plan_card,
)
from bpferry.steering.requests import CardRequests, build_requests

E = TypeVar("E", bound=BpferryError)

WANTED: Final = {
    ("kvm", True): Accelerator.AUTO,
    ("kvm", False): Accelerator.KVM,
    ("tcg", True): Accelerator.TCG,
    ("tcg", False): Accelerator.TCG,
}
"""What a description asks for, by its accelerator and whether TCG may stand in."""

KVM_HINT: Final = (
    "let the VM run without KVM: accelerator 'tcg', or <domain type='qemu'>; or become a member of "
    "the group that owns /dev/kvm"
)

NO_SANDBOX: Final = Notice(
    "this QEMU was built without a sandbox (-sandbox), and runs without one",
    "use a QEMU that was built with libseccomp",
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of a VM on this host before anything is asked of the helper."""

    document: Document
    machine: Machine
    """As far as it is supported."""
    capabilities: Capabilities
    accelerator: Accelerator
    accelerator_reason: str
    host: HostFacts
    plans: dict[str, CardPlan]
    require_ebpf: bool
    left_out: tuple[Unsupported, ...]
    """What the user allowed us to leave out."""
    kvm_problem: str
    """Why KVM, which the description demands, does not work here; empty if it does."""
    absent_media: tuple[str, ...]
    """A sentence for each optional medium that is not there."""
    doubts: tuple[Notice, ...]
    """Why the addresses that were made here might be those of another host's VM too, and who can
    read a password that the description holds."""
    context: Context
    """What the parts of the command line may know, with fds by their names."""
    built: Built
    """The command line of a dry run."""
    requests: dict[str, CardRequests]
    """What is asked of the helpers, by card."""
    secret_files: SecretFiles
    """Where passwords and keys are that the description names."""

    def build(self, plans: dict[str, CardPlan], fds: Mapping[str, str] | None = None) -> Built:
        """Return QEMU's command line; without *fds*, each fd stands by its name."""
        fd = str if fds is None else fds.__getitem__
        return build(replace(self.context, plans=plans, fd=fd))

    def plan(self, device: Named[Card], answer: HelperAnswer) -> CardPlan:
        """Return the plan of a card after the helper's *answer*."""
        return plan_card(
            device,
            self.capabilities,
            self.host,
            default_rss=self.machine.default_rss,
            answer=answer,
            require_ebpf=self.require_ebpf,
        )

    def general_notices(self) -> tuple[Notice, ...]:
        """Return what is less than wished about the VM as a whole; each card's plan has its own."""
        return (
            *(() if self.capabilities.sandbox else (NO_SANDBOX,)),
            *((Notice(self.kvm_problem, KVM_HINT),) if self.kvm_problem else ()),
            *(Notice(error.when_left_out()) for error in self.left_out),
            *(Notice(sentence) for sentence in self.absent_media),
            *self.doubts,
            *(self._notice(remark) for remark in self.built.of(Remark)),
            *find_absent(self.built.of(Affinity), online_processors()),
        )

    def _notice(self, remark: Remark) -> Notice:
        """Return *remark* with its place in the document."""
        place = self.document.origins.describe(remark.key)
        return Notice(f"{place}: {remark.text}", remark.hint)


def draft(
    document: Document,
    reporter: Reporter,
    *,
    require_ebpf: bool = False,
    ignore_unsupported: bool = False,
    secrets: SecretFiles = NO_SECRETS,
) -> Draft:
    """Ask QEMU what it can do, try the accelerator, and plan each card.

    Args:
        document: the description.
        reporter: who is told.
        require_ebpf: start only if the host's kernel steers every card.
        ignore_unsupported: leave out what is not supported.
        secrets: where the user says that passwords and keys are.

    Raises:
        BpferryError: QEMU cannot be asked, eBPF is demanded and certainly not possible, or
            something is not supported, with its place in the document.
    """
    document, absent = without_absent_media(document)
    machine = document.machine
    qemu = qemu_of(machine)
    reporter.progress(f"asking '{qemu}' what it can do")
    capabilities = find_or_probe(qemu, note=reporter.note)
    wanted = WANTED[machine.accelerator, machine.tcg_fallback]
    machine_type = machine_type_of(machine, capabilities.arch)
    accelerator, reason = accelerators.choose(wanted, qemu, machine_type)
    problem = ""
    if wanted is Accelerator.KVM:
        problem = accelerators.find_kvm_problem(qemu, machine_type)
    owner, doubt = find_identity()
    doubts = () if doubt is None or names_all(machine) else (doubt,)
    left_out = list(document.ignored)
    while True:
        try:
            host = gather_facts(machine, accelerator)
            demanded = require_ebpf or machine.require_ebpf
            plans = _plans(machine, capabilities, host, require_ebpf=demanded)
            context = _context(machine, owner, capabilities, accelerator, plans)
            built = build(context)
            requests = build_requests(machine, owner, plans, capabilities)
        except Unsupported as error:
            if not ignore_unsupported:
                raise located(error, document) from error
            left_out.append(located(error, document))
            machine = without(machine, error, left_out[-1])
        else:
            return Draft(
                document,
                machine,
                capabilities,
                accelerator,
                reason,
                host,
                plans,
                demanded,
                tuple(left_out),
                problem,
                absent,
                (*doubts, *find_exposed(document)),
                context,
                built,
                requests,
                files_of(document, secrets),
            )


def _plans(
    machine: Machine, capabilities: Capabilities, host: HostFacts, *, require_ebpf: bool
) -> dict[str, CardPlan]:
    """Return the plan of each card of *machine*, before the helper was asked."""
    return {
        device.id: plan_card(
            device,
            capabilities,
            host,
            default_rss=machine.default_rss,
            require_ebpf=require_ebpf,
        )
        for device in cards_of(machine)
    }


def _context(
    machine: Machine,
    owner: Owner,
    capabilities: Capabilities,
    accelerator: Accelerator,
    plans: dict[str, CardPlan],
) -> Context:
    """Return what the parts of a dry run's command line may know.

    What they need of this host's files is looked up here, once for all command lines of the VM.
    """
    bare = Context(
        machine=machine,
        capabilities=capabilities,
        accelerator=accelerator,
        plans=plans,
        owner=owner,
        folders=folders_of(machine.name),
        fd=str,
        machine_type=machine_type_of(machine, capabilities.arch),
        firmware=read_descriptors() if _needs_firmware(machine) else (),
        now=datetime.now(UTC).astimezone(),
        spice_certificates=find_tls_folder("spice"),
        vnc_certificates=find_tls_folder("vnc"),
        has_vsock=Path(VSOCK_NODE).exists(),
        gpu_program=find_gpu_program() if _has_gpu_process(machine) else GPU_PROGRAM,
    )
    return replace(bare, machine=complete(machine, bare.family))


def _needs_firmware(machine: Machine) -> bool:
    return machine.firmware is not None or machine.loader is not None


def _has_gpu_process(machine: Machine) -> bool:
    return any(video.backend == "vhostuser" for video in machine.videos)


def without(machine: Machine, error: Unsupported, told: Unsupported) -> Machine:
    """Return *machine* without what *error* refuses.

    Raises:
        Unsupported: *told*, the same with its place, where no VM can do without that.
    """
    element = error.element or ""
    while element:
        # By way of JSON, since lists are tuples in the model and nothing can be taken out of those.
        plain = msgspec.json.decode(msgspec.json.encode(machine))
        with contextlib.suppress(msgspec.ValidationError):
            less = msgspec.convert(plain, Machine) if remove_key(plain, element) else machine
            if less != machine:
                return less
        # It was there by default alone, or what is around it needs it: then that has to go.
        element = around(element)
    raise told


def located(error: E, document: Document, key: str = "") -> E:
    """Return *error* with the place of its element, or else of *key*, in the document."""
    key = error.element or key
    told = copy.copy(error)
    told.message = f"{document.origins.describe(key)}: {error.message}"
    told.element = document.origins.element_of(key) or None
    told.args = (told.message,)
    return told
