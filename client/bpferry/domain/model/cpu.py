# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors: which kind they are, and how they are arranged."""

from typing import Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
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

    name: Placed[Name, At("@name")]
    policy: Placed[
        Literal["force", "require", "optional", "disable", "forbid"],
        At("@policy", always=True),
    ] = "require"


class PhysicalBits(Table, frozen=True, kw_only=True):
    """How many bits a physical address of the guest has."""

    mode: Placed[Literal["passthrough", "emulate"], At("@mode")]
    bits: Placed[Annotated[int, msgspec.Meta(ge=32, le=64)] | None, At("@bits")] = None
    limit: Placed[Annotated[int, msgspec.Meta(ge=1, le=64)] | None, At("@limit")] = None


class CpuCache(Table, frozen=True, kw_only=True):
    """What the guest is told about the caches."""

    mode: Placed[Literal["emulate", "passthrough", "disable"], At("@mode")]
    level: Placed[Literal[3, None], At("@level")] = None


class Cpu(Table, frozen=True, kw_only=True):
    """The kind of processor, and how processors are arranged."""

    mode: Placed[
        Literal["default", "custom", "host-model", "host-passthrough", "maximum"],
        At("@mode", absent="default", instead="maximum"),
    ] = "maximum"
    """``default`` is QEMU's own choice for the machine type. A document that names a model alone
    means ``custom``."""
    model: Placed[Name | None, At("model")] = None
    match: Placed[Literal["exact", "strict"], At("@match")] = "exact"
    """Both mean the named model; there is no list of models here to compare hosts with."""
    check: Placed[Literal["none", "partial", "full", None], At("@check")] = None
    """With ``full``, QEMU does not start if the host lacks a feature."""
    migratable: Placed[bool | None, At("@migratable", Form.ON_OFF)] = None
    """If false, the guest also sees features of this host that cannot migrate."""
    fallback: Placed[Literal["allow", "forbid"], At("model/@fallback")] = "allow"
    """It has no effect: a model that this QEMU does not know is never replaced by another."""
    vendor_id: Placed[
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
    vendor: Placed[Literal["Intel", "AMD", "Hygon", None], At("vendor")] = None
    features: Placed[tuple[CpuFeature, ...], At("feature")] = ()
    sockets: Placed[Count | None, At("topology/@sockets")] = None
    dies: Placed[Count, At("topology/@dies")] = 1
    clusters: Placed[Count, At("topology/@clusters")] = 1
    cores: Placed[Count | None, At("topology/@cores")] = None
    threads: Placed[Count | None, At("topology/@threads")] = None
    cache: Placed[CpuCache | None, At("cache")] = None
    physical_bits: Placed[PhysicalBits | None, At("maxphysaddr")] = None
    numa: Placed[tuple[NumaCell, ...], At("numa/cell")] = ()
    latencies: Placed[tuple[Latency, ...], At("numa/interconnects/latency")] = ()
    bandwidths: Placed[tuple[Bandwidth, ...], At("numa/interconnects/bandwidth")] = ()


class Vcpu(Table, frozen=True, kw_only=True):
    """One single processor."""

    id: Placed[Annotated[int, msgspec.Meta(ge=0, lt=MAX_VCPUS)], At("@id")]
    enabled: Placed[bool, At("@enabled", Form.YES_NO, always=True)] = True
    hotpluggable: Placed[bool | None, At("@hotpluggable", Form.YES_NO)] = None
    order: Placed[int | None, At("@order")] = None
    """For hotpluggable processors: the order in which the guest finds them."""
