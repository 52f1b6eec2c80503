# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors: which kind they are, and how they are arranged."""

from typing import Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Table
from bpferry.domain.model.numa import Bandwidth, Latency, NumaCell

MAX_VCPUS: Final = 4096
"""Processors of one VM: more than any machine type of QEMU takes."""

Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_VCPUS)]

Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$",
        description="a name of letters, digits and _ . + -",
    ),
]
"""A model or a feature, which may be in a list with commas."""


class CpuFeature(Table, frozen=True, kw_only=True):
    """One feature of the processor, switched on or off."""

    name: Annotated[Name, At("@name")]
    policy: Annotated[
        Literal["force", "require", "optional", "disable", "forbid"],
        At("@policy", always=True),
    ] = "require"


class PhysicalBits(Table, frozen=True, kw_only=True):
    """How many bits a physical address of the guest has."""

    mode: Annotated[Literal["passthrough", "emulate"], At("@mode")]
    bits: Annotated[Annotated[int, msgspec.Meta(ge=32, le=64)] | None, At("@bits")] = None
    limit: Annotated[Annotated[int, msgspec.Meta(ge=1, le=64)] | None, At("@limit")] = None


class CpuCache(Table, frozen=True, kw_only=True):
    """What the guest is told about the caches."""

    mode: Annotated[Literal["emulate", "passthrough", "disable"], At("@mode")]
    level: Annotated[Literal[3] | None, At("@level")] = None


class Cpu(Table, frozen=True, kw_only=True):
    """The kind of processor, and how processors are arranged."""

    mode: Annotated[
        Literal["default", "custom", "host-model", "host-passthrough", "maximum"],
        At("@mode", absent="default", instead="maximum"),
    ] = "maximum"
    """``default`` is QEMU's own choice for the machine type. A document that names a model alone
    means ``custom``."""
    model: Annotated[Name | None, At("model")] = None
    match: Annotated[Literal["exact", "strict"], At("@match")] = "exact"
    """Both mean the named model; there is no list of models here to compare hosts with."""
    check: Annotated[Literal["none", "partial", "full"] | None, At("@check")] = None
    """With ``full``, QEMU does not start if the host lacks a feature."""
    migratable: Annotated[bool | None, At("@migratable", Form.ON_OFF)] = None
    """If false, the guest also sees features of this host that cannot migrate."""
    fallback: Annotated[Literal["allow", "forbid"], At("model/@fallback")] = "allow"
    """It has no effect: a model that this QEMU does not know is never replaced by another."""
    vendor_id: Annotated[
        Annotated[
            str,
            msgspec.Meta(
                pattern=r"^[\x20-\x2b\x2d-\x7e]{12}$",
                description="12 letters without a comma, such as GenuineIntel",
            ),
        ]
        | None,
        At("model/@vendor_id"),
    ] = None
    vendor: Annotated[Literal["Intel", "AMD", "Hygon"] | None, At("vendor")] = None
    features: Annotated[tuple[CpuFeature, ...], At("feature")] = ()
    sockets: Annotated[Count | None, At("topology/@sockets")] = None
    dies: Annotated[Count, At("topology/@dies")] = 1
    clusters: Annotated[Count, At("topology/@clusters")] = 1
    cores: Annotated[Count | None, At("topology/@cores")] = None
    threads: Annotated[Count | None, At("topology/@threads")] = None
    cache: Annotated[CpuCache | None, At("cache")] = None
    physical_bits: Annotated[PhysicalBits | None, At("maxphysaddr")] = None
    numa: Annotated[tuple[NumaCell, ...], At("numa/cell")] = ()
    latencies: Annotated[tuple[Latency, ...], At("numa/interconnects/latency")] = ()
    bandwidths: Annotated[tuple[Bandwidth, ...], At("numa/interconnects/bandwidth")] = ()


class Vcpu(Table, frozen=True, kw_only=True):
    """One single processor."""

    id: Annotated[Annotated[int, msgspec.Meta(ge=0, lt=MAX_VCPUS)], At("@id")]
    enabled: Annotated[bool, At("@enabled", Form.YES_NO, always=True)] = True
    hotpluggable: Annotated[bool | None, At("@hotpluggable", Form.YES_NO)] = None
    order: Annotated[int | None, At("@order")] = None
    """For hotpluggable processors: the order in which the guest finds them."""
