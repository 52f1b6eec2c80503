# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed helper under a systemd that is PID 1, asked by ordinary users."""

import json
import re
from collections.abc import Iterator
from typing import Final

import pytest

from bpferry_helper.privilege import CAPABILITIES, CAPABILITY_NUMBERS
from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.container import CLONE, Container
from tests.systemd.unit_file import UNITS, build_probe_unit

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

SERVICE: Final = "bpferry-bpf.service"
PYTHON: Final = "/usr/bin/python3"
POLICY: Final = "/etc/bpferry/policy.toml"
PROBE_OUTPUT: Final = "/run/bpferry-probe.json"
DROP_IN: Final = "/run/systemd/system/bpferry-bpf.service.d/test.conf"

CRASHES: Final = 50

REFUSED: Final = {
    "perf_event_open": {"EPERM"},
    "ptrace": {"EPERM"},
    "mount": {"EPERM"},
    "keyctl": {"EPERM"},
    "userfaultfd": {"EPERM"},
    "io_uring_setup": {"EPERM"},
    "unshare": {"EPERM"},
    "socket AF_INET": {"EAFNOSUPPORT"},
    "socket AF_NETLINK": {"EAFNOSUPPORT"},
    # systemd 252 filters mmap(2); 256 and newer ask the kernel (PR_SET_MDWE).
    "memory to write and execute": {"EPERM", "EACCES"},
    "write in /etc": {"EROFS"},
    "write in /var/lib": {"EROFS"},
    "write in /run": {"EACCES"},
}
"""What the sandbox refuses, and with which error."""

ALLOWED: Final = ("memfd_create", "socket AF_UNIX")


@pytest.fixture
def system(installed_system: Container) -> Iterator[Container]:
    """Return the system with a helper that does not run yet, and no policy file."""
    installed_system.check("systemctl", "stop", SERVICE)
    yield installed_system
    installed_system.check("rm", "-rf", POLICY, DROP_IN)
    installed_system.check("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def attempts(installed_system: Container) -> dict[str, str]:
    """Return what came of each forbidden thing, tried in the service's own sandbox."""
    return probe(installed_system, sandboxed=True)


@pytest.fixture(scope="module")
def free_attempts(installed_system: Container) -> dict[str, str]:
    """Return what came of the same attempts by a service without a sandbox: the control."""
    return probe(installed_system, sandboxed=False)


def probe(system: Container, *, sandboxed: bool) -> dict[str, str]:
    """Run the probe as a service and return what it printed."""
    command = f"{PYTHON} -I {CLONE}/tests/systemd/probe.py"
    unit = build_probe_unit(UNITS / SERVICE, command, PROBE_OUTPUT, sandboxed=sandboxed)
    system.write("/run/systemd/system/bpferry-probe.service", unit)
    system.check("systemctl", "daemon-reload")
    system.check("rm", "-f", PROBE_OUTPUT)
    system.check("systemctl", "start", "bpferry-probe.service")
    found: dict[str, str] = json.loads(system.check("cat", PROBE_OUTPUT))
    return found


def ask(system: Container, op: str, user: str = "alice") -> dict[str, str | int]:
    """Let *user* ask the helper, and return the answer."""
    printed = system.check(PYTHON, f"{CLONE}/tests/systemd/ask.py", op, user=user)
    answer: dict[str, str | int] = json.loads(printed)
    return answer


def main_pid(system: Container) -> str:
    """Return the helper's process, as the system inside counts."""
    return system.show(SERVICE, "MainPID")


def process_status(system: Container, field: str) -> str:
    """Return a field of the helper's status file, proc(5)."""
    status = system.check("cat", f"/proc/{main_pid(system)}/status")
    found = re.search(rf"^{field}:\s*(.+)$", status, re.MULTILINE)
    assert found is not None
    return found[1]


def test_nothing_runs_before_somebody_connects(system: Container) -> None:
    """After the installation systemd listens, and no helper runs."""
    states = [system.show(unit, "ActiveState") for unit in ("bpferry-bpf.socket", SERVICE)]

    assert ["active", "inactive"] == states


def test_first_connection_starts_the_helper(system: Container) -> None:
    """Somebody who connects is answered, by a helper that runs from then on."""
    answer = ask(system, "hello")

    assert ("HelloReply", "active") == (answer["reply"], system.show(SERVICE, "ActiveState"))


def test_user_in_the_group_gets_the_program_and_its_maps(system: Container) -> None:
    """An ordinary user of the group kvm receives four fds."""
    answer = ask(system, "load")

    assert ("LoadReply", 4) == (answer["reply"], answer["fds"])


def test_user_outside_the_group_cannot_connect(system: Container) -> None:
    """For everybody else the socket's own mode ends it."""
    assert {"refused": "PermissionError"} == ask(system, "hello", user="bob")


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


def test_helper_stays_while_it_is_not_idle_for_long(system: Container) -> None:
    """Without a policy file, some seconds of silence do not end the helper."""
    ask(system, "hello")
    before = main_pid(system)
    system.check("sleep", "3")

    assert before == main_pid(system)


def test_client_after_each_crash_is_served(system: Container) -> None:
    """However often the helper is killed, the next client gets its four fds."""
    served = 0
    for _ in range(CRASHES):
        ask(system, "hello")
        system.check("systemctl", "kill", "--signal=KILL", SERVICE)
        served += ask(system, "load")["fds"] == 4

    assert CRASHES == served


@pytest.mark.parametrize("attempt", REFUSED)
def test_sandbox_refuses(attempt: str, attempts: dict[str, str]) -> None:
    """Code that runs in the helper's place cannot do what the helper never does."""
    assert attempts[attempt] in REFUSED[attempt]


@pytest.mark.parametrize("attempt", ALLOWED)
def test_sandbox_allows(attempt: str, attempts: dict[str, str]) -> None:
    """What libbpf and the helper do need is allowed."""
    assert "allowed" == attempts[attempt]


@pytest.mark.parametrize("attempt", REFUSED)
def test_attempt_succeeds_without_the_sandbox(attempt: str, free_attempts: dict[str, str]) -> None:
    """The control: nothing but the sandbox refuses these attempts."""
    assert "allowed" == free_attempts[attempt]


def test_no_system_call_of_the_helper_is_refused(system: Container) -> None:
    """The helper does its work also where a forbidden system call would kill it."""
    system.check("mkdir", "-p", DROP_IN.rpartition("/")[0])
    system.write(DROP_IN, "[Service]\nSystemCallErrorNumber=kill\n")
    system.check("systemctl", "daemon-reload")
    answers = [ask(system, op)["reply"] for op in ("hello", "load")]
    before = main_pid(system)
    ask(system, "hello")

    assert (["HelloReply", "LoadReply"], before) == (answers, main_pid(system))


def test_forbidden_system_call_would_kill(system: Container) -> None:
    """The control for the test above: with that setting, the first forbidden call is the last."""
    command = f"{PYTHON} -I {CLONE}/tests/systemd/probe.py"
    unit = build_probe_unit(UNITS / SERVICE, command, PROBE_OUTPUT, sandboxed=True)
    system.write("/run/systemd/system/bpferry-probe.service", f"{unit}SystemCallErrorNumber=kill\n")
    system.check("systemctl", "daemon-reload")
    system.run("systemctl", "start", "bpferry-probe.service")
    result = system.show("bpferry-probe.service", "Result")
    system.check("systemctl", "reset-failed", "bpferry-probe.service")

    assert result in {"signal", "core-dump"}


@pytest.mark.parametrize("field", ["CapEff", "CapPrm", "CapBnd"])
def test_helper_holds_two_capabilities(field: str, system: Container) -> None:
    """The running helper holds, and can ever hold, exactly the capabilities of its role."""
    ask(system, "hello")
    mask = sum(1 << CAPABILITY_NUMBERS[name] for name in CAPABILITIES["bpf"])

    assert mask == int(process_status(system, field), 16)


@pytest.mark.parametrize(("field", "expected"), [("NoNewPrivs", "1"), ("Seccomp", "2")])
def test_helper_is_confined(field: str, expected: str, system: Container) -> None:
    """The running helper can gain nothing by execve, and has a system call filter."""
    ask(system, "hello")

    assert expected == process_status(system, field)


def test_helper_is_no_user_of_the_system(system: Container) -> None:
    """The running helper has a uid from the range of dynamic users."""
    ask(system, "hello")
    uid = int(process_status(system, "Uid").split()[0])

    assert 61184 <= uid <= 65519


def test_state_folder_is_the_helpers_alone(system: Container) -> None:
    """Only the dynamic user may look into the state folder."""
    ask(system, "load")
    uid = process_status(system, "Uid").split()[0]

    assert f"700 {uid}" == system.check("stat", "-Lc", "%a %u", "/var/lib/bpferry-bpf")


def test_state_survives_a_restart(system: Container) -> None:
    """A helper that was killed still knows what it had granted before."""
    ask(system, "load")
    before = system.check("sh", "-c", "cat /var/lib/bpferry-bpf/object-* | sha256sum")
    system.check("systemctl", "kill", "--signal=KILL", SERVICE)
    ask(system, "load")

    assert before == system.check("sh", "-c", "cat /var/lib/bpferry-bpf/object-* | sha256sum")


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
    """A member of kvm starts a VM that demands eBPF; root sees the grant, and that it goes."""
    command = ("/usr/bin/python3", "-B", f"{CLONE}/tests/systemd/first_vm.py", "alice")

    seen = json.loads(system.check(*command, timeout=60))

    assert "rss" in seen["meanwhile"], seen
    assert "no set is alive" in seen["after"]
    (nic,) = json.loads(seen["run"])["nics"]
    assert ("ebpf", 4) == (nic["steering"], nic["queues"])
