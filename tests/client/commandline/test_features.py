# SPDX-License-Identifier: LGPL-2.1-or-later
"""Features of the machine on the command line."""

from pathlib import Path

import pytest

from bpferry.commandline.parts import Device, Remark
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from bpferry.errors import BadInput
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
    ("features", "word"),
    [
        ("", "acpi=off"),
        ("<acpi/>", "acpi=on"),
        ("<smm state='on'/>", "smm=on"),
        ("<vmport state='off'/>", "vmport=off"),
        ("<ps2 state='off'/>", "i8042=off"),
        ("<ioapic driver='qemu'/>", "kernel-irqchip=split"),
        ("<ioapic driver='kvm'/>", "kernel-irqchip=on"),
    ],
)
def test_machine(features: str, word: str) -> None:
    """Features of the machine are its properties; no ACPI unless it is asked for, as in libvirt."""
    assert word in words(context_of(f"<features>{features}</features>"), "-machine")


def test_native_machine_has_acpi() -> None:
    """By default a native description has ACPI."""
    context = of_document('name = "vm"\nmemory = "64 MiB"\n', "q35", TCG)

    assert "acpi=on" in words(context, "-machine")


@pytest.mark.parametrize(
    ("features", "word"),
    [
        ("<apic eoi='on'/>", "kvm-pv-eoi=on"),
        ("<pvspinlock state='off'/>", "kvm-pv-unhalt=off"),
        ("<pvspinlock/>", "kvm-pv-unhalt=on"),
        ("<pmu state='off'/>", "pmu=off"),
        ("<kvm><hidden state='on'/></kvm>", "kvm=off"),
        ("<kvm><hint-dedicated state='on'/></kvm>", "kvm-hint-dedicated=on"),
        ("<kvm><poll-control state='on'/></kvm>", "kvm-poll-control=on"),
        ("<kvm><pv-ipi state='off'/></kvm>", "kvm-pv-ipi=off"),
        ("<hyperv mode='passthrough'/>", "hv-passthrough=on"),
        ("<hyperv><relaxed state='on'/></hyperv>", "hv-relaxed=on"),
        ("<hyperv><spinlocks state='on' retries='8191'/></hyperv>", "hv-spinlocks=0x1fff"),
        ("<hyperv><vendor_id state='on' value='KVM Hv'/></hyperv>", "hv-vendor-id=KVM Hv"),
        ("<hyperv><stimer state='on'><direct state='on'/></stimer></hyperv>", "hv-stimer-direct=on"),  # noqa: E501
        ("<hyperv><tlbflush state='on'><extended state='on'/></tlbflush></hyperv>", "hv-tlbflush-ext=on"),  # noqa: E501
        ("<hyperv><emsr_bitmap state='on'/></hyperv>", "hv-emsr-bitmap=on"),
    ],
)  # fmt: skip
def test_processor(features: str, word: str) -> None:
    """What the hypervisor offers to the guest is a property of the processor."""
    context = context_of(f"<features>{features}</features>", accelerator=KVM)

    assert word in words(context, "-cpu")
    assert of_kind(context, Remark) == []


def test_how_windows_tells_of_a_crash() -> None:
    """The panic device of Hyper-V is a property of the processor."""
    context = context_of(devices="<panic model='hyperv'/>", accelerator=KVM)

    assert "hv-crash=on" in words(context, "-cpu")


def test_tcg_says_that_it_does_not_offer_it() -> None:
    """Under TCG the user is told that such a feature has no effect."""
    context = context_of("<features><hyperv><relaxed state='on'/></hyperv></features>")

    assert [remark.key for remark in of_kind(context, Remark)] == ["features.hyperv"]


def test_dirty_ring() -> None:
    """The ring of dirty pages is KVM's."""
    features = "<features><kvm><dirty-ring state='on' size='4096'/></kvm></features>"

    assert ["kvm,dirty-ring-size=4096"] == values(context_of(features, accelerator=KVM), "-accel")


def test_cache_of_translated_code() -> None:
    """The cache of translated code is TCG's."""
    features = "<features><tcg><tb-cache unit='MiB'>128</tb-cache></tcg></features>"

    assert ["tcg,tb-size=128"] == values(context_of(features), "-accel")
    refusal = refusal_of(all_parts, context_of(features, accelerator=KVM))
    assert refusal.element == "features.tcg-cache"


def test_memory_for_system_management_mode() -> None:
    """The size of that memory goes to the memory controller of q35, in MiB."""
    features = "<features><smm state='on'><tseg unit='MiB'>48</tseg></smm></features>"

    assert ["mch.extended-tseg-mbytes=48"] == values(context_of(features), "-global")
    assert refusal_of(all_parts, context_of(features, machine="pc")).element == "features.tseg"


@pytest.mark.parametrize(
    ("smm", "word"),
    [("<smm/>", "smm=on"), ("<smm state='off'/>", "smm=off"), ("", None)],
)
def test_system_management_mode(smm: str, word: str | None) -> None:
    """The element alone turns it on, as in libvirt; without it, QEMU decides."""
    (machine,) = values(context_of(f"<features>{smm}</features>"), "-machine")

    assert [word] * bool(word) == [one for one in (machine or "").split(",") if "smm" in one]


def test_details_turn_their_switch_on() -> None:
    """In TOML a number of retries, an id or a size says that what it is about is wanted."""
    toml = (
        'name = "x"\nmemory = "64 MiB"\n[features]\ntseg = "8 MiB"\n[features.hyperv]\n'
        'spinlock-retries = 8191\nvendor-id = "x"\n[features.kvm]\ndirty-ring-size = 4096\n'
    )
    features = read_bytes(toml.encode(), Path("/vm.toml")).machine.features

    assert features.hyperv
    assert features.kvm
    assert (True, True) == (features.hyperv.spinlocks, features.hyperv.vendor)
    assert (True, True) == (features.smm, features.kvm.dirty_ring)


def test_single_features_beside_passthrough() -> None:
    """Libvirt reads none of them then, and they are passed over here as well."""
    inner = "<hyperv mode='passthrough'><relaxed state='off'/><spinlocks/><later/></hyperv>"
    context = context_of(f"<features>{inner}</features>", accelerator=KVM)

    assert "hv-passthrough=on" in words(context, "-cpu")
    assert not [word for word in words(context, "-cpu") if "relaxed" in word]


@pytest.mark.parametrize("inner", ["<ps2/>", "<hyperv><relaxed/></hyperv>", "<kvm><hidden/></kvm>"])
def test_switch_without_a_state(inner: str) -> None:
    """Where libvirt demands the word, a document without it is wrong and not without effect."""
    raw = f"<domain type='kvm'><name>x</name><features>{inner}</features></domain>"

    with pytest.raises(BadInput, match="/@state' is missing"):
        read_bytes(raw.encode(), Path("/vm.xml"))


def test_note_of_a_crash() -> None:
    """The note for who analyses a dump is a device."""
    found = of_kind(context_of("<features><vmcoreinfo/></features>"), Device)

    assert [device.driver for device in found] == ["vmcoreinfo"]


@pytest.mark.parametrize(("machine", "driver"), [("q35", "ICH9-LPC"), ("pc", "PIIX4_PM")])
def test_power(machine: str, driver: str) -> None:
    """Whether the guest may suspend is said to the chipset."""
    pm = "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>"

    found = values(context_of(pm, machine=machine), "-global")

    assert [f"{driver}.disable_s3=1", f"{driver}.disable_s4=0"] == found


@pytest.mark.parametrize(
    ("top", "machine", "key"),
    [
        ("<features><vmport state='on'/></features>", "microvm", "features.vmport"),
        ("<features><gic version='3'/></features>", "q35", "features.gic"),
        (
            "<features><hyperv><spinlocks state='on'/></hyperv></features>",
            "q35",
            "features.hyperv.spinlocks",
        ),
        (
            "<features><hyperv><vendor_id state='on'/></hyperv></features>",
            "q35",
            "features.hyperv.vendor",
        ),
        (
            "<features><kvm><dirty-ring state='on'/></kvm></features>",
            "q35",
            "features.kvm.dirty-ring",
        ),
        ("<pm><suspend-to-mem enabled='no'/></pm>", "microvm", "suspend-to-memory"),
    ],
)
def test_refusals(top: str, machine: str, key: str) -> None:
    """What this machine does not have is refused, with its key."""
    assert refusal_of(all_parts, context_of(top, machine=machine)).element == key


@pytest.mark.parametrize(("word", "told"), [("yes", True), ("no", False)])
def test_teardown_beside(word: str, told: bool) -> None:  # noqa: FBT001
    """A VM that has ended is gone, memory and all: that it could be otherwise has no effect."""
    context = context_of(f"<features><async-teardown enabled='{word}'/></features>")
    keys = [remark.key for remark in of_kind(context, Remark)]

    assert told is ("features.async-teardown" in keys)
