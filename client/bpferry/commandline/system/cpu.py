# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors: the model with its features, and how many there are.

In libvirt, ``host-model`` is the model of its own list that is nearest to the host, with the
features that differ. There is no such list here, and no need for one: under KVM it is the host's
own processor with the features that can migrate (QEMU's ``host,migratable=on``), under TCG all
that TCG can do (``max``).

A feature that the host cannot give is left out by QEMU, which says so in its log; with
``check='full'`` QEMU ends instead.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.attempt import split
from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Found, Option, Remark
from bpferry.commandline.system import topology
from bpferry.commandline.system.features import paravirtual_features, remarks
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.names import listed
from bpferry.errors import Unsupported

FEATURE_NAMES: Final = {
    "pclmuldq": "pclmulqdq",
    "vmx-invvpid-single-context-noglobals": "vmx-invept-single-context-noglobals",
}
"""Features that have another name in libvirt, apart from underscores instead of hyphens."""

VENDORS: Final = {"Intel": "GenuineIntel", "AMD": "AuthenticAMD", "Hygon": "HygonGenuine"}

ON: Final = ("force", "require", "optional")

DEFAULT_MODELS: Final = {"x86_64": "qemu64", "i686": "qemu32", "i386": "qemu32"}
"""What a PC has by default, if QEMU does not say what its machines have."""


OF_HOST: Final = ("host-passthrough", "host-model")
"""The modes that mean the host's own processor under KVM."""


def parts(context: Context) -> Iterator[Found]:
    """Yield the model, the number and the arrangement of processors."""
    yield from _check_model(context)
    name = _model_name(context)
    words, errors = split(_words(context))
    yield from errors
    if name:
        yield Option("-cpu", ",".join((name, *words)))
    elif words:
        yield unsupported(
            "cpu", "CPU features need a CPU model, and the machine's default has no name here",
            "name a CPU model",
        )  # fmt: skip
    yield from topology.parts(context)
    yield from remarks(context)
    yield from _unused_model(context)


def _unused_model(context: Context) -> Iterator[Remark]:
    """Say that a mode which chooses the processor takes no model; libvirt passes over it too."""
    cpu = context.machine.cpu
    if cpu.model is not None and cpu.mode in ("maximum", *OF_HOST):
        yield Remark(
            f"the model '{cpu.model}' is not used: the mode '{cpu.mode}' chooses the processor",
            "use the mode 'custom' for that model; otherwise leave the model out",
            "cpu.model",
        )


def _words(context: Context) -> Iterator[str | Unsupported]:
    """Yield the properties of the processor. None of the values has a comma (``model.cpu``)."""
    cpu = context.machine.cpu
    yield from _migratable(context)
    if cpu.vendor is not None:
        yield unsupported(
            "cpu.vendor", "matching the host CPU's vendor is not supported", "remove it"
        )
    if cpu.vendor_id is not None:
        yield f"vendor={cpu.vendor_id}"
    if cpu.check == "full":
        yield "enforce=on"
    yield from _features(context)
    yield from paravirtual_features(context)
    yield from _cache(context)
    yield from _physical_bits(context)


def _migratable(context: Context) -> Iterator[str | Unsupported]:
    """Yield whether the guest sees only features that can migrate to another host."""
    cpu = context.machine.cpu
    if cpu.migratable is not None and cpu.mode not in ("host-passthrough", "maximum"):
        yield mistaken(
            "cpu.migratable", "it is for the modes 'host-passthrough' and 'maximum'", "leave it out"
        )
    if cpu.mode in OF_HOST and context.accelerator is Accelerator.KVM:
        yield f"migratable={'off' if cpu.migratable is False else 'on'}"
    elif cpu.migratable is not None:
        yield f"migratable={'on' if cpu.migratable else 'off'}"


def _model_name(context: Context) -> str:
    cpu = context.machine.cpu
    if cpu.mode == "maximum":
        return "max"
    if cpu.mode in OF_HOST:
        return "host" if context.accelerator is Accelerator.KVM else "max"
    return cpu.model or _default_model(context)


def _check_model(context: Context) -> Iterator[Unsupported]:
    cpu, known = context.machine.cpu, context.capabilities
    if cpu.mode == "host-passthrough" and context.accelerator is not Accelerator.KVM:
        yield unsupported(
            "cpu.mode",
            "TCG cannot give the host's own processor to the guest",
            "use KVM, or the mode 'maximum', which is the host's own processor under KVM",
        )
    if cpu.mode in ("maximum", *OF_HOST):
        return
    if cpu.model is None and (cpu.mode == "custom" or cpu.features or cpu.vendor_id):
        yield mistaken("cpu", "the CPU model is missing", "name one")
    if cpu.model is not None and known.cpu_models and cpu.model not in known.cpu_models:
        yield unsupported(
            "cpu.model",
            f"'{known.qemu}' (QEMU {known.version_text}) knows no processor '{cpu.model}'",
            f"'{known.qemu} -cpu help' lists those that it has",
        )


def _default_model(context: Context) -> str:
    """Return the machine's own default processor, whatever the guest's architecture.

    So does libvirt, which takes 'qemu32' for 32-bit guests only if it does not know that
    (qemuDomainDefSetDefaultCPU, src/qemu/qemu_postparse.c, libvirt 11.3).
    """
    arch = context.machine.arch or context.capabilities.arch
    found = context.capabilities.find_machine(context.machine_type)
    if found and found.default_cpu_type:
        return found.default_cpu_type.removesuffix(f"-{context.capabilities.arch}-cpu")
    return DEFAULT_MODELS.get(arch, "")


def _features(context: Context) -> Iterator[str | Unsupported]:
    known = context.capabilities.cpu_properties
    for part in listed(context.machine.cpu.features, "cpu.features"):
        feature = part.value
        name = FEATURE_NAMES.get(feature.name, feature.name.replace("_", "-"))
        if known and name not in known and feature.name in known:
            name = feature.name
        if not known or name in known:
            yield f"{name}={'on' if feature.policy in ON else 'off'}"
        elif feature.policy in ("force", "require"):
            yield part.refusal(
                "",
                f"this QEMU has no CPU feature '{feature.name}'",
                "remove it, or use the policy 'optional'",
            )
        # The guest does not have a feature that QEMU does not know.


def _cache(context: Context) -> Iterator[str | Unsupported]:
    cache = context.machine.cpu.cache
    if cache is None:
        return
    passes = context.machine.cpu.mode in ("host-passthrough", "maximum")
    if cache.mode == "passthrough" and not passes:
        yield unsupported(
            "cpu.cache.mode", "the host's caches need the host's CPU",
            "use the mode 'host-passthrough' or 'maximum'",
        )  # fmt: skip
    if (cache.mode == "emulate") is not (cache.level is not None):
        yield mistaken(
            "cpu.cache.level",
            "a level is for the mode 'emulate' only",
            "leave the level out, or write the mode 'emulate'",
        )
    if cache.mode == "passthrough":
        yield "host-cache-info=on"
    elif passes:
        yield "host-cache-info=off"
    yield f"l3-cache={'on' if cache.mode == 'emulate' else 'off'}"


def _physical_bits(context: Context) -> Iterator[str | Unsupported]:
    wanted = context.machine.cpu.physical_bits
    if wanted is None:
        return
    if wanted.mode == "passthrough":
        if wanted.bits is not None:
            yield mistaken(
                "cpu.physical-bits.bits",
                "the mode 'passthrough' already takes the host's number of bits",
                "leave the number out, or the mode 'passthrough'",
            )
        yield "host-phys-bits=on"
        if wanted.limit is not None:
            yield f"host-phys-bits-limit={wanted.limit}"
        return
    if wanted.limit is not None:
        yield mistaken(
            "cpu.physical-bits.limit",
            "it is for the mode 'passthrough' only",
            "leave the limit out, or write the mode 'passthrough'",
        )
    yield "host-phys-bits=off" if wanted.bits is None else f"phys-bits={wanted.bits}"
