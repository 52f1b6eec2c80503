# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors on the command line."""

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.context import Context
from bpferry.commandline.parts import PlugIn, Remark
from bpferry.domain.model.accelerator import Accelerator
from tests.client.commandline.system_parts import (
    all_parts,
    context_of,
    of_document,
    of_kind,
    values,
    words,
)
from tests.client.refusals import refusal_of

KVM = Accelerator.KVM
TCG = Accelerator.TCG


@pytest.mark.parametrize(
    ("cpu", "accelerator", "expected"),
    [
        ("", TCG, "qemu64"),
        ("", KVM, "qemu64"),
        ("<cpu><topology sockets='1' cores='1' threads='1'/></cpu>", TCG, "qemu64"),
        ("<cpu mode='maximum'/>", TCG, "max"),
        ("<cpu mode='maximum'/>", KVM, "max"),
        ("<cpu mode='maximum' migratable='off'/>", KVM, "max,migratable=off"),
        ("<cpu mode='host-passthrough'/>", KVM, "host,migratable=on"),
        ("<cpu mode='host-passthrough' migratable='off'/>", KVM, "host,migratable=off"),
        ("<cpu mode='host-model'/>", KVM, "host,migratable=on"),
        ("<cpu mode='host-model'/>", TCG, "max"),
        ("<cpu><model>core2duo</model></cpu>", TCG, "core2duo"),
        (
            "<cpu mode='custom' match='exact' check='full'><model>core2duo</model></cpu>",
            KVM,
            "core2duo,enforce=on",
        ),
    ],
)
def test_model(cpu: str, accelerator: Accelerator, expected: str) -> None:
    """Each mode is one model of QEMU's."""
    assert [expected] == values(context_of(cpu, accelerator=accelerator), "-cpu")


def test_guest_of_32_bits() -> None:
    """A guest of 32 bits gets the processor that the machine has by itself, as under libvirt."""
    assert ["qemu64"] == values(context_of(arch="i686"), "-cpu")


def test_guest_of_32_bits_where_qemu_does_not_say() -> None:
    """Where it is not known what the machine has, it is a processor of 32 bits."""
    context = context_of(arch="i686")
    silent = msgspec.structs.replace(context.capabilities, machines={})

    assert ["qemu32"] == values(replace(context, capabilities=silent), "-cpu")


def test_native_default() -> None:
    """By default a native description gets all that the accelerator can do."""
    context = of_document('name = "vm"\nmemory = "64 MiB"\n', "q35", TCG)

    assert ["max"] == values(context, "-cpu")


def test_native_model_alone() -> None:
    """A model is what the guest gets, also where no mode is said, as in a domain document."""
    text = 'name = "vm"\nmemory = "64 MiB"\n[cpu]\nmodel = "core2duo"\n'

    assert ["core2duo"] == values(of_document(text, "q35", TCG), "-cpu")


@pytest.mark.parametrize("mode", ["maximum", "host-model", "host-passthrough"])
def test_model_that_the_mode_does_not_use(mode: str) -> None:
    """Both forms say that it has no effect; libvirt passes over it without a word."""
    native = f'name = "vm"\nmemory = "64 MiB"\n[cpu]\nmode = "{mode}"\nmodel = "core2duo"\n'
    contexts = [
        of_document(native, "q35", KVM),
        context_of(f"<cpu mode='{mode}'><model>core2duo</model></cpu>", accelerator=KVM),
    ]

    for context in contexts:
        (remark,) = of_kind(context, Remark)
        assert remark.text.startswith(f"the model 'core2duo' is not used: the mode '{mode}'")
        assert "use the mode 'custom'" in remark.hint


def test_features() -> None:
    """What is forced, required or optional is on, the rest off; names are QEMU's."""
    features = "".join(
        f"<feature name='{name}' policy='{policy}'/>"
        for name, policy in (
            ("ds_cpl", "require"),
            ("pclmuldq", "force"),
            ("cx16", "optional"),
            ("svm", "forbid"),
        )
    )

    argv = values(context_of(f"<cpu><model>qemu64</model>{features}</cpu>"), "-cpu")

    assert ["qemu64,ds-cpl=on,pclmulqdq=on,cx16=on,svm=off"] == argv


def test_unknown_feature() -> None:
    """A feature that QEMU does not know is absent where it is not wanted, refused where it is."""
    cpu = "<cpu><model>qemu64</model><feature name='new' policy='{}'/></cpu>"

    assert ["qemu64"] == values(context_of(cpu.format("disable")), "-cpu")
    assert refusal_of(all_parts, context_of(cpu.format("require"))).element == "cpu.features[0]"


@pytest.mark.parametrize(
    ("cpu", "key"),
    [
        ("<cpu><model>Haswell-of-tomorrow</model></cpu>", "cpu.model"),
        ("<cpu mode='host-passthrough'/>", "cpu.mode"),
        ("<cpu mode='host-model' migratable='off'/>", "cpu.migratable"),
        ("<cpu><model>qemu64</model><vendor>Intel</vendor></cpu>", "cpu.vendor"),
        ("<cpu mode='custom'/>", "cpu"),
        ("<cpu><feature name='svm'/></cpu>", "cpu"),
        ("<cpu><model>qemu64</model><cache mode='passthrough'/></cpu>", "cpu.cache.mode"),
        ("<cpu><model>qemu64</model><cache mode='emulate'/></cpu>", "cpu.cache.level"),
        ("<cpu><topology sockets='3' cores='1' threads='1'/></cpu>", "vcpus"),
        (
            (
                "<vcpu>2</vcpu>"
                "<cpu><topology sockets='1' dies='1' clusters='2' cores='1' threads='1'/></cpu>"
            ),
            "cpu.clusters",
        ),
    ],
)
def test_refusals(cpu: str, key: str) -> None:
    """What this QEMU or this machine does not have is refused, with its key."""
    assert refusal_of(all_parts, context_of(cpu)).element == key


def test_most_processors() -> None:
    """More processors than the machine takes are refused before QEMU starts."""
    assert refusal_of(all_parts, context_of("<vcpu>256</vcpu>", machine="pc")).element == "vcpus"


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ("", {"cpus=1", "sockets=1", "cores=1", "threads=1"}),
        ("<vcpu>4</vcpu>", {"cpus=4", "sockets=4", "cores=1", "threads=1"}),
        (
            "<vcpu current='1'>4</vcpu>",
            {"cpus=1", "maxcpus=4", "sockets=4", "cores=1", "threads=1"},
        ),
        (
            "<vcpu>12</vcpu><cpu><topology sockets='1' dies='2' cores='3' threads='2'/></cpu>",
            {"cpus=12", "sockets=1", "dies=2", "cores=3", "threads=2"},
        ),
    ],
)
def test_arrangement(top: str, expected: set[str]) -> None:
    """Without an arrangement, each processor is a socket, as under libvirt."""
    assert expected == words(context_of(top), "-smp")


def vcpus(*said: str, current: int = 2) -> Context:
    """Return the context of a VM with a list of processors, each with the words *said*."""
    inner = "".join(f"<vcpu id='{number}' {words}/>" for number, words in enumerate(said))
    return context_of(f"<vcpu current='{current}'>{len(said)}</vcpu><vcpus>{inner}</vcpus>")


FIXED = "enabled='yes' hotpluggable='no'"
PLUGGED = "enabled='yes' hotpluggable='yes' order='{}'"
ABSENT = "enabled='no' hotpluggable='yes'"


def test_processors_that_are_there_at_once() -> None:
    """Those that cannot be removed are what QEMU starts with."""
    context = vcpus(FIXED, FIXED, ABSENT)

    assert {"cpus=2", "maxcpus=3"} <= words(context, "-smp")
    assert [] == of_kind(context, PlugIn)


def test_processors_that_are_plugged_in() -> None:
    """Those that can be removed are added before the guest runs, in the order that is said."""
    context = vcpus(FIXED, ABSENT, PLUGGED.format(3), PLUGGED.format(2), current=3)

    assert {"cpus=1", "maxcpus=4"} <= words(context, "-smp")
    assert [PlugIn((3, 2), "vcpu-list")] == of_kind(context, PlugIn)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ((FIXED, ABSENT, FIXED), "vcpu-list"),
        ((PLUGGED.format(1), FIXED), "vcpu-list[0]"),
        ((ABSENT, FIXED, FIXED), "vcpu-list[0]"),
        ((FIXED, FIXED, FIXED), "vcpus-at-start"),
        ((FIXED, FIXED, "enabled='no' hotpluggable='no'"), "vcpu-list[2].hotpluggable"),
        ((FIXED, PLUGGED.format(1), PLUGGED.format(1)), "vcpu-list[2].order"),
    ],
)
def test_list_of_processors_that_cannot_be(said: tuple[str, ...], key: str) -> None:
    """The first ones stay, the others come behind them, as many as the VM starts with."""
    assert refusal_of(all_parts, vcpus(*said)).element == key


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        ("<cache mode='disable'/>", {"max", "host-cache-info=off", "l3-cache=off"}),
        ("<cache mode='passthrough'/>", {"max", "host-cache-info=on", "l3-cache=off"}),
        ("<cache mode='emulate' level='3'/>", {"max", "host-cache-info=off", "l3-cache=on"}),
    ],
)
def test_cache(cache: str, expected: set[str]) -> None:
    """The guest is told of the host's caches, of QEMU's own, or of none on level 3."""
    assert expected == words(context_of(f"<cpu mode='maximum'>{cache}</cpu>"), "-cpu")


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ("mode='passthrough'", {"max", "host-phys-bits=on"}),
        ("mode='passthrough' limit='39'", {"max", "host-phys-bits=on", "host-phys-bits-limit=39"}),
        ("mode='emulate' bits='42'", {"max", "phys-bits=42"}),
        ("mode='emulate'", {"max", "host-phys-bits=off"}),
    ],
)
def test_physical_bits(bits: str, expected: set[str]) -> None:
    """The width of addresses is the host's or a number."""
    assert expected == words(context_of(f"<cpu mode='maximum'><maxphysaddr {bits}/></cpu>"), "-cpu")
