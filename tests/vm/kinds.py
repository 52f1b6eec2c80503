# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kinds of hosts by their kernel and what it allows, and what bpferry does on each: a table.

What a host is set to is read from itself. Three answers make a row: the helper's own, asked for a
set without the client; ``doctor --deep``, which runs a set's program on known frames; and the plan
of a VM with four queues and RSS, which may then run and get flows.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.vm.documents import OWN, domain, on_bridge
from tests.vm.freight import CLONE
from tests.vm.host import Host
from tests.vm.plans import plan_of_card
from tests.vm.rounds import Player, play_round
from tests.vm.user import PATIENCE_S

DOCUMENT: Final = "/srv/kinds.xml"
HELPER: Final = "bpferry-bpf.service"

UNPRIVILEGED: Final = "/proc/sys/kernel/unprivileged_bpf_disabled"
JIT: Final = "/proc/sys/net/core/bpf_jit_enable"
LOCKDOWN: Final = "/sys/kernel/security/lockdown"
BTF: Final = "/sys/kernel/btf/vmlinux"

POLICY_WITHOUT_CENSUS: Final = (
    "printf '[quota]\\nwithout-census = true\\n' >>/etc/bpferry/policy.toml"
)

HEADINGS: Final = ("kernel", "unprivileged", "JIT", "lockdown", "BTF", "helper", "proof", "VM")
WIDTHS: Final = (28, 13, 4, 16, 4, 8, 6, 0)


def in_columns(cells: Sequence[str]) -> str:
    """Return a line of the table."""
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """What is so on a host of one kind."""

    host: tuple[str, ...]
    """The first five columns."""
    fds: int
    """What the helper granted: a program and three maps, or nothing."""
    refusal: str
    """Its words, if it did not."""
    doctor: dict[str, tuple[str, str]]
    """State and message of each finding of ``bpferry doctor --deep``, by its name."""
    card: dict[str, Any]
    """The plan of the VM's card."""
    flows: str = ""
    """Of the VM, if it ran."""

    @property
    def told(self) -> tuple[str, ...]:
        """What the doctor finds wrong with the kernel, by the last part of the finding's name."""
        return tuple(
            name.removeprefix("kernel.")
            for name, (state, _) in self.doctor.items()
            if name.startswith("kernel.") and state != "ok"
        )

    @property
    def text(self) -> str:
        """The row as it is printed, and what the helper and the doctor say of the kernel below."""
        state = self.doctor.get("proof.vectors", ("none", ""))[0]
        vhost = "vhost" if self.card["vhost"] else "no vhost"
        vm = ", ".join(filter(None, (self.card["steering"], vhost, self.flows)))
        cells = (*self.host, "grants" if self.fds else "refuses", state, vm)
        said = [f"helper: {self.refusal}"] if self.refusal else []
        said += [f"doctor: {self.doctor[f'kernel.{name}'][1]}" for name in self.told]
        return "\n    ".join([in_columns(cells), *said])


def look(host: Host, *, plays: bool) -> Row:
    """Return the row of *host* as it is now; *plays*: with a VM that runs."""
    # What an earlier helper knows about the kernel may no longer be true.
    host.check("systemctl", "restart", HELPER, timeout=PATIENCE_S)
    fds, refusal = _ask_helper(host)
    host.write(DOCUMENT, domain("kinds", OWN, on_bridge("br0")))
    return Row(
        host=_settings(host),
        fds=fds,
        refusal=refusal,
        doctor=_ask_doctor(host),
        card=plan_of_card(host, DOCUMENT),
        flows=_play(host) if plays else "",
    )


def _ask_helper(host: Host) -> tuple[int, str]:
    """Return how many fds it grants alice, or its refusal."""
    ask = ("python3", "-B", f"{CLONE}/tests/systemd/ask.py", "load")
    answer = json.loads(host.check(*ask, user="alice", timeout=PATIENCE_S))
    return answer["fds"], answer.get("refusal", "")


def _ask_doctor(host: Host) -> dict[str, tuple[str, str]]:
    done = host.run("bpferry", "doctor", "--deep", "--json", user="alice", timeout=PATIENCE_S)
    findings = json.loads(done.output)["findings"]
    return {one["name"]: (one["state"], one["message"]) for one in findings}


def _play(host: Host) -> str:
    """Return how many flows came in where the guest of the VM has asked for them."""
    seen = play_round(host, Player("alice", DOCUMENT, 2))
    return f"{seen['flows'] - len(seen['mismatches'])} of {seen['flows']} flows"


def _settings(host: Host) -> tuple[str, ...]:
    release = host.check("uname", "-r")
    jit = {"0": "off", "1": "on"}[host.check("cat", JIT)]
    # Such as "none [integrity] confidentiality"; a kernel without that module has no such file.
    lockdown = host.run("cat", LOCKDOWN).output
    level = lockdown.partition("[")[2].partition("]")[0] or "none"
    btf = "yes" if host.run("test", "-e", BTF).status == 0 else "no"
    return release, host.check("cat", UNPRIVILEGED), jit, level, btf
