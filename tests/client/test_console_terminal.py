# SPDX-License-Identifier: LGPL-2.1-or-later
"""A person at a VM's console: `bpferry run` on a terminal, and `bpferry console`."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.client.support import is_gone, wait_until
from tests.client.terminals import (
    VM,
    at_terminal,
    background_vm,
    bpferry,
    is_running,
    supervisor_of,
    vm_file,
)
from tests.support.census import fd_targets

pytestmark = pytest.mark.qemu

HELLO = b"hello from the boot sector"
QUESTION = b"d detaches, p powers down, e ends it now"


def test_detached_vm_goes_on_and_is_attached_again(tmp_path: Path) -> None:
    """Ctrl-] and d give the terminal back; `bpferry console` shows what was before, and goes on."""
    with vm_file(tmp_path) as (file, name):
        with at_terminal("run", file) as person:
            before = person.before
            assert person.sees(HELLO)
            assert before != person.mode()
            person.types(b"one\x1d")
            assert person.sees(QUESTION)
            person.types(b"d")
            assert person.status() == 0
            assert person.sees(f"'{name}' keeps running in the background: ".encode())
            assert before == person.mode()
        with at_terminal("console", name) as person:
            before = person.before
            assert person.sees(HELLO)
            assert person.sees(b"one")
            person.types(b"two")
            assert person.sees(b"onetwo")
            person.types(b"q")
            assert person.status() == 0
            assert person.sees(f"'{name}' has ended".encode())
            assert before == person.mode()


def test_detached_vm_says_no_more_on_the_terminal(tmp_path: Path) -> None:
    """After a detach, the supervisor has no fd of the terminal, and no terminal."""
    with vm_file(tmp_path) as (file, name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        terminal = os.ttyname(person.line)
        person.types(b"\x1dd")
        assert person.status() == 0
        pid = supervisor_of(name)
        assert terminal not in fd_targets(pid)
        time.sleep(0.3)
        assert is_running(name)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4] == "0"


def test_start_that_fails_on_a_terminal(tmp_path: Path) -> None:
    """The error is told once, with its status, and the terminal is as before."""
    with background_vm(tmp_path) as name, at_terminal("run", str(tmp_path / "vm.toml")) as person:
        before = person.before
        assert person.status() == 1
        assert person.sees(b"error: ")
        assert name.encode() in person.seen()
        assert person.seen().count(b"error: ") == 1
        assert before == person.mode()


def test_escape_key_twice_sends_it_and_other_keys_go_back(tmp_path: Path) -> None:
    """Nothing but the key itself reaches the guest of all that is pressed at the question."""
    with vm_file(tmp_path) as (file, _name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        person.types(b"a\x1d\x1db")
        assert person.sees(b"\x1db")
        person.types(b"\x1d")
        assert wait_until(lambda: person.seen().count(QUESTION) == 2)
        person.types(b"\x1b[A")
        person.types(b"xyz")
        assert person.sees(b"xyz")
        assert b"[A" not in person.seen()
        person.types(b"q")
        assert person.status() == 0


def test_end_at_the_question_ends_the_vm(tmp_path: Path) -> None:
    """Ctrl-] and e end QEMU at once, and the terminal's mode comes back."""
    with vm_file(tmp_path) as (file, _name), at_terminal("run", file) as person:
        before = person.before
        assert person.sees(HELLO)
        person.types(b"\x1de")
        assert person.status() == 0
        assert person.sees(b"stopping QEMU")
        assert before == person.mode()


@pytest.mark.parametrize(("command", "note"), [("pause", b"is paused"), ("reset", b"restarts")])
def test_question_is_asked_again_below_a_note(tmp_path: Path, command: str, note: bytes) -> None:
    """What the supervisor says meanwhile would otherwise stand where the user is to answer."""
    with vm_file(tmp_path) as (file, name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        person.types(b"\x1d")
        assert person.sees(QUESTION)
        bpferry(command, name)
        assert person.sees(b"the VM " + note)
        assert wait_until(lambda: QUESTION in person.seen().partition(note)[2])
        assert person.seen().endswith(b"goes back: ")
        person.types(b"d")
        assert person.status() == 0


def test_note_without_a_question_asks_nothing(tmp_path: Path) -> None:
    """The terminal shows the note, and what the guest writes after it."""
    with vm_file(tmp_path) as (file, name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        bpferry("pause", name)
        bpferry("resume", name)
        assert person.sees(b"the VM continues")
        person.types(b"one")
        assert person.sees(b"one")
        assert QUESTION not in person.seen()


def test_power_down_at_the_question_asks_the_guest(tmp_path: Path) -> None:
    """Ctrl-] and p press the power button; one stays at the console meanwhile."""
    with vm_file(tmp_path) as (file, _name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        person.types(b"\x1dp")
        assert person.sees(b"asked the guest to power down")
        person.types(b"still")
        assert person.sees(b"still")
        person.types(b"q")
        assert person.status() == 0


@pytest.mark.parametrize("by_environment", [True, False])
def test_another_escape_key(tmp_path: Path, *, by_environment: bool) -> None:
    """With ^A, Ctrl-A leaves and Ctrl-] is the guest's."""
    options = () if by_environment else ("--escape-key", "^A")
    environment = {"BPFERRY_ESCAPE_KEY": "^A" if by_environment else "^B"}
    with (
        vm_file(tmp_path) as (file, _name),
        at_terminal("run", *options, file, **environment) as person,
    ):
        assert person.sees(b"Ctrl-A leaves")
        assert person.sees(HELLO)
        person.types(b"\x1dx")
        assert person.sees(b"\x1dx")
        person.types(b"\x01")
        assert person.sees(b"Ctrl-A sends Ctrl-A")
        person.types(b"e")
        assert person.status() == 0


def test_no_escape_key(tmp_path: Path) -> None:
    """With none, every key is the guest's, and it is said how to end the VM."""
    with (
        vm_file(tmp_path) as (file, _name),
        at_terminal("run", "--escape-key", "none", file) as person,
    ):
        assert person.sees(b"use 'bpferry stop' on another terminal")
        assert person.sees(HELLO)
        person.types(b"\x1d\x01")
        assert person.sees(b"\x1d\x01")
        person.types(b"q")
        assert person.status() == 0


def test_unknown_escape_key_is_refused(tmp_path: Path) -> None:
    """A key that other keys send too is wrong usage, and nothing starts."""
    with (
        vm_file(tmp_path) as (file, name),
        at_terminal("run", "--escape-key", "^M", file) as person,
    ):
        assert person.status() == 2
        assert person.sees(b"error: --escape-key: expected a key such as '^]'")
        assert not is_running(name)


def test_closed_terminal_powers_the_guest_down(tmp_path: Path) -> None:
    """SIGHUP of a closed terminal asks the guest, and does not count as a second signal."""
    text = "stop-timeout = 2\n" + VM
    with vm_file(tmp_path, text) as (file, name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        pid = supervisor_of(name)
        person.hang_up()
        person.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: is_gone(pid))
        assert b"the guest did not power down within 2 s" in bpferry("log", name).stdout


def test_killed_foreground_powers_the_guest_down(tmp_path: Path) -> None:
    """When the process at the terminal is killed, the VM does not stay for ever."""
    text = "stop-timeout = 1\n" + VM
    with vm_file(tmp_path, text) as (file, name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        pid = supervisor_of(name)
        person.process.kill()
        assert wait_until(lambda: is_gone(pid))


def test_killed_supervisor_gives_the_terminal_back(tmp_path: Path) -> None:
    """When the supervisor is killed, QEMU ends, the terminal's mode comes back, and it is 137."""
    with vm_file(tmp_path) as (file, name), at_terminal("run", file) as person:
        before = person.before
        assert person.sees(HELLO)
        os.kill(supervisor_of(name), signal.SIGKILL)
        assert person.status() == 128 + signal.SIGKILL
        assert before == person.mode()


def test_signals_to_the_foreground_reach_the_vm(tmp_path: Path) -> None:
    """Two SIGINT to the process at the terminal do what they do without one."""
    with vm_file(tmp_path) as (file, _name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        person.process.send_signal(signal.SIGINT)
        assert person.sees(b"asked the guest to power down")
        person.process.send_signal(signal.SIGINT)
        assert person.sees(b"stopping QEMU")
        assert person.status() == 0


def test_several_at_one_console_see_and_type(tmp_path: Path) -> None:
    """All of them see what the guest writes, and what each of them types reaches it."""
    with (
        background_vm(tmp_path) as name,
        at_terminal("console", name) as one,
        at_terminal("console", name) as two,
    ):
        assert one.sees(HELLO)
        assert two.sees(HELLO)
        one.types(b"from one ")
        assert two.sees(b"from one ")
        two.types(b"from two ")
        assert one.sees(b"from one from two ")
        one.types(b"\x1dd")
        assert one.status() == 0
        two.types(b"on")
        assert two.sees(b"from two on")


def test_killed_vm_gives_the_terminal_of_an_onlooker_back(tmp_path: Path) -> None:
    """When bpferry and its QEMU are killed, `bpferry console` ends, and the mode comes back."""
    with background_vm(tmp_path) as name, at_terminal("console", name) as person:
        before = person.before
        assert person.sees(HELLO)
        os.kill(supervisor_of(name), signal.SIGKILL)
        assert person.status() == 0
        assert person.sees(f"'{name}' has ended".encode())
        assert before != []


def test_hung_up_onlooker_leaves_the_vm_alone(tmp_path: Path) -> None:
    """Closing the terminal of `bpferry console` ends only that; so does SIGTERM, with the mode."""
    with background_vm(tmp_path) as name:
        with at_terminal("console", name) as person:
            assert person.sees(HELLO)
            person.hang_up()
            person.process.send_signal(signal.SIGHUP)
            # The second of two may find Python at its end, where nobody heeds signals any more.
            assert person.status() in {128 + signal.SIGHUP, -signal.SIGHUP}
        with at_terminal("console", name) as person:
            before = person.before
            assert wait_until(lambda: person.mode() != before)
            person.process.send_signal(signal.SIGTERM)
            assert person.status() == 128 + signal.SIGTERM
            assert before == person.mode()
        assert is_running(name)


def test_detached_run_with_json_prints_one_object(tmp_path: Path) -> None:
    """It says that it was detached; that of the VM's end is nobody's to read."""
    with vm_file(tmp_path) as (file, name), at_terminal("run", "--json", file) as person:
        assert person.sees(HELLO)
        person.types(b"\x1dd")
        assert person.status() == 0
        assert person.sees(f'{{\r\n  "detached": "{name}"\r\n}}\r\n'.encode())
        assert is_running(name)


def test_console_without_a_terminal(tmp_path: Path) -> None:
    """What is piped in is typed, and what the guest writes comes out, until the VM ends."""
    with background_vm(tmp_path) as name:
        ended = bpferry("console", name, typed=b"piped q")

    assert ended.stdout.endswith(b"piped q")
    assert HELLO in ended.stdout


FLOOD = bytes.fromhex(
    "baf803"  # 00  mov dx, 0x3f8       COM1, data
    "b078"  # 03  mov al, 'x'
    "ee"  # 05  out dx, al
    "ebfd"  # 06  jmp 0x05
).ljust(510, b"\0") + b"\x55\xaa"  # fmt: skip
"""A boot sector that writes without an end."""


@pytest.mark.slow
def test_a_guest_that_floods_and_a_terminal_that_stalls(tmp_path: Path) -> None:
    """Another terminal goes on and can leave, commands are answered, and the loss is told."""
    with background_vm(tmp_path) as name:
        (tmp_path / "disk.img").write_bytes(FLOOD.ljust(1 << 20, b"\0"))
        bpferry("reset", name)
        with at_terminal("console", name) as stalled, at_terminal("console", name) as person:
            assert stalled.sees(b"x" * 1000)
            stalled.look_away()
            assert wait_until(lambda: len(person.seen()) > 700_000, 120)
            before = time.monotonic()
            assert is_running(name)
            assert time.monotonic() - before < 0.5
            person.types(b"\x1dd")
            assert person.status() == 0
            stalled.look_again()
            assert stalled.sees(b" bytes of the console are missing here")
            stalled.types(b"\x1de")
            assert stalled.status() == 0


def test_keys_leave_a_guest_that_does_not_read(tmp_path: Path) -> None:
    """However much is typed at a paused VM, Ctrl-] still leaves."""
    with background_vm(tmp_path) as name:
        bpferry("pause", name)
        with at_terminal("console", name) as person:
            assert person.sees(b"Ctrl-] leaves")
            for _ in range(300):
                person.types(b"k" * 4000)
            person.types(b"\x1d")
            assert person.sees(QUESTION)
            person.types(b"d")
            assert person.status() == 0


def test_idle_console_costs_no_wake_up(tmp_path: Path) -> None:
    """With somebody at the console, neither the supervisor nor that process wakes up."""
    with vm_file(tmp_path) as (file, name), at_terminal("run", file) as person:
        assert person.sees(HELLO)
        watched = (supervisor_of(name), person.process.pid)
        time.sleep(3)
        before = [_wake_ups(pid) for pid in watched]
        time.sleep(3)
        after = [_wake_ups(pid) for pid in watched]
        assert before == after


def _wake_ups(pid: int) -> int:
    """Return how often the threads of *pid* have slept until something happened."""
    texts = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    found = (re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE) for text in texts)
    return sum(int(one[1]) for one in found if one is not None)
