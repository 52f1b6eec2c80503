# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about security modules."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bpferry.machine.doctor.finding import Finding
from bpferry.machine.doctor.security import (
    APPARMOR,
    APPARMOR_LABEL,
    LABEL,
    MODULES,
    NAMESPACES,
    NAMESPACES_OF_APPARMOR,
    SELINUX,
    check_security,
    read_log,
)
from tests.client.doctor.support import host, named

DENIED = (
    '5,1,2,-;audit: type=1400 apparmor="DENIED" operation="open" profile="x" name="/dev/vhost-net" '
    'comm="qemu-system-x86"\n SUBSYSTEM=x\n'
)
OTHERS = '5,1,2,-;audit: type=1400 apparmor="DENIED" operation="open" comm="cups"\n'
AVC = "5,1,3,-;audit: type=1400 avc:  denied  { open } comm=qemu-system-x86\n"


def found_in(
    folder: Path, name: str, files: dict[str, str], log: Sequence[str] | None = ()
) -> Finding:
    """Return the finding *name* about a host with *files* and a *log*."""
    return named(check_security(host(folder, files), lambda: log), name)


def test_a_host_without_modules_denies_nothing(tmp_path: Path) -> None:
    """The kernel's list is shown if there is one; nothing is looked for in the log."""
    files = host(tmp_path, {MODULES: "lockdown,capability,bpf"})
    found = named(check_security(files, lambda: pytest.fail("looked")), "security.modules")

    assert found.state == "ok"
    assert "(lockdown,capability,bpf)" in found.message


@pytest.mark.parametrize(
    ("label", "state", "word"),
    [
        ("unconfined\n", "ok", "does not confine"),
        ("firefox (complain)\n", "ok", "only watches this process ('firefox')"),
        ("snap.term (enforce)\n", "warning", "profile 'snap.term'"),
    ],
)
def test_apparmor_may_confine_what_starts_qemu(
    tmp_path: Path, label: str, state: str, word: str
) -> None:
    """A profile that is enforced is QEMU's as well."""
    found = found_in(tmp_path, "security.apparmor", {APPARMOR: "Y\n", APPARMOR_LABEL: label})

    assert state == found.state
    assert word in found.message


@pytest.mark.parametrize(
    ("enforcing", "context", "state", "word"),
    [
        ("0", "user_u:user_r:user_t:s0", "ok", "permissive"),
        ("1", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0", "ok", "not confine"),
        ("1", "user_u:user_r:user_t:s0\0", "warning", "context 'user_u:user_r:user_t:s0'"),
    ],
)
def test_selinux_may_confine_what_starts_qemu(
    tmp_path: Path, enforcing: str, context: str, state: str, word: str
) -> None:
    """A user of another type than unconfined_t may be denied something."""
    found = found_in(tmp_path, "security.selinux", {SELINUX: enforcing, LABEL: context})

    assert state == found.state
    assert word in found.message


@pytest.mark.parametrize(
    ("log", "state", "word"),
    [
        (None, "ok", "only root can see"),
        ([], "ok", "nothing that was denied"),
        ([OTHERS], "ok", "nothing that was denied"),
        ([DENIED, OTHERS], "warning", "once since the host started"),
        ([DENIED, AVC], "warning", "2 times since the host started"),
    ],
)
def test_what_was_denied_to_a_vm_is_told(
    tmp_path: Path, log: Sequence[str] | None, state: str, word: str
) -> None:
    """And not what was denied to others."""
    found = found_in(tmp_path, "security.denials", {APPARMOR: "Y"}, log)

    assert state == found.state
    assert word in found.message


def test_what_was_denied_last_is_quoted(tmp_path: Path) -> None:
    """Its first line, which has the name of the file."""
    found = found_in(tmp_path, "security.denials", {APPARMOR: "Y"}, [AVC, DENIED])

    assert 'name="/dev/vhost-net" comm="qemu-system-x86"' in found.message
    assert "SUBSYSTEM" not in found.message


@pytest.mark.parametrize(
    ("files", "state", "command"),
    [
        ({NAMESPACES: "96365"}, "ok", ""),
        ({}, "ok", ""),
        ({NAMESPACES: "0"}, "warning", "sudo sysctl user.max_user_namespaces=10000"),
        (
            {NAMESPACES: "96365", NAMESPACES_OF_APPARMOR: "1"},
            "warning",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_passt_and_virtiofsd_need_user_namespaces(
    tmp_path: Path, files: dict[str, str], state: str, command: str
) -> None:
    """They lock themselves into one."""
    found = found_in(tmp_path, "security.user-namespaces", files)

    assert (state, command) == (found.state, found.command)


def test_a_log_that_is_closed_is_not_read(tmp_path: Path) -> None:
    """Nor one that is not there."""
    assert read_log(str(tmp_path / "kmsg")) is None


@pytest.mark.privileged
def test_the_kernels_log_is_read_to_its_end_and_no_further() -> None:
    """It has records, and reading does not wait for the next one."""
    records = read_log()

    assert records is not None
    assert all(";" in record for record in records)
