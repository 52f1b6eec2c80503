# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits of QEMU as a whole become properties of a unit of systemd."""

import pytest

from bpferry.commandline.parts import Limit, Remark
from bpferry.commandline.system import limits
from bpferry.errors import Mistaken, Unsupported
from tests.client.commandline.system_parts import all_parts, context_of
from tests.client.refusals import refusal_of


@pytest.mark.parametrize(
    ("tuning", "wanted"),
    [
        ("<cputune><shares>2048</shares></cputune>", ["CPUWeight=2048"]),
        ("<cputune><global_quota>125000</global_quota></cputune>", ["CPUQuota=125%"]),
        (
            "<cputune><global_period>20000</global_period><global_quota>3006</global_quota></cputune>",
            ["CPUQuota=15.03%", "CPUQuotaPeriodSec=20000us"],
        ),
        ("<cputune><global_quota>-1</global_quota></cputune>", []),
        ("<memtune><hard_limit>512000</hard_limit></memtune>", ["MemoryMax=512000K"]),
        ("<memtune><soft_limit unit='MiB'>2</soft_limit></memtune>", ["MemoryHigh=2048K"]),
        ("<memtune><soft_limit unit='bytes'>5001</soft_limit></memtune>", ["MemoryHigh=5001"]),
        ("<memtune><soft_limit>0</soft_limit></memtune>", []),
        ("<memtune><hard_limit>9007199254740991</hard_limit></memtune>", []),
        (
            (
                "<memtune><hard_limit>512000</hard_limit><swap_hard_limit>600000</swap_hard_limit>"
                "</memtune>"
            ),
            ["MemoryMax=512000K", "MemorySwapMax=88000K"],
        ),
        (
            (
                "<memtune><hard_limit>512000</hard_limit><swap_hard_limit>512000</swap_hard_limit>"
                "</memtune>"
            ),
            ["MemoryMax=512000K", "MemorySwapMax=0"],
        ),
        (
            (
                "<blkiotune><weight>300</weight><device><path>/dev/sda</path><weight>90</weight>"
                "<read_bytes_sec>1000000</read_bytes_sec><write_iops_sec>0</write_iops_sec></device>"
                "</blkiotune>"
            ),
            ["IOWeight=300", "IODeviceWeight=/dev/sda 90", "IOReadBandwidthMax=/dev/sda 1000000"],
        ),
    ],
)
def test_limits_are_properties_of_a_unit(tuning: str, wanted: list[str]) -> None:
    """Systemd counts swap alone, libvirt with the memory; what limits nothing is no property."""
    found = [part for part in limits.parts(context_of(tuning)) if isinstance(part, Limit)]

    assert wanted == [str(part) for part in found]


@pytest.mark.parametrize(
    ("tuning", "key", "kind"),
    [
        ("<cputune><shares>0</shares></cputune>", "cpu-tune.weight", Unsupported),
        ("<cputune><shares>10001</shares></cputune>", "cpu-tune.weight", Unsupported),
        (
            "<cputune><global_quota>999</global_quota></cputune>",
            "cpu-tune.global-quota",
            Mistaken,
        ),
        (
            "<cputune><global_period>999</global_period></cputune>",
            "cpu-tune.global-period",
            Mistaken,
        ),
        (
            "<memtune><swap_hard_limit>600000</swap_hard_limit></memtune>",
            "memory-limits.swap",
            Unsupported,
        ),
        (
            (
                "<memtune><hard_limit>512000</hard_limit><swap_hard_limit>511999</swap_hard_limit>"
                "</memtune>"
            ),
            "memory-limits.swap",
            Mistaken,
        ),
        (
            "<blkiotune><device><path>sda</path></device></blkiotune>",
            "io-tune.devices[0].path",
            Mistaken,
        ),
        (
            "<blkiotune><device><path>/dev/a b</path></device></blkiotune>",
            "io-tune.devices[0].path",
            Mistaken,
        ),
    ],
)
def test_what_systemd_would_not_take_is_refused(
    tuning: str, key: str, kind: type[Unsupported]
) -> None:
    """With its key, before anything is started."""
    refusal = refusal_of(all_parts, context_of(tuning))

    assert (key, kind) == (refusal.element, type(refusal))


@pytest.mark.parametrize(
    ("tuning", "key"),
    [
        ("<memtune><hard_limit unit='MiB'>64</hard_limit></memtune>", "memory-limits.hard"),
        ("<cputune><global_period>50000</global_period></cputune>", "cpu-tune.global-period"),
    ],
)
def test_limit_that_kills_qemu_or_does_nothing_is_told(tuning: str, key: str) -> None:
    """The guest has 64 MiB, and QEMU needs some memory too."""
    found = [part for part in limits.parts(context_of(tuning)) if isinstance(part, Remark)]

    assert [key] == [remark.key for remark in found]
