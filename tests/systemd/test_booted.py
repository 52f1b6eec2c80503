# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed helper under a systemd that is PID 1, asked by ordinary users."""

import json
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.container import CLONE, Container
from tests.systemd.helper_unit import POLICY, PYTHON, REFUSED, HelperUnit

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

SERVICE: Final = "bpferry-bpf.service"

MARGIN_S: Final = 3.0
"""How much longer than systemd counts starts a test goes on with them."""

REFUSED_HERE: Final = REFUSED | {
    "socket AF_NETLINK": {"EAFNOSUPPORT"},
    "open /dev/net/tun": {"ENOENT"},
}
"""What the sandbox refuses, and with which error."""

ALLOWED: Final = ("memfd_create", "socket AF_UNIX", "run Python")


@pytest.fixture
def unit(installed_system: Container) -> Iterator[HelperUnit]:
    """Return a helper that does not run yet, without a policy file."""
    unit = HelperUnit(installed_system, "bpf")
    unit.reset()
    yield unit
    unit.reset()


@pytest.fixture
def system(unit: HelperUnit) -> Container:
    """Return the system in which that helper does not run yet."""
    return unit.system


@pytest.fixture(scope="module")
def attempts(installed_system: Container) -> dict[str, str]:
    """Return what came of each forbidden thing, tried in the service's own sandbox."""
    return HelperUnit(installed_system, "bpf").probe(sandboxed=True)


@pytest.fixture(scope="module")
def free_attempts(installed_system: Container) -> dict[str, str]:
    """Return what came of the same attempts by a service without a sandbox: the control."""
    return HelperUnit(installed_system, "bpf").probe(sandboxed=False)


def ask(system: Container, op: str, user: str = "alice") -> dict[str, str | int]:
    """Let *user* ask the helper, and return the answer."""
    printed = system.check(PYTHON, f"{CLONE}/tests/systemd/ask.py", op, user=user)
    answer: dict[str, str | int] = json.loads(printed)
    return answer


def test_nothing_runs_before_somebody_connects(system: Container) -> None:
    """After the installation systemd listens, and no helper runs."""
    states = [system.show(unit, "ActiveState") for unit in ("bpferry-bpf.socket", SERVICE)]

    assert ["active", "inactive"] == states


def test_first_connection_starts_the_helper(system: Container) -> None:
    """Somebody who connects is answered, by a helper that runs from then on."""
    answer = ask(system, "hello")

    assert ("HelloReply", "active") == (answer["reply"], system.show(SERVICE, "ActiveState"))


def test_user_in_the_group_gets_the_program_and_its_maps(system: Container) -> None:
    """An ordinary user of the group bpferry receives four fds."""
    answer = ask(system, "load")

    assert ("LoadReply", 4) == (answer["reply"], answer["fds"])


def test_user_outside_the_group_cannot_connect(system: Container) -> None:
    """For everybody else the socket's own mode ends it."""
    assert {"refused": "PermissionError"} == ask(system, "hello", user="bob")


def test_member_of_kvm_cannot_connect(system: Container) -> None:
    """The group of libvirt's QEMU processes is not the one of the helpers."""
    assert "kvm" in system.check("id", "-nG", "dave").split()
    assert {"refused": "PermissionError"} == ask(system, "hello", user="dave")


@pytest.mark.parametrize("question", [(), ("--bridge", "br0"), ("--ebpf",)])
def test_user_outside_the_group_is_told_which(system: Container, question: tuple[str, ...]) -> None:
    """Whatever is asked, bpferry can-i names the group of the socket and the way into it."""
    said = system.run("bpferry", "can-i", *question, user="dave")

    reason = "only members of the group 'bpferry' may use it (root:bpferry, mode 0660)"
    assert reason in said.stdout
    assert "sudo usermod -aG bpferry dave" in said.stdout


def test_idle_helper_ends(system: Container) -> None:
    """A helper with nothing to do for as long as the policy says ends by itself, without error."""
    system.write(POLICY, "[service]\nidle-exit-seconds = 1\n")
    ask(system, "hello")
    system.wait_for_state(SERVICE, "inactive")

    assert "success" == system.show(SERVICE, "Result")


def test_client_after_an_idle_exit_is_served(system: Container) -> None:
    """Who connects after the helper ended by itself starts it again."""
    system.write(POLICY, "[service]\nidle-exit-seconds = 1\n")
    ask(system, "hello")
    system.wait_for_state(SERVICE, "inactive")

    assert 4 == ask(system, "load")["fds"]


def test_helper_stays_while_it_is_not_idle_for_long(unit: HelperUnit) -> None:
    """Without a policy file, some seconds of silence do not end the helper."""
    ask(unit.system, "hello")
    before = unit.main_pid()
    unit.system.check("sleep", "3")

    assert before == unit.main_pid()


def test_idle_exits_never_lead_to_a_limit(unit: HelperUnit) -> None:
    """Policy lets it exit after a second, and a user asks as soon as it has."""
    system = unit.system
    system.write(POLICY, "[service]\nidle-exit-seconds = 1\n")
    ends = time.monotonic() + unit.cut_start_limit().interval_s + MARGIN_S
    while time.monotonic() < ends:
        assert ask(system, "hello")["reply"] == "HelloReply"
        system.wait_for_state(SERVICE, "inactive")

    assert system.show("bpferry-bpf.socket", "ActiveState") == "active"


def test_a_helper_that_cannot_start_ends_in_a_state_that_is_seen(unit: HelperUnit) -> None:
    """While a client waits, it is tried some times; then service and socket are "failed".

    The control is test_crashes: crashes never lead there. Afterwards an administrator starts it.
    """
    system = unit.system
    unit.fail_to_start()
    waiting = ("timeout", "60", PYTHON, f"{CLONE}/tests/systemd/ask.py", "hello")
    with system.running(*waiting, user="alice"):
        system.wait_for_state(unit.socket, "failed", 60)
    states = [(system.show(u, "ActiveState")) for u in (unit.service, unit.socket)]
    result = system.show(unit.socket, "Result")
    unit.reset()

    assert (states, result) == (["failed", "failed"], "service-start-limit-hit")
    assert ask(system, "load")["fds"] == 4


@pytest.mark.parametrize("attempt", REFUSED_HERE)
def test_sandbox_refuses(attempt: str, attempts: dict[str, str]) -> None:
    """Code that runs in the helper's place cannot do what the helper never does."""
    assert attempts[attempt] in REFUSED_HERE[attempt]


@pytest.mark.parametrize("attempt", ALLOWED)
def test_sandbox_allows(attempt: str, attempts: dict[str, str]) -> None:
    """What libbpf and the helper do need is allowed."""
    assert "allowed" == attempts[attempt]


@pytest.mark.parametrize("attempt", REFUSED_HERE)
def test_attempt_succeeds_without_the_sandbox(attempt: str, free_attempts: dict[str, str]) -> None:
    """The control: nothing but the sandbox refuses these attempts."""
    assert "allowed" == free_attempts[attempt]


def test_no_system_call_of_the_helper_is_refused(unit: HelperUnit) -> None:
    """The helper does its work also where a forbidden system call would kill it."""
    unit.kill_at_forbidden_calls()
    answers = [ask(unit.system, op)["reply"] for op in ("hello", "load")]
    before = unit.main_pid()
    ask(unit.system, "hello")

    assert (["HelloReply", "LoadReply"], before) == (answers, unit.main_pid())


def test_forbidden_system_call_would_kill(unit: HelperUnit) -> None:
    """The control for the test above: with that setting, the first forbidden call is the last."""
    assert unit.probe_to_death() in {"signal", "core-dump"}


@pytest.mark.parametrize("field", ["CapEff", "CapPrm", "CapBnd"])
def test_helper_holds_two_capabilities(field: str, unit: HelperUnit) -> None:
    """The running helper holds, and can ever hold, exactly the capabilities of its role."""
    ask(unit.system, "hello")

    assert unit.capability_mask() == int(unit.process_status(field), 16)


@pytest.mark.parametrize(("field", "expected"), [("NoNewPrivs", "1"), ("Seccomp", "2")])
def test_helper_is_confined(field: str, expected: str, unit: HelperUnit) -> None:
    """The running helper can gain nothing by execve, and has a system call filter."""
    ask(unit.system, "hello")

    assert expected == unit.process_status(field)


def test_helper_is_not_a_user_of_the_system(unit: HelperUnit) -> None:
    """The running helper has a uid from the range of dynamic users."""
    ask(unit.system, "hello")
    uid = int(unit.process_status("Uid").split()[0])

    assert 61184 <= uid <= 65519


def test_state_folder_is_the_helpers_alone(unit: HelperUnit) -> None:
    """Only the dynamic user may look into the state folder."""
    ask(unit.system, "load")
    uid = unit.process_status("Uid").split()[0]

    assert f"700 {uid}" == unit.system.check("stat", "-Lc", "%a %u", "/var/lib/bpferry-bpf")


def test_nothing_in_the_state_folder_can_be_run(unit: HelperUnit) -> None:
    """It is the one place where what the helper writes stays."""
    ask(unit.system, "hello")
    mounts = unit.system.check("cat", f"/proc/{unit.main_pid()}/mountinfo").splitlines()
    folder = "/var/lib/private/bpferry-bpf"
    [options] = [words[5] for words in map(str.split, mounts) if words[4] == folder]

    assert "noexec" in options.split(",")


def test_state_survives_a_restart(unit: HelperUnit) -> None:
    """A helper that was killed still knows what it had granted before."""
    stored = ("sh", "-c", "cat /var/lib/bpferry-bpf/object-* | sha256sum")
    ask(unit.system, "load")
    before = unit.system.check(*stored)
    unit.kill()
    ask(unit.system, "load")

    assert before == unit.system.check(*stored)


def test_policy_refuses_a_member_of_the_group(system: Container) -> None:
    """Who is in the group but not in the policy is refused, with the line that decides."""
    system.write(POLICY, '[load]\nusers = ["alice"]\n')
    answer = ask(system, "load", user="carol")

    assert ("ErrorReply", True) == (answer["reply"], f"{POLICY}:2" in str(answer["text"]))


def test_policy_allows_who_it_names(system: Container) -> None:
    """Who the policy names gets the fds."""
    system.write(POLICY, '[load]\nusers = ["alice"]\n')

    assert 4 == ask(system, "load")["fds"]


def test_broken_policy_grants_nothing(system: Container) -> None:
    """With a mistake in the policy, nobody gets anything."""
    system.write(POLICY, '[load]\nusers = ["alice"]\nusres = ["carol"]\n')
    answer = ask(system, "load")

    assert ("ErrorReply", 0) == (answer["reply"], answer["fds"])


def test_administrator_can_check_the_policy(system: Container) -> None:
    """The installed command says in which line of the policy the mistake is."""
    system.write(POLICY, '[load]\nusers = ["alice"]\nusres = ["carol"]\n')
    done = system.run("bpferry-helper", "check-policy")

    assert (1, True) == (done.returncode, f"{POLICY}:3" in done.stdout + done.stderr)


def test_installed_client_starts(system: Container) -> None:
    """An ordinary user finds the command on the path, and it runs."""
    done = system.run("bpferry", "--version", user="bob")

    assert (0, "") == (done.returncode, done.stderr)


def test_a_new_users_first_vm_is_steered_by_ebpf(system: Container) -> None:
    """A member of bpferry starts a VM that demands eBPF; root sees the grant, and that it goes."""
    command = ("/usr/bin/python3", "-B", f"{CLONE}/tests/systemd/first_vm.py", "alice")

    seen = json.loads(system.check(*command, timeout=60))

    assert "rss" in seen["meanwhile"], seen
    assert "no set is alive" in seen["after"]
    (nic,) = json.loads(seen["run"])["nics"]
    assert ("ebpf", 4) == (nic["steering"], nic["queues"])
