# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed helper for taps under a systemd that is PID 1, asked by ordinary users.

alice is in the group bpferry and the policy names her; carol is in the group; bob is not.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

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

HELPER_USER: Final = "bpferry-tap"

ALICES: Final = """\
[users.alice]
bridges = ["br0"]
[quota]
taps-at-once = 1000
"""
"""The pace of a test's own requests does not matter."""

QUIET_S: Final = 5.0
"""Long enough for three starts of a helper that ends after one idle second."""

ALLOWED: Final = ("socket AF_UNIX", "socket AF_NETLINK", "open /dev/net/tun", "run Python")

SPARE: Final = "bpferry spare"

MEMORY_KIB: Final = 40 * 1024


@pytest.fixture
def unit(installed_system: Container) -> Iterator[HelperUnit]:
    """Return a helper that does not run yet, and a policy that names alice; no tap may be left."""
    unit = HelperUnit(installed_system, "tap")
    unit.reset()
    installed_system.write(POLICY, ALICES)
    yield unit
    unit.reset()
    wait_for_no_taps(installed_system)


@pytest.fixture
def system(unit: HelperUnit) -> Container:
    """Return the system in which that helper does not run yet."""
    return unit.system


@pytest.fixture(scope="module")
def attempts(installed_system: Container) -> dict[str, str]:
    """Return what came of each forbidden thing, tried in the service's own sandbox."""
    return HelperUnit(installed_system, "tap").probe(sandboxed=True)


@pytest.fixture(scope="module")
def free_attempts(installed_system: Container) -> dict[str, str]:
    """Return what came of the same attempts by a service without a sandbox: the control."""
    return HelperUnit(installed_system, "tap").probe(sandboxed=False)


def command(*words: str) -> tuple[str, ...]:
    """Return the command that asks the helper."""
    return (PYTHON, f"{CLONE}/tests/systemd/ask_tap.py", *words)


def ask(system: Container, *words: str, user: str = "alice") -> dict[str, Any]:
    """Let *user* ask the helper, and return the answer."""
    answer: dict[str, Any] = json.loads(system.check(*command(*words), user=user))
    return answer


@contextmanager
def held_tap(
    system: Container, bridge: str = "br0", queues: int = 4, user: str = "alice"
) -> Iterator[dict[str, Any]]:
    """Let *user* hold a tap meanwhile; yield the answer."""
    with system.running(*command("hold", bridge, str(queues)), user=user) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


def taps(system: Container) -> list[dict[str, Any]]:
    """Return the interfaces with names of the helper's, spares too, as ``ip`` shows them."""
    links = json.loads(system.check("ip", "-json", "-details", "link"))
    return [link for link in links if link["ifname"].startswith(("bft", "bfp"))]


def find_tap(system: Container, name: str) -> dict[str, Any]:
    """Return the tap *name*, which is there."""
    (tap,) = (tap for tap in taps(system) if tap["ifname"] == name)
    return tap


def granted_names(system: Container) -> list[str]:
    """Return the names of all taps but spares."""
    return [tap["ifname"] for tap in taps(system) if tap.get("ifalias") != SPARE]


def wait_for_no_taps(system: Container, seconds: float = 10) -> None:
    """Return when no tap is there, spare or not."""
    deadline = time.monotonic() + seconds
    while left := taps(system):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def lasting(tap: dict[str, Any]) -> dict[str, Any]:
    """Return what does not change by itself: the bridge's timers do."""
    link = {key: value for key, value in tap.items() if key != "linkinfo"}
    return {**link, **tap["linkinfo"]["info_data"]}


def uid_of(system: Container, user: str) -> int:
    """Return the uid of *user*."""
    return int(system.check("id", "--user", user))


# -- what users get


def test_nothing_runs_before_somebody_connects(unit: HelperUnit) -> None:
    """After the installation systemd listens, and no helper runs."""
    assert ("active", "inactive") == (unit.system.show(unit.socket, "ActiveState"), unit.state())


def test_user_gets_all_queues_of_one_tap(system: Container) -> None:
    """A member of the group whom the policy names receives four fds of the tap that is named."""
    answer = ask(system, "tap", "br0", "4")

    assert ("TapReply", "br0", 1500) == (answer["reply"], answer["bridge"], answer["mtu"])
    assert [answer["interface"]] * 4 == answer["queues_of"]


def test_tap_is_up_on_its_bridge(system: Container) -> None:
    """The host sees it there as soon as the answer is."""
    with held_tap(system) as answer:
        tap = find_tap(system, answer["interface"])

    assert ("br0", True) == (tap["master"], "UP" in tap["flags"])
    assert (True, 4) == (tap["linkinfo"]["info_data"]["multi_queue"], len(answer["queues_of"]))


def test_tap_belongs_to_the_helper(system: Container) -> None:
    """Its owner is the helper's user, so that nobody else adds a queue."""
    with held_tap(system) as answer:
        owner = find_tap(system, answer["interface"])["linkinfo"]["info_data"]["user"]

    assert HELPER_USER == owner


def test_tap_says_who_asked(system: Container) -> None:
    """Its alias has the uid."""
    with held_tap(system) as answer:
        alias = find_tap(system, answer["interface"])["ifalias"]

    assert alias.startswith(f"bpferry uid={uid_of(system, 'alice')} pid=")


def test_tap_goes_with_its_process(system: Container) -> None:
    """When who held it ends, only spares are left."""
    with held_tap(system) as answer:
        assert [answer["interface"]] == granted_names(system)

    assert [] == granted_names(system)


def test_user_outside_the_group_cannot_connect(system: Container) -> None:
    """For everybody else the socket's own mode ends it."""
    assert {"reply": "PermissionError"} == ask(system, "tap", "br0", "4", user="bob")


def test_member_whom_nothing_names_is_refused(system: Container) -> None:
    """The group alone opens no bridge; the answer names the policy."""
    answer = ask(system, "tap", "br0", "4", user="carol")

    assert ("ErrorReply", "refused", []) == (answer["reply"], answer["code"], answer["queues_of"])
    assert f"{POLICY} has no rule about bridges for you" in answer["message"]


def test_other_bridges_are_refused_with_the_line(system: Container) -> None:
    """Who has a rule for one bridge is told in which line another one is missing."""
    answer = ask(system, "tap", "br1", "4")

    assert ("ErrorReply", "refused", []) == (answer["reply"], answer["code"], answer["queues_of"])
    assert f"'br1' is not named in {POLICY}:2" in answer["message"]


def test_no_policy_opens_no_bridge(system: Container) -> None:
    """Without the file, nobody gets a tap, root included."""
    system.check("rm", POLICY)
    replies = [ask(system, "tap", "br0", "4", user=user)["reply"] for user in ("alice", "root")]

    assert ["ErrorReply", "ErrorReply"] == replies


def test_can_i_says_what_the_helpers_would_do(system: Container) -> None:
    """The installed client asks both helpers, and nothing is made."""
    asked = ("bpferry", "can-i", "--bridge", "br0", "--queues", "4", "--ebpf", "--json")
    done = [system.run(*asked, user=user) for user in ("alice", "carol")]
    allowed = [[a["allowed"] for a in json.loads(d.stdout)["answers"]] for d in done]

    assert [[True, True], [False, True]] == allowed, done
    assert ([0, 4], []) == ([d.returncode for d in done], granted_names(system))


# -- a VM


def bridge_vm(system: Container, user: str) -> dict[str, Any]:
    """Let *user* start a VM on br0 with four queues that demands eBPF; return what was seen."""
    script = f"{CLONE}/tests/systemd/bridge_vm.py"
    seen: dict[str, Any] = json.loads(system.check(PYTHON, "-B", script, user, "br0", timeout=60))
    return seen


@pytest.mark.qemu
def test_vm_of_an_allowed_user_is_on_the_bridge_with_ebpf(system: Container) -> None:
    """A plain domain document gets four queues and the program; nothing is left of either."""
    seen = bridge_vm(system, "alice")
    (nic,) = json.loads(seen["run"])["nics"]
    rows = [line.split() for line in seen["meanwhile"].splitlines()]
    uid = str(uid_of(system, "alice"))
    held = [row[3] for row in rows if row[:2] == [uid, "alice"]]

    assert ("ebpf", 4) == (nic["steering"], nic["queues"]), seen
    assert ("rss", True) == (held[0], held[1] in seen["ports"])
    # What is ready for the next VM is nobody's.
    left = re.sub(r"^pool: \d+ ready\n", "", seen["after"], flags=re.MULTILINE)
    assert "no set is alive\n\nno tap is alive\n" == left


@pytest.mark.qemu
def test_vm_of_another_member_is_refused_with_the_reason(system: Container) -> None:
    """Who is not allowed gets exit status 4 and what the policy lacks, and nothing is made."""
    seen = bridge_vm(system, "carol")

    assert (4, True) == (seen["status"], "no tap is alive" in seen["meanwhile"])
    assert f"{POLICY} has no rule about bridges for you" in seen["run"] + seen["said"]


# -- taps that stay


def test_created_tap_is_its_users(system: Container) -> None:
    """It stays, belongs to who asked, and goes when they delete it."""
    name = ask(system, "create", "br0", "4")["interface"]
    tap = find_tap(system, name)["linkinfo"]["info_data"]
    listed = ask(system, "list")["taps"]
    deleted = ask(system, "delete", name)["reply"]

    assert (True, "alice") == (tap["persist"], tap["user"])
    assert [[name, "br0", 0, 4, True, False, 0, 0]] == listed
    assert ("DeleteReply", []) == (deleted, granted_names(system))


def test_nobody_deletes_the_tap_of_another(system: Container) -> None:
    """Who may connect may delete what is theirs, and nothing else."""
    name = ask(system, "create", "br0", "4")["interface"]
    answer = ask(system, "delete", name, user="carol")
    left = granted_names(system)
    ask(system, "delete", name)

    assert ("refused", [name]) == (answer["code"], left)


def test_installed_client_makes_and_deletes_a_tap(system: Container) -> None:
    """With ``bpferry tap create``, ``list`` and ``delete``, as an ordinary user."""
    made = system.check("bpferry", "tap", "create", "br0", "--queues", "4", "--json", user="alice")
    name = json.loads(made)["interface"]
    listed = system.check("bpferry", "tap", "list", user="alice")
    system.check("bpferry", "tap", "delete", name, user="alice")

    assert (True, []) == (name in listed, granted_names(system))


def test_created_tap_outlives_the_helper(unit: HelperUnit) -> None:
    """The next helper knows it, and whose it is."""
    name = ask(unit.system, "create", "br0", "4")["interface"]
    unit.kill()
    listed = ask(unit.system, "list")["taps"]
    ask(unit.system, "delete", name)

    assert [name] == [tap[0] for tap in listed]


# -- how the service starts, ends and starts again


def test_quota_counts_across_restarts(unit: HelperUnit) -> None:
    """A tap that a killed helper handed over still counts; it does no more when it is gone."""
    unit.system.write(POLICY, f"{ALICES}taps-per-user = 1\n")
    with held_tap(unit.system):
        unit.kill()
        refused = ask(unit.system, "tap", "br0", "4")
    served = ask(unit.system, "tap", "br0", "4")

    assert ("quota", "TapReply") == (refused["code"], served["reply"])


def test_idle_exit_leaves_nothing(unit: HelperUnit) -> None:
    """A helper with nothing to do ends without error, and its spare taps go with it."""
    unit.system.write(POLICY, f"{ALICES}[service]\nidle-exit-seconds = 1\n")
    ask(unit.system, "tap", "br0", "4")
    unit.system.wait_for_state(unit.service, "inactive")
    wait_for_no_taps(unit.system)

    assert "success" == unit.system.show(unit.service, "Result")


def test_only_a_client_starts_it(unit: HelperUnit) -> None:
    """Changes of the host's network, which systemd's netlink socket is in, start nothing."""
    for verb in ("add", "delete"):
        kind = ("type", "bridge") if verb == "add" else ()
        unit.system.check("ip", "link", verb, "br-other", *kind)
    unit.system.check("sleep", "1")

    assert "inactive" == unit.state()


def test_answers_that_nobody_read_do_no_harm(unit: HelperUnit) -> None:
    """A helper that was killed in mid-request leaves answers in the socket; the next one copes."""
    ask(unit.system, "hello")
    script = f"{CLONE}/tests/systemd/leave_answers.py"
    unit.system.check(PYTHON, script, unit.main_pid())
    unit.kill()
    replies = [ask(unit.system, "tap", "br0", "4")["reply"] for _ in range(3)]

    assert (["TapReply"] * 3, "active") == (replies, unit.system.show(unit.socket, "ActiveState"))


def test_answers_that_nobody_read_start_no_loop(unit: HelperUnit) -> None:
    """The helper after the killed one reads them and ends when it is idle; no other is started."""
    unit.system.write(POLICY, f"{ALICES}[service]\nidle-exit-seconds = 1\n")
    ask(unit.system, "hello")
    invocations = {unit.system.show(unit.service, "InvocationID")}
    unit.system.check(PYTHON, f"{CLONE}/tests/systemd/leave_answers.py", unit.main_pid())
    unit.kill()
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        invocations.add(unit.system.show(unit.service, "InvocationID"))
        time.sleep(0.1)

    assert (2, "inactive") == (len(invocations - {""}), unit.state())


def test_restarts_do_not_disturb_a_tap(unit: HelperUnit) -> None:
    """Both helpers are killed and started again while a tap is held, which stays as it is."""
    system = unit.system
    with held_tap(system) as answer:
        before = find_tap(system, answer["interface"])
        for service in (unit.service, HelperUnit(system, "bpf").service):
            system.check("systemctl", "start", service)
            system.check("systemctl", "kill", "--signal=KILL", service)
            system.check("systemctl", "restart", service)
        after = find_tap(system, answer["interface"])

    assert lasting(before) == lasting(after)


# -- what it is allowed to


@pytest.mark.parametrize("field", ["CapEff", "CapPrm", "CapBnd"])
def test_helper_holds_one_capability(field: str, unit: HelperUnit) -> None:
    """The running helper holds, and can ever hold, exactly the capability of its role."""
    ask(unit.system, "hello")

    assert unit.capability_mask() == int(unit.process_status(field), 16)


@pytest.mark.parametrize(("field", "expected"), [("NoNewPrivs", "1"), ("Seccomp", "2")])
def test_helper_is_confined(field: str, expected: str, unit: HelperUnit) -> None:
    """The running helper can gain nothing by execve, and has a system call filter."""
    ask(unit.system, "hello")

    assert expected == unit.process_status(field)


def test_helper_has_a_user_of_its_own(unit: HelperUnit) -> None:
    """It runs as the user that sysusers made."""
    ask(unit.system, "hello")

    assert [str(uid_of(unit.system, HELPER_USER))] * 4 == unit.process_status("Uid").split()


def test_helper_is_in_a_network_of_its_own(unit: HelperUnit) -> None:
    """It is not in the host's network namespace, in which there is the socket that it was given."""
    ask(unit.system, "hello")
    pid = unit.main_pid()
    own, hosts = unit.system.check("readlink", f"/proc/{pid}/ns/net", "/proc/1/ns/net").split()
    fds = unit.system.check("find", f"/proc/{pid}/fd", "-lname", "net:*", "-printf", "%l\\n")

    assert own != hosts
    assert [hosts] == fds.split()


def test_there_is_nothing_in_its_network(unit: HelperUnit) -> None:
    """Nothing but the loopback device; taps are there for a moment only."""
    ask(unit.system, "hello")
    links = json.loads(
        unit.system.check("nsenter", f"--target={unit.main_pid()}", "--net", "ip", "-json", "link")
    )

    assert ["lo"] == [link["ifname"] for link in links]


def test_helper_sees_whether_a_bridge_has_its_own_address(system: Container) -> None:
    """Policy can refuse bridges without one, since the host's /sys is seen in the sandbox."""
    system.write(POLICY, f'{ALICES}[bridges."br-*"]\naddress = "refuse"\n'.replace("br0", "br-*"))
    replies = []
    for address in ((), ("address", "02:00:00:00:00:01")):
        system.check("ip", "link", "add", "br-new", *address, "type", "bridge")
        replies.append(ask(system, "tap", "br-new", "4"))
        system.check("ip", "link", "delete", "br-new")

    assert ["ErrorReply", "TapReply"] == [reply["reply"] for reply in replies]
    assert "it has no address of its own" in replies[0]["message"]


def test_own_sys_of_the_service_would_not_do(unit: HelperUnit) -> None:
    """The control: without the bind, systemd 257 shows no bridge there; 252 shows all anyway."""
    script = "ls /sys/devices/virtual/net"
    run = ("systemd-run", "--quiet", "--wait", "--pipe", "--property=PrivateNetwork=yes")
    seen = unit.system.check(*run, "sh", "-c", script).split()
    version = int(unit.system.check("systemctl", "--version").split()[1])

    assert (version < 257) == ("br0" in seen)


@pytest.mark.parametrize("attempt", REFUSED)
def test_sandbox_refuses(attempt: str, attempts: dict[str, str]) -> None:
    """Code that runs in the helper's place cannot do what the helper never does."""
    assert attempts[attempt] in REFUSED[attempt]


@pytest.mark.parametrize("attempt", ALLOWED)
def test_sandbox_allows(attempt: str, attempts: dict[str, str]) -> None:
    """What the helper does need is allowed."""
    assert "allowed" == attempts[attempt]


@pytest.mark.parametrize("attempt", REFUSED)
def test_attempt_succeeds_without_the_sandbox(attempt: str, free_attempts: dict[str, str]) -> None:
    """The control: nothing but the sandbox refuses these attempts."""
    assert "allowed" == free_attempts[attempt]


def test_memfd_is_refused(attempts: dict[str, str], free_attempts: dict[str, str]) -> None:
    """Unlike the other helper, this one has no use for it."""
    assert ("EPERM", "allowed") == (attempts["memfd_create"], free_attempts["memfd_create"])


def test_no_system_call_of_the_helper_is_refused(unit: HelperUnit) -> None:
    """The helper does its work also where a forbidden system call would kill it."""
    unit.kill_at_forbidden_calls()
    system = unit.system
    pid = ask(system, "hello") and unit.main_pid()
    name = ask(system, "create", "br0", "4")["interface"]
    asked = (["tap", "br0", "4"], ["can", "br0", "4"], ["quota"], ["list"], ["delete", name])
    replies = [ask(system, *words)["reply"] for words in asked]
    status = ask(system, "status", user="root")["reply"]

    assert ["TapReply", "CanReply", "QuotaReply", "ListReply", "DeleteReply"] == replies
    assert ("StatusReply", pid) == (status, unit.main_pid())


def test_forbidden_system_call_would_kill(unit: HelperUnit) -> None:
    """The control for the test above: with that setting, the first forbidden call is the last."""
    assert unit.probe_to_death() in {"signal", "core-dump"}


def test_helper_is_small(unit: HelperUnit) -> None:
    """After some taps of many queues it has needed at most 40 MiB."""
    unit.system.write(POLICY, f"{ALICES}queues-per-tap = 64\n")
    for queues in ("4", "64", "64"):
        ask(unit.system, "tap", "br0", queues)
    peak_kib = int(unit.process_status("VmHWM").split()[0])

    assert peak_kib <= MEMORY_KIB


def test_administrator_sees_who_holds_what(system: Container) -> None:
    """``bpferry-helper status`` names tap and user, and says what the other helper says."""
    with held_tap(system) as answer:
        said = system.check("bpferry-helper", "status")

    (row,) = [line.split() for line in said.splitlines() if answer["interface"] in line]
    assert [str(uid_of(system, "alice")), "alice"] == row[:2]
    assert "no set is alive" in said
