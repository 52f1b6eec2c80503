# SPDX-License-Identifier: LGPL-2.1-or-later
"""Variables of a native description: what they become, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from bpferry.domain.document import read_bytes, read_devices
from bpferry.domain.model.machine import Machine
from bpferry.domain.variables import Given, expand_name
from bpferry.errors import BadInput

LIST = 'variables = ["task", "disk"]\n'
HEAD = f'{LIST}name = "web"\nmemory = "64 MiB"\n'

IN_JOB = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_JOB_ID": "40", "SLURM_JOB_ID": "47"}


def machine_of(lines: str, head: str = HEAD, **values: str) -> Machine:
    """Return the VM of a description in which *values* are set."""
    return read_bytes(
        f"{head}{lines}\n".encode(), Path("/vms/vm.toml"), Given(None, values)
    ).machine


def faults_of(lines: str, head: str = HEAD, **values: str) -> list[str]:
    """Return what is wrong with a description in which *values* are set."""
    with pytest.raises(BadInput) as caught:
        machine_of(lines, head, **values)
    return [fault.message for fault in (caught.value, *caught.value.others)]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("${task}", "12"),
        ("vm-${task}-${disk}", "vm-12-a"),
        ("${task:02x}", "0c"),
        ("${task:04d}", "0012"),
        ("n${task:d}", "n12"),
        ("$${task}", "${task}"),
        ("$task, $$, {task}, 5 $", "$task, $$, {task}, 5 $"),
        ("$$${task}", "$${task}"),
    ],
)
def test_text_gets_values(text: str, title: str) -> None:
    """A reference in a text is replaced, and everything else stays."""
    assert title == machine_of(f"title = '{text}'", task="12", disk="a").title


def test_number_is_a_variable_alone() -> None:
    """A text that is one variable with ':d' is a number, as keys for numbers need it."""
    assert 12 == machine_of('vcpus = "${task:d}"', task="12").vcpus


def test_values_reach_lists_and_tables() -> None:
    """Everything in a description can have variables, and a path is relative to its folder."""
    lines = """
        qemu-arguments = ["-name", "${task}"]
        [[disks]]
        file = "a.qcow2"
        [[disks]]
        file = "${disk}"
        [[cards]]
        bridge = "br0"
        mac = "52:54:00:00:00:${task:02x}"
    """
    machine = machine_of(lines, task="200", disk="b.qcow2")

    assert "200" in machine.qemu_arguments
    assert ["/vms/a.qcow2", "/vms/b.qcow2"] == [disk.file for disk in machine.disks]
    assert "52:54:00:00:00:c8" == machine.cards[0].mac


@drawn(st.text(st.characters(exclude_categories=["C"])))
def test_value_stays_one_text(value: str) -> None:
    """Whatever a value has in it, it becomes part of one text and is not looked through again."""
    assert f"<{value}>" == machine_of('title = "<${task}>"', task=value).title


def test_without_the_list_nothing_is_replaced() -> None:
    """A description of before is read as before, whatever the environment has."""
    head = 'name = "web"\nmemory = "64 MiB"\n'

    assert "${task} $${x}" == machine_of('title = "${task} $${x}"', head).title


def test_environment_counts_after_what_is_set() -> None:
    """What is set goes before the environment, and only what is listed is looked up there."""
    given = Given(None, {"task": "1"}, {"task": "2", "disk": "d", "HOME": "/root"})
    raw = (HEAD + 'title = "${task} ${disk}"').encode()

    assert "1 d" == read_bytes(raw, Path("/vm.toml"), given).machine.title
    with pytest.raises(BadInput, match="'HOME' is not in the list 'variables'"):
        read_bytes((HEAD + 'title = "${HOME}"').encode(), Path("/vm.toml"), given)


def test_every_fault_is_told_with_its_line() -> None:
    """All references that cannot be filled are told at once."""
    assert [
        "'/vms/vm.toml':4: 'title': the variable 'task' has no value",
        "'/vms/vm.toml':5: 'description': the variable 'other' is not in the list 'variables'",
        "'/vms/vm.toml':7: 'disks[0].file': '${disk' is not a variable",
    ] == faults_of(
        'title = "${task}"\ndescription = "${other}"\n[[disks]]\nfile = "${disk"', disk="x"
    )


@pytest.mark.parametrize("text", ["${}", "${task:}", "${task:2x}", "${a b}", "${", "${task!r}"])
def test_other_words_in_braces_are_refused(text: str) -> None:
    """Nothing but a name and one of two forms is read."""
    assert "is not a variable" in faults_of(f'title = "{text}"', task="1")[0]


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", " 1", "1_0", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_number_is_digits(value: str) -> None:
    """Only a whole number can be written as one, and a value is not repeated in the message."""
    assert [
        "'/vms/vm.toml':4: 'title': the value of the variable 'task' is not a whole number"
    ] == faults_of('title = "${task:02x}"', task=value)


def test_number_fits_its_digits() -> None:
    """A number that would be longer than the place for it, as in an address, is refused."""
    assert [
        "'/vms/vm.toml':4: 'title': the value of the variable 'task' has more than 2 digits"
    ] == faults_of('title = "${task:02x}"', task="256")


@pytest.mark.parametrize("value", ['"task"', "5", '["a b"]', "[1]", '[""]', "{ task = 1 }"])
def test_list_has_names(value: str) -> None:
    """The list is one of names that a shell can set."""
    (fault,) = faults_of("", f"variables = {value}\n")

    assert fault.endswith("expected a list of names of variables")


def test_what_is_set_is_listed() -> None:
    """A value that nothing would use is refused: it is a slip of the pen."""
    assert ["cannot set 'tsak': '/vms/vm.toml':1: 'variables' does not list it"] == faults_of(
        "", tsak="1"
    )
    assert ["cannot set 'task': '/vms/vm.toml' has no variables"] == faults_of(
        'name = "web"\nmemory = "64 MiB"', "", task="1"
    )


def test_name_in_place_of_the_description_s() -> None:
    """A given name counts, and what the description calls the VM needs no value then."""
    for head in (LIST, LIST + 'name = "web-${task}"\n'):
        raw = (head + 'memory = "64 MiB"').encode()

        assert "b" == read_bytes(raw, Path("/vm.toml"), Given("b")).machine.name


def test_libvirt_document_has_a_name_but_no_variables() -> None:
    """A domain document gets another name; a value for it is refused, since it has no place."""
    raw = (
        b"<domain type='kvm'><name>a</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    )

    assert "b" == read_bytes(raw, Path("/vm.xml"), Given("b")).machine.name
    with pytest.raises(BadInput, match="is a libvirt document, which has no variables"):
        read_bytes(raw, Path("/vm.xml"), Given(None, {"task": "1"}))


def test_file_of_a_card_has_no_variables(tmp_path: Path) -> None:
    """What is plugged into a running VM is described in full."""
    path = tmp_path / "card.toml"
    path.write_text('variables = ["x"]\n[[cards]]\nbridge = "${x}"\n')

    with pytest.raises(BadInput, match="has 'variables'"):
        read_devices(path, "interface", "cards")


@pytest.mark.parametrize(
    ("text", "name"),
    [("web-%a", "web-7"), ("%A_%a", "40_7"), ("j%j", "j47"), ("50%%", "50%"), ("%%a", "%a")],
)
def test_placeholders_of_a_name(text: str, name: str) -> None:
    """A name has what sbatch puts into names of files."""
    assert name == expand_name(text, IN_JOB)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web-%q", "--name web-%q: there is no '%q'"),
        ("web-%", "--name web-%: there is no '%'"),
        ("a/%a", "--name a/%a: a VM cannot be called 'a/7'"),
        ("", "--name : a VM cannot be called ''"),
    ],
)
def test_name_that_is_none(text: str, message: str) -> None:
    """What cannot be a name is refused with what it became."""
    with pytest.raises(BadInput) as caught:
        expand_name(text, IN_JOB)

    assert message == caught.value.message


def test_placeholder_outside_a_job() -> None:
    """Outside Slurm, a placeholder is refused: all tasks would have one name."""
    with pytest.raises(BadInput, match="'%a' is the value of SLURM_ARRAY_TASK_ID") as caught:
        expand_name("web-%a", {})

    assert "sbatch --array" in caught.value.hint
