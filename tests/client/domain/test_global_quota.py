# SPDX-License-Identifier: LGPL-2.1-or-later
"""Quotas of each processor are refused with the one of all together that is as much."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import Unsupported


def hints_of(inner: str) -> list[str]:
    """Return the hints about a document of three processors with *inner*."""
    text = f"<domain type='kvm'><name>a</name><memory>65536</memory><vcpu>3</vcpu>{inner}</domain>"
    with pytest.raises(Unsupported) as caught:
        read_bytes(text.encode(), Path("/vms/my vm.xml"))
    return [one.hint for one in (caught.value, *caught.value.others)]


@pytest.mark.parametrize(
    ("tuning", "written"),
    [
        ("<quota>50000</quota>", "<global_quota>150000</global_quota>"),
        (
            "<period>20000</period><quota>1002</quota>",
            "<global_period>20000</global_period><global_quota>3006</global_quota>",
        ),
    ],
)
def test_hint_has_the_values_of_the_document(tuning: str, written: str) -> None:
    """Each of the three processors has the quota for itself."""
    for hint in hints_of(f"<cputune>{tuning}</cputune>"):
        assert hint.endswith(f"for all vCPUs together: {written}")


@pytest.mark.parametrize("tuning", ["<quota>-1</quota>", "<period>1000</period>"])
def test_limit_that_is_none_is_to_be_removed(tuning: str) -> None:
    """A negative quota is not a limit, and a period alone neither."""
    assert ["remove it: it limits nothing"] == hints_of(f"<cputune>{tuning}</cputune>")


def test_quota_of_some_threads_can_only_be_one_of_all() -> None:
    """A unit of systemd cannot tell them apart."""
    (hint,) = hints_of("<cputune><emulator_quota>50000</emulator_quota></cputune>")

    assert "limit QEMU as a whole with <global_quota>" in hint
