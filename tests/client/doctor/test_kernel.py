# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about kernels, and about the tun driver."""

from pathlib import Path

import pytest

from bpferry.machine.doctor.kernel import (
    BTF,
    COMPILER,
    RELEASE,
    UNPRIVILEGED,
    check_kernel,
    check_version,
)
from bpferry.machine.doctor.modules import is_missing
from bpferry.machine.doctor.tun import check_tun
from bpferry.machine.doctor.tun_trial import NODE, Joined, try_to_join
from bpferry.machine.host_files import HostFiles
from tests import requires
from tests.client.doctor.support import host, named
from tests.support.people import ALICE, acting_as


@pytest.mark.parametrize(
    ("release", "state", "word"),
    [
        ("6.12.9-amd64", "ok", "Linux 6.12.9-amd64"),
        ("5.16.0", "ok", "Linux 5.16.0"),
        ("5.15.0-100-generic", "warning", "address-lock"),
        ("5.8.0", "warning", "address-lock"),
        ("5.7.19", "fault", "too old"),
        ("4.19.0-27-amd64", "fault", "the helpers need 5.8"),
        ("next", "warning", "is not known: 'next'"),
    ],
)
def test_a_kernel_is_judged_by_what_came_with_its_version(
    release: str, state: str, word: str
) -> None:
    """5.8 brought CAP_BPF, and 5.16 locked ports of bridges."""
    found = check_version(release)

    assert state == found.state
    assert word in found.message


@pytest.mark.parametrize(("files", "state"), [({BTF: "x"}, "ok"), ({}, "warning")])
def test_without_btf_the_policy_decides(tmp_path: Path, files: dict[str, str], state: str) -> None:
    """Both ways out are named: another kernel, or a line of the policy.

    The helper has the last word, so a host whose policy has that line is not said to be unable.
    """
    found = named(check_kernel(host(tmp_path, files)), "kernel.btf")

    assert state == found.state
    assert ("without-census = true" in found.fix) is (state == "warning")


@pytest.mark.parametrize(
    ("files", "state", "word"),
    [
        ({COMPILER: "1\n"}, "ok", "the kernel compiles"),
        ({COMPILER: "2\n"}, "ok", "the kernel compiles"),
        ({}, "ok", "cannot be seen"),
        ({COMPILER: "0\n"}, "warning", "more processor time"),
    ],
)
def test_programs_are_to_be_compiled(
    tmp_path: Path, files: dict[str, str], state: str, word: str
) -> None:
    """Where they are not, the warning says what that costs, and has the command that mends it."""
    found = named(check_kernel(host(tmp_path, files)), "kernel.jit")

    assert (state, True) == (found.state, word in found.message)
    assert ("bpf_jit_enable=1" in found.command) is (state == "warning")


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({UNPRIVILEGED: "2\n"}, "ok"),
        ({UNPRIVILEGED: "1\n"}, "ok"),
        ({}, "ok"),
        ({UNPRIVILEGED: "0\n"}, "warning"),
    ],
)
def test_ordinary_users_need_no_bpf(tmp_path: Path, files: dict[str, str], state: str) -> None:
    """That they have it is a warning with the command that ends it."""
    found = named(check_kernel(host(tmp_path, files)), "kernel.unprivileged-bpf")

    assert state == found.state
    assert ("sysctl" in found.command) is (state == "warning")


def test_without_tun_there_are_no_taps(tmp_path: Path) -> None:
    """Then nothing is tried either."""
    [found] = check_tun(host(tmp_path, {}), lambda: pytest.fail("tried"))

    assert ("fault", "sudo modprobe tun") == (found.state, found.command)


def modules(folder: Path, dep: str, builtin: str) -> HostFiles:
    """Return a host whose kernel has these lists of modules."""
    at = "/lib/modules/6.1.0"
    files = {f"{at}/modules.dep": dep, f"{at}/modules.builtin": builtin, RELEASE: "6.1.0\n"}
    return host(folder, files)


def test_a_kernel_without_tun_is_told_from_a_module_that_is_not_loaded(tmp_path: Path) -> None:
    """No command would load it."""
    files = modules(tmp_path, "kernel/net/bridge/bridge.ko:", "kernel/x.ko")
    [found] = check_tun(files, lambda: pytest.fail("tried"))

    assert (found.state, found.command) == ("fault", "")
    assert "this kernel has no tun driver" in found.message


@pytest.mark.parametrize(
    ("dep", "builtin", "missing"),
    [
        ("kernel/drivers/net/tun.ko.xz:", "kernel/x.ko", False),
        ("kernel/x.ko:", "kernel/drivers/net/tun.ko", False),
        ("kernel/x.ko:", "kernel/net/mytun.ko", True),
        ("", "kernel/x.ko", False),
    ],
)
def test_a_module_is_missing_if_both_lists_say_so(
    tmp_path: Path,
    dep: str,
    builtin: str,
    missing: bool,  # noqa: FBT001
) -> None:
    """Without lists, as in a container, that is not known."""
    assert missing is is_missing(modules(tmp_path, dep, builtin), "tun")


def test_a_module_that_is_loaded_is_not_missing(tmp_path: Path) -> None:
    """Whatever the lists say."""
    files = modules(tmp_path, "kernel/x.ko:", "kernel/y.ko")
    host(tmp_path, {"/sys/module/tun/": ""})

    assert not is_missing(files, "tun")


@pytest.mark.parametrize(
    ("joined", "state", "word"),
    [
        (Joined.NO, "ok", "no stranger can join"),
        (Joined.YES, "warning", "CVE-2026-99281"),
        (Joined.UNKNOWN, "warning", "could not be tried: you cannot make namespaces"),
        (Joined.CLOSED, "warning", f"could not be tried: you cannot open '{NODE}'"),
    ],
)
def test_taps_without_an_owner(tmp_path: Path, joined: Joined, state: str, word: str) -> None:
    """A hole is a warning that says that ours are not affected, and so is not knowing."""
    findings = list(check_tun(host(tmp_path, {NODE: ""}), lambda: joined))
    found = named(findings, "tun.strangers")

    assert named(findings, "tun.device").state == "ok"
    assert state == found.state
    assert word in found.message
    assert ("bpferry's own taps always have one" in found.message) is (state == "warning")


@pytest.mark.kernel
def test_the_attempt_agrees_with_what_a_stranger_can_do(
    open_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root and an ordinary user find the same, and the test of the helper's taps finds it too."""
    monkeypatch.setattr("bpferry.machine.doctor.tun_trial.NODE", open_device)
    as_root = try_to_join()
    with acting_as(ALICE):
        as_user = try_to_join()
    requires.joinable_taps(joined=as_root is Joined.YES)

    assert as_root is as_user


@pytest.mark.kernel
def test_whoever_may_not_open_the_device_cannot_try(
    open_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose device is root's alone. That is not said to be about namespaces."""
    monkeypatch.setattr("bpferry.machine.doctor.tun_trial.NODE", open_device)
    Path(open_device).chmod(0o600)
    with acting_as(ALICE):
        assert try_to_join() is Joined.CLOSED


@pytest.mark.kernel
def test_an_attempt_that_breaks_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot make a tap says that it is not known, and is gone."""
    monkeypatch.setattr("bpferry.machine.doctor.tun_trial.NODE", "/dev/null")

    assert try_to_join() is Joined.UNKNOWN
