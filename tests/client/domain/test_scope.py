# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits that take a control group are refused with the command that has their values."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import Unsupported

SCOPE = "systemd-run --user --scope"


def hints_of(inner: str) -> list[str]:
    """Return the hints about a document of three processors with *inner*."""
    text = f"<domain type='kvm'><name>a</name><memory>65536</memory><vcpu>3</vcpu>{inner}</domain>"
    with pytest.raises(Unsupported) as caught:
        read_bytes(text.encode(), Path("/vms/my vm.xml"))
    return [one.hint for one in (caught.value, *caught.value.others)]


@pytest.mark.parametrize(
    ("tuning", "properties"),
    [
        ("<shares>2048</shares>", "-p CPUWeight=2048"),
        ("<shares>262144</shares>", "-p CPUWeight=10000"),
        ("<quota>50000</quota>", "-p CPUQuota=150%"),
        (
            "<period>20000</period><quota>1002</quota>",
            "-p CPUQuota=15.03% -p CPUQuotaPeriodSec=20000us",
        ),
        ("<global_quota>125000</global_quota>", "-p CPUQuota=125%"),
        (
            "<global_period>50000</global_period><global_quota>25000</global_quota>",
            "-p CPUQuota=50% -p CPUQuotaPeriodSec=50000us",
        ),
    ],
)
def test_command_has_the_values_of_the_document(tuning: str, properties: str) -> None:
    """A quota is for each processor, a global one for all together."""
    for hint in hints_of(f"<cputune>{tuning}</cputune>"):
        assert hint.endswith(
            f"start the VM with: {SCOPE} {properties} bpferry run '/vms/my vm.xml'"
        )


def test_command_has_all_of_them() -> None:
    """Whichever is refused, one command does it all."""
    hints = hints_of(
        "<cputune><shares>512</shares><quota>100000</quota></cputune><blkiotune><weight>300"
        "</weight><device><path>/dev/sda</path><weight>90</weight><read_bytes_sec>1000000"
        "</read_bytes_sec></device></blkiotune>"
    )

    assert 3 == len(hints)
    for hint in hints:
        assert hint.endswith(
            f"{SCOPE} -p CPUWeight=512 -p CPUQuota=300% -p IOWeight=300 "
            "-p 'IODeviceWeight=/dev/sda 90' -p 'IOReadBandwidthMax=/dev/sda 1000000' "
            "bpferry run '/vms/my vm.xml'"
        )


@pytest.mark.parametrize("tuning", ["<quota>-1</quota>", "<period>1000</period>"])
def test_limit_that_is_none_is_to_be_removed(tuning: str) -> None:
    """A negative quota is not a limit, and a period alone neither."""
    assert ["remove it: it limits nothing"] == hints_of(f"<cputune>{tuning}</cputune>")


def test_quota_of_some_threads_has_no_command() -> None:
    """A unit of systemd cannot tell them apart."""
    (hint,) = hints_of("<cputune><emulator_quota>50000</emulator_quota></cputune>")

    assert "a scope of systemd limits QEMU as a whole" in hint
