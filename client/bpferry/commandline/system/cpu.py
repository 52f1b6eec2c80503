# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors: the model with its features, and how many there are.

``host-model`` means to libvirt the model of its own list that is nearest to the host, with the
features that differ. There is no such list here, and no need for one: under KVM it is the host's
own processor with what could also be had on another host (QEMU's ``host,migratable=on``), under
TCG all that TCG can do (``max``).

A feature that the host cannot give is left out by QEMU, which says so in its log; with
``check='full'`` QEMU ends instead.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Option, Part, join
from bpferry.commandline.system.features import paravirtual_features, remarks
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.cpu import Vcpu

FEATURE_NAMES: Final = {
    "pclmuldq": "pclmulqdq",
    "vmx-invvpid-single-context-noglobals": "vmx-invept-single-context-noglobals",
}
"""Features that libvirt calls otherwise than QEMU, beyond underscores instead of hyphens."""

VENDORS: Final = {"Intel": "GenuineIntel", "AMD": "AuthenticAMD", "Hygon": "HygonGenuine"}

ON: Final = ("force", "require", "optional")

DEFAULT_MODELS: Final = {"x86_64": "qemu64", "i686": "qemu32", "i386": "qemu32"}
"""What a PC has that asks for nothing, where QEMU does not say what its machines have."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the model, the number and the arrangement of processors."""
    yield from _model(context)
    yield Option("-smp", _smp(context))
    yield from remarks(context)


def _model(context: Context) -> Iterator[Option]:
    words = [_model_name(context), *_words(context)]
    if words[0]:
        yield Option("-cpu", ",".join(words))
    elif len(words) > 1:
        raise unsupported(
            "cpu", "features are asked for, and the machine's own processor has no name here",
            "name a model of processor",
        )  # fmt: skip


def _words(context: Context) -> Iterator[str]:
    """Yield the properties of the processor. None of the values has a comma (``model.cpu``)."""
    cpu = context.machine.cpu
    yield from _migratable(context)
    if cpu.vendor is not None:
        raise unsupported("cpu.vendor", "hosts are not told apart by their vendor", "take it out")
    if cpu.vendor_id is not None:
        yield f"vendor={cpu.vendor_id}"
    if cpu.check == "full":
        yield "enforce=on"
    yield from _features(context)
    yield from paravirtual_features(context)
    yield from _cache(context)
    yield from _physical_bits(context)


def _migratable(context: Context) -> Iterator[str]:
    """Yield whether the guest sees only what another host could give as well."""
    cpu = context.machine.cpu
    if cpu.migratable is not None and cpu.mode not in ("host-passthrough", "maximum"):
        raise unsupported("cpu.migratable", "it goes with 'host-passthrough' and 'maximum'")
    of_host = cpu.mode in ("host-passthrough", "host-model")
    if of_host and context.accelerator is Accelerator.KVM:
        yield f"migratable={'off' if cpu.migratable is False else 'on'}"
    elif cpu.migratable is not None:
        yield f"migratable={'on' if cpu.migratable else 'off'}"


def _model_name(context: Context) -> str:
    cpu = context.machine.cpu
    if cpu.mode == "maximum":
        return "max"
    if cpu.mode == "host-passthrough":
        if context.accelerator is not Accelerator.KVM:
            raise unsupported(
                "cpu.mode",
                "TCG cannot give the host's own processor to the guest",
                "use KVM, or the mode 'maximum', which is the host's own processor under KVM",
            )
        return "host"
    if cpu.mode == "host-model":
        return "host" if context.accelerator is Accelerator.KVM else "max"
    if cpu.model is not None:
        return _checked_model(context, cpu.model)
    if cpu.mode == "custom" or cpu.features or cpu.vendor_id:
        raise unsupported("cpu", "there is no model of processor", "name one")
    return _default_model(context)


def _checked_model(context: Context, name: str) -> str:
    known = context.capabilities
    if known.cpu_models and name not in known.cpu_models:
        raise unsupported(
            "cpu.model",
            f"'{known.qemu}' (QEMU {known.version_text}) knows no processor '{name}'",
            f"'{known.qemu} -cpu help' lists those that it knows",
        )
    return name


def _default_model(context: Context) -> str:
    """Return the processor that the machine has by itself, whatever the guest is to be.

    So has libvirt, which takes 'qemu32' for guests of 32 bits only where it does not know that
    (qemuDomainDefSetDefaultCPU, src/qemu/qemu_postparse.c, libvirt 11.3).
    """
    arch = context.machine.arch or context.capabilities.arch
    found = context.capabilities.find_machine(context.machine_type)
    if found and found.default_cpu_type:
        return found.default_cpu_type.removesuffix(f"-{context.capabilities.arch}-cpu")
    return DEFAULT_MODELS.get(arch, "")


def _features(context: Context) -> Iterator[str]:
    known = context.capabilities.cpu_properties
    for index, feature in enumerate(context.machine.cpu.features):
        name = FEATURE_NAMES.get(feature.name, feature.name.replace("_", "-"))
        if known and name not in known and feature.name in known:
            name = feature.name
        if not known or name in known:
            yield f"{name}={'on' if feature.policy in ON else 'off'}"
        elif feature.policy in ("force", "require"):
            raise unsupported(
                f"cpu.features[{index}]",
                f"this QEMU knows no feature '{feature.name}' of a processor",
                "take it out, or use the policy 'optional'",
            )
        # What QEMU does not know, the guest does not have.


def _cache(context: Context) -> Iterator[str]:
    cache = context.machine.cpu.cache
    if cache is None:
        return
    passes = context.machine.cpu.mode in ("host-passthrough", "maximum")
    if cache.mode == "passthrough" and not passes:
        raise unsupported(
            "cpu.cache.mode", "the host's caches go with the host's processor only",
            "use the mode 'host-passthrough' or 'maximum'",
        )  # fmt: skip
    if (cache.mode == "emulate") is not (cache.level is not None):
        raise unsupported("cpu.cache.level", "a level goes with the mode 'emulate', and only there")
    if cache.mode == "passthrough":
        yield "host-cache-info=on"
    elif passes:
        yield "host-cache-info=off"
    yield f"l3-cache={'on' if cache.mode == 'emulate' else 'off'}"


def _physical_bits(context: Context) -> Iterator[str]:
    wanted = context.machine.cpu.physical_bits
    if wanted is None:
        return
    if wanted.mode == "passthrough":
        if wanted.bits is not None:
            raise unsupported("cpu.physical-bits.bits", "the host's own number is asked for too")
        yield "host-phys-bits=on"
        if wanted.limit is not None:
            yield f"host-phys-bits-limit={wanted.limit}"
        return
    if wanted.limit is not None:
        raise unsupported("cpu.physical-bits.limit", "it goes with the mode 'passthrough'")
    yield "host-phys-bits=off" if wanted.bits is None else f"phys-bits={wanted.bits}"


def _smp(context: Context) -> str:
    machine = context.machine
    start = _vcpus_at_start(context)
    cpu = machine.cpu
    most = None if start == machine.vcpus else machine.vcpus
    if cpu.sockets is None and cpu.cores is None and cpu.threads is None:
        if cpu.dies > 1 or cpu.clusters > 1:
            raise unsupported("cpu.sockets", "dies and clusters need sockets, cores and threads")
        return join("", cpus=start, maxcpus=most, sockets=machine.vcpus, cores=1, threads=1)
    _check_topology(context)
    return join(
        "",
        cpus=start,
        maxcpus=most,
        sockets=cpu.sockets,
        dies=cpu.dies if cpu.dies > 1 else None,
        clusters=cpu.clusters if cpu.clusters > 1 else None,
        cores=cpu.cores,
        threads=cpu.threads,
    )


def _check_topology(context: Context) -> None:
    machine, cpu = context.machine, context.machine.cpu
    if cpu.sockets is None or cpu.cores is None or cpu.threads is None:
        raise unsupported("cpu.sockets", "sockets, cores and threads go together")
    product = cpu.sockets * cpu.dies * cpu.clusters * cpu.cores * cpu.threads
    if product != machine.vcpus:
        raise unsupported(
            "vcpus", f"there are {machine.vcpus}, and the arrangement has {product} places",
            "let sockets times dies times clusters times cores times threads be their number",
        )  # fmt: skip
    if cpu.dies > 1 and context.family not in ("pc", "q35"):
        raise unsupported("cpu.dies", f"'{context.machine_type}' has one die in each socket")
    if cpu.clusters > 1 and context.family != "virt":
        raise unsupported("cpu.clusters", f"'{context.machine_type}' has no clusters of cores")


def _vcpus_at_start(context: Context) -> int:
    machine = context.machine
    found = context.capabilities.find_machine(context.machine_type)
    if found and machine.vcpus > found.cpu_max:
        raise unsupported("vcpus", f"'{context.machine_type}' takes at most {found.cpu_max}")
    start = machine.vcpus_at_start or machine.vcpus
    if start > machine.vcpus:
        raise unsupported("vcpus-at-start", f"there are {machine.vcpus} in all")
    if machine.vcpu_list:
        _check_list(machine.vcpu_list, start)
    return start


def _check_list(vcpus: tuple[Vcpu, ...], start: int) -> None:
    """Refuse what is more than so many processors from the first on."""
    for index, vcpu in enumerate(vcpus):
        key = f"vcpu-list[{index}]"
        if vcpu.enabled is not (vcpu.id < start):
            raise unsupported(
                f"{key}.enabled", f"the first {start} processors are there at the start",
                "let those that are enabled be the first ones, as many as 'current' says",
            )  # fmt: skip
        if vcpu.enabled and vcpu.hotpluggable:
            raise unsupported(f"{key}.hotpluggable", "those that are there cannot be taken out")
