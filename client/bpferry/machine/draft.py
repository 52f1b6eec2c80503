# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a description becomes on this host: a plan for each card, and a command line.

``draft`` asks QEMU what it can do and plans; it needs no helper, no tap and no privilege. What it
finds is enough for a dry run; ``preparation`` opens the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.build import Built, build
from bpferry.commandline.composition import (
    Circumstances,
    Composition,
    IndispensableError,
    compose,
    compose_rest,
    settle_kind,
)
from bpferry.commandline.context import Context
from bpferry.commandline.extras.vsock import NODE as VSOCK_NODE
from bpferry.commandline.parts import Affinity, Refusal, Remark, Scheduling
from bpferry.domain.document import Document
from bpferry.domain.forms import Kind, either, in_form
from bpferry.domain.identity import Owner, card_mac_of, names_all
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.errors import NotReady, Unsupported, all_in_one, in_order
from bpferry.machine.absent_media import without_absent_media
from bpferry.machine.certificates import find_tls_folder
from bpferry.machine.emulator import ask_emulator
from bpferry.machine.faults import Fault
from bpferry.machine.folders import folders_of
from bpferry.machine.host import gather_facts
from bpferry.machine.host_files import HOST, HostFiles
from bpferry.machine.identity import find_identity
from bpferry.machine.paths import exists
from bpferry.machine.pinning import find_absent, find_forbidden, online_processors
from bpferry.machine.refusals import left_out, located, own_faults, placed, refuse_all
from bpferry.machine.reporter import Reporter
from bpferry.machine.secrets import NO_SECRETS, SecretFiles, files_of, find_exposed
from bpferry.qemu import accelerator as accelerators
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import GPU_PROGRAM, machine_type_of
from bpferry.steering.plan import CardPlan, HelperAnswer, Notice, plan_card

if TYPE_CHECKING:
    from bpferry.commandline.context import HostNode
    from bpferry.domain.model.cards import Card
    from bpferry.domain.model.host_devices import Which
    from bpferry.domain.names import Named
    from bpferry.qemu.firmware import Descriptor
    from bpferry.steering.requests import CardRequests

WANTED: Final = {
    ("kvm", True): Accelerator.AUTO,
    ("kvm", False): Accelerator.KVM,
    ("tcg", True): Accelerator.TCG,
    ("tcg", False): Accelerator.TCG,
}
"""What a description asks for, by its accelerator and whether TCG may be used instead."""

WITHOUT_KVM: Final = "let the VM run without KVM: " + either(
    'accelerator = "tcg"', "<domain type='qemu'>"
)
REQUIRED_KVM: Final = "let the VM run without KVM: " + either(
    'accelerator = "tcg", or tcg-fallback = true to use KVM where it works',
    "<domain type='qemu'>",
)
"""What to do where KVM is required."""

NO_SANDBOX: Final = Notice(
    "this QEMU was built without a sandbox (-sandbox), and runs without one",
    "use a QEMU that was built with libseccomp",
)


class Draft(Struct, frozen=True):
    """What is known of a VM on this host before the helper is asked for anything."""

    document: Document
    """As far as it is supported."""
    capabilities: Capabilities
    accelerator_reason: str
    circumstances: Circumstances
    refused: tuple[Unsupported, ...]
    """What the document asks for and cannot get."""
    left_out: tuple[Unsupported, ...]
    """What the user allowed us to leave out: the same, and what needs it."""
    kvm_problem: NotReady | None
    """Why KVM, which the description requires, does not work here; None if it does."""
    absent_media: tuple[Fault, ...]
    """A warning for each optional medium that is not there."""
    doubts: tuple[Notice, ...]
    """Why the generated addresses might also be those of a VM on another host, and who can read a
    password that the description holds."""
    context: Context
    """What the parts of the command line may know, with fds by their names."""
    built: Built
    """The command line of a dry run."""
    requests: "dict[str, CardRequests]"
    """What is asked of the helpers, by card."""
    secret_files: SecretFiles
    """Where the passwords and keys are that the description names."""

    @property
    def machine(self) -> Machine:
        """The VM, as far as it is supported."""
        return self.document.machine

    @property
    def plans(self) -> Mapping[str, CardPlan]:
        """By card, before anything is asked of the helpers."""
        return self.context.plans

    def mac_of(self, device: "Named[Card]") -> str:
        """Return the address that the guest's card *device* has."""
        return card_mac_of(device.value, self.context.owner, self.machine.name, device.number)

    def after(self, plans: Mapping[str, CardPlan]) -> "Draft":
        """Return the draft with the *plans* that the helpers' answers would lead to."""
        if plans == self.plans:
            return self
        context = replace(self.context, plans=plans)
        return replace(self, context=context, built=build(context))

    def build(self, plans: Mapping[str, CardPlan], numbers: Mapping[str, str]) -> Built:
        """Return QEMU's command line with the *numbers* of what it inherits, by their names."""
        return build(replace(self.context, plans=plans, fd=numbers.__getitem__))

    def plan(self, device: "Named[Card]", answer: HelperAnswer) -> CardPlan:
        """Return the plan of a card after the helper's *answer*."""
        around = self.circumstances
        return plan_card(
            device,
            self.capabilities,
            around.host,
            default_rss=self.machine.default_rss,
            answer=answer,
            require_ebpf=around.require_ebpf,
        )

    def general_faults(self) -> Iterator[Fault]:
        """Yield what the VM as a whole lacks.

        Each card's plan has its own remarks, and what was left out is told apart.
        """
        without = () if self.capabilities.sandbox else (NO_SANDBOX,)
        yield from self.absent_media
        for notice in (*without, *self.doubts):
            yield Fault("", "warning", notice.message, fix=notice.hint, kind="host")
        for remark in self.built.of(Remark):
            fault = Fault(remark.key, "warning", remark.text, fix=remark.hint)
            yield placed(fault, self.document)
        of_threads = (
            *find_absent(self.built.of(Affinity), online_processors()),
            *find_forbidden(self.built.of(Scheduling)),
        )
        for remark in of_threads:
            fault = Fault(remark.key, "warning", remark.text, fix=remark.hint, kind="host")
            yield placed(fault, self.document)


def draft(
    document: Document,
    reporter: Reporter,
    *,
    require_ebpf: bool = False,
    ignore_unsupported: bool = False,
    secrets: SecretFiles = NO_SECRETS,
    files: HostFiles = HOST,
) -> Draft:
    """Ask QEMU what it can do, try the accelerator, and plan each card.

    Args:
        document: the description.
        reporter: receives what the user is told.
        require_ebpf: start only if the host's kernel steers every card.
        ignore_unsupported: leave out what is not supported.
        secrets: where the user says that passwords and keys are.
        files: the host's files about its devices.

    Raises:
        BpferryError: QEMU cannot be asked, eBPF is required and certainly not possible, or
            something is not supported, with its place in the document.
    """
    document, absent = without_absent_media(document)
    capabilities = ask_emulator(document, reporter)
    identity = find_identity()
    written = _context(document, identity.owner, capabilities, files)
    bare, refusals = _settle_kind(written, document)
    accelerator, reason, problem = _choose_accelerator(bare, capabilities.qemu)
    slow = _without_kvm(bare, capabilities) if accelerator is Accelerator.TCG else None
    bare, written = (replace(one, accelerator=accelerator) for one in (bare, written))
    around = Circumstances(
        gather_facts(document.machine, accelerator), require_ebpf or document.machine.require_ebpf
    )
    made = compose(bare, around)
    refusals += _compared(made.refusals, written, around) if refusals else made.refusals
    faults = own_faults(refusals, document)
    if faults and not ignore_unsupported:
        raise all_in_one(faults)
    made, following = _compose_rest(made, bare, around, refusals, document)
    return Draft(
        document=replace(document, machine=made.machine),
        capabilities=capabilities,
        accelerator_reason=reason,
        circumstances=around,
        refused=in_order((*document.ignored, *faults)),
        left_out=left_out((*refusals, *following), document, made.context.machine_type),
        kvm_problem=problem,
        absent_media=absent,
        doubts=(
            *(() if slow is None else (slow,)),
            *(() if identity.doubt is None or names_all(made.machine) else (identity.doubt,)),
            *find_exposed(document),
        ),
        context=made.context,
        built=made.built,
        requests=made.requests,
        secret_files=files_of(document, secrets),
    )


def _settle_kind(bare: Context, document: Document) -> tuple[Context, tuple[Refusal, ...]]:
    try:
        return settle_kind(bare)
    except IndispensableError as error:
        raise located(error.refused, document) from error


def _compose_rest(
    made: Composition,
    bare: Context,
    around: Circumstances,
    refusals: Sequence[Refusal],
    document: Document,
) -> tuple[Composition, tuple[Refusal, ...]]:
    try:
        return compose_rest(made, bare, around)
    except IndispensableError as error:
        raise refuse_all(located(error.refused, document), refusals, document) from error


def _choose_accelerator(bare: Context, qemu: str) -> tuple[Accelerator, str, NotReady | None]:
    """Return the accelerator, why, and why KVM does not work if nothing else is acceptable."""
    machine = bare.machine
    wanted = WANTED[machine.accelerator, machine.tcg_fallback]
    accelerator, reason = accelerators.choose(wanted, qemu, bare.machine_type)
    if wanted is not Accelerator.KVM:
        return accelerator, reason, None
    problem, hint = accelerators.find_kvm_problem(qemu, bare.machine_type)
    hint = f"{hint}; or {REQUIRED_KVM}" if hint else REQUIRED_KVM
    return accelerator, reason, NotReady(problem, hint, "accelerator") if problem else None


def _without_kvm(bare: Context, capabilities: Capabilities) -> Notice | None:
    """Return the warning that KVM, which is used if it works, does not work here."""
    machine = bare.machine
    wanted = WANTED[machine.accelerator, machine.tcg_fallback]
    if wanted is not Accelerator.AUTO or "kvm" not in capabilities.accelerators:
        return None
    problem, hint = accelerators.find_kvm_problem(capabilities.qemu, bare.machine_type)
    if not problem:
        return None
    ways = filter(None, (hint, f"if that is what you want, {WITHOUT_KVM}"))
    text = f"QEMU emulates the processor, which is many times slower than KVM: {problem}"
    kind: Kind = "xml" if bare.in_xml else "toml"
    return Notice(text, in_form("; ".join(ways), kind))


def _compared(
    refusals: Sequence[Refusal], written: Context, around: Circumstances
) -> tuple[Refusal, ...]:
    """Return *refusals* of a VM without its machine type or architecture.

    Those that were there with it too are the user's mistakes; the others are consequences.
    """
    before = {refusal.error.element for refusal in compose(written, around).refusals}
    return tuple(
        msgspec.structs.replace(one, follows=one.follows or one.error.element not in before)
        for one in refusals
    )


def _context(
    document: Document, owner: Owner, capabilities: Capabilities, files: HostFiles
) -> Context:
    """Return what the parts of a dry run's command line may know, except accelerator and plans.

    What they need of this host's files is looked up here, once for all command lines of the VM.
    """
    machine = document.machine
    return Context(
        machine=machine,
        capabilities=capabilities,
        accelerator=Accelerator.TCG,
        plans={},
        owner=owner,
        folders=folders_of(machine.name),
        fd=str,
        machine_type=machine_type_of(machine, capabilities.arch),
        firmware=_firmware(machine),
        now=datetime.now(UTC).astimezone(),
        host_nodes=_host_nodes(machine, files),
        spice_certificates=find_tls_folder("spice"),
        vnc_certificates=find_tls_folder("vnc"),
        has_vsock=exists(VSOCK_NODE),
        in_xml=document.kind == "xml",
        gpu_program=_gpu_program(machine),
    )


def _host_nodes(machine: Machine, files: HostFiles) -> "Mapping[Which, HostNode]":
    if not machine.host_devices:
        return {}
    from bpferry.machine.host_devices import find_host_nodes  # noqa: PLC0415 - few VMs have any

    return find_host_nodes(machine, files)


def _firmware(machine: Machine) -> "tuple[Descriptor, ...]":
    if machine.firmware is None and machine.loader is None:
        return ()
    from bpferry.qemu.firmware import firmware_of_host  # noqa: PLC0415 - where it is chosen from

    return firmware_of_host()


def _gpu_program(machine: Machine) -> str:
    if all(video.backend != "vhostuser" for video in machine.videos):
        return GPU_PROGRAM
    from bpferry.qemu.vhost_user import find_gpu_program  # noqa: PLC0415 - few have such a card

    return find_gpu_program()
