# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that are started and killed, one after the other, and what each of them held."""

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.abuse.host import PATIENCE_S, QUEUES, Holding, VmHost, holding_of, qemu_of
from tests.client.support import is_gone
from tests.support.census import Held, wait_until
from tests.support.people import Person

CLIENT, QEMU = "client", "QEMU"

CARDS: Final = 2

LATEST: Final = 1.2
"""Of the time that the last start took: kills fall before it is done, and after."""


@dataclass
class Witness:
    """What was seen of all VMs together. Each method may be called by several threads."""

    kills: Counter[str] = field(default_factory=Counter)
    whole: int = 0
    """VMs that were seen with everything that they should have."""
    ended: Counter[str] = field(default_factory=Counter)
    """How those ended that were gone before they could be killed."""
    wrong: list[str] = field(default_factory=list)
    maps: set[Held] = field(default_factory=set)
    """Everything of the kind that any VM ever held."""
    taps: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look_at(self, name: str, holding: Holding) -> None:
        """Complain of a part of a grant, and of what another VM has had."""
        with self.lock:
            for what in complaints(holding):
                self.wrong.append(f"{name} holds {what}")
            if (again := self.maps & holding.sets) or self.taps & holding.queues.keys():
                self.wrong.append(f"{name} holds what others had: {again} {holding.queues}")
            self.maps |= holding.sets
            self.taps |= holding.queues.keys()
            self.whole += bool(holding.sets)

    def killed(self, victim: str) -> None:
        """Count a kill."""
        with self.lock:
            self.kills[victim] += 1

    def rarest(self) -> str:
        """Return what of a VM was killed less often."""
        return min((CLIENT, QEMU), key=lambda victim: self.kills[victim])

    def has(self, victims: tuple[str, ...], count: int) -> bool:
        """Return whether each of *victims* was killed *count* times."""
        return all(self.kills[victim] >= count for victim in victims)


def complaints(holding: Holding) -> list[str]:
    """Return what is wrong with what a QEMU of CARDS cards holds: all, or nothing of a kind."""
    programs = sum(held.kind == "prog" for held in holding.sets)
    maps = len(holding.sets) - programs
    wrong = []
    if (programs, maps) not in {(0, 0), (CARDS, 3 * CARDS)}:
        wrong.append(f"{programs} programs and {maps} maps")
    if holding.queues and sorted(holding.queues.values()) != [QUEUES] * CARDS:
        wrong.append(f"the queues {dict(holding.queues)}")
    return wrong


class Lives(threading.Thread):
    """Runs the VM *name* again and again, and kills it at a random moment each time."""

    def __init__(self, host: VmHost, person: Person, name: str, witness: Witness) -> None:
        """Run the VM once, so that it is known what this QEMU can do."""
        super().__init__()
        self.stop = threading.Event()
        self._host, self._person, self._name, self._witness = host, person, name, witness
        self._chance = random.Random()  # noqa: S311 - other moments each time
        process = host.start(person, name, CARDS)
        self._wait_for_sets(process)
        process.kill()
        process.wait()

    def run(self) -> None:
        """Go on until told to stop."""
        while not self.stop.is_set():
            try:
                self._live_once()
            except BaseException as error:
                self._witness.wrong.append(f"{self._name}: {error!r}")
                raise

    def _live_once(self) -> None:
        victim = self._witness.rarest()
        process = self._host.start(self._person, self._name, CARDS)
        try:
            if victim == QEMU:
                self._wait_for_sets(process)
            process.wait(self._chance.uniform(0, LATEST * self._start_s))
        except subprocess.TimeoutExpired:
            self._kill(victim, process)
        else:
            self._witness.ended[self._host.said(self._name).strip().rpartition("\n")[2]] += 1

    def _wait_for_sets(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until the VM holds its sets, which it may never do; note how long that took."""
        began = time.monotonic()
        wait_until(
            lambda: process.poll() is not None or bool(holding_of(qemu_of(process.pid) or -1).sets),
            PATIENCE_S,
        )
        self._start_s = time.monotonic() - began

    def _kill(self, victim: str, process: "subprocess.Popen[bytes]") -> None:
        """Kill the VM's QEMU, or its client, which may have none yet; the other one ends too."""
        qemu = qemu_of(process.pid)
        if qemu is not None:
            self._witness.look_at(self._name, holding_of(qemu))
        if qemu is None or victim == CLIENT:
            victim = CLIENT
            process.kill()
        else:
            os.kill(qemu, signal.SIGKILL)
        status = process.wait(PATIENCE_S)
        self._witness.killed(victim)
        if status == 0:
            self._witness.wrong.append(f"{self._name}: its {victim} was killed, and it says 0")
        if qemu and not wait_until(lambda: is_gone(qemu), PATIENCE_S):
            self._witness.wrong.append(f"{self._name}: its QEMU outlived its client")
