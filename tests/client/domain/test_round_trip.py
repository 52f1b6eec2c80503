# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read, written and read again is the same VM, in either form and from one to the other."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings

from bpferry.domain.document import read_bytes, to_toml, to_xml
from bpferry.domain.model.machine import Machine
from tests.client.domain.machines import machines

FEW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def read(text: str, name: str) -> Machine:
    """Return the VM of *text*."""
    return read_bytes(text.encode(), Path("/") / name).machine


@FEW
@given(machines())
def test_a_vm_is_the_same_after_a_way_through_xml(machine: Machine) -> None:
    """Whatever the model can hold, a domain document can say."""
    written = to_xml(machine)

    assert machine == read(written, "vm.xml")


@FEW
@given(machines())
def test_a_vm_is_the_same_after_a_way_through_toml(machine: Machine) -> None:
    """Whatever the model can hold, a native description can say."""
    written = to_toml(machine)

    assert machine == read(written, "vm.toml")
