# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many files a VM may have open: counted, raised, and refused with numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.machine.draft import Draft, draft
from bpferry.machine.open_files import RESERVE, count_open_files
from tests.client.support import Record

pytestmark = pytest.mark.qemu

VM = 'name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\nvcpus = 2\n'
CARD = '[[cards]]\ntap = "t{}"\nqueues = {}\n'
LOG = '[[serials]]\ntype = "file"\nsources = [{path = "log"}]\n'

IMPORTS = """
import os, resource
from bpferry.machine.open_files import count_open_files, find_low_limit, raise_limit
from bpferry.qemu.process import start_child
from tests.client.test_open_files import draft_of
"""


def draft_of(*queues: int, more: str = "") -> Draft:
    """Return the plan for a VM with a card for each of *queues*."""
    cards = "".join(CARD.format(number, count) for number, count in enumerate(queues))
    return draft(read_bytes((VM + more + cards).encode(), Path("/vm.toml")), Record())


def test_each_queue_and_each_file_counts() -> None:
    """Queues of taps, eBPF sets, the monitor, and files that QEMU inherits."""
    without = count_open_files(draft_of())
    needed = count_open_files(draft_of(4, 8, more=LOG))

    assert (needed.taps, needed.vhost, needed.sets) == (12, 0, 8)
    assert needed.others == without.others + 1
    assert needed.least == 12 + 8 + needed.others + RESERVE
    assert needed.most > needed.least + 2


def run(body: str, soft: int, hard: int) -> str:
    """Run *body* in a process with these limits; return what it prints."""
    start = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", IMPORTS + start + body]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def test_limit_that_cannot_be_raised_far_enough() -> None:
    """It is refused with what is needed, for what, and what there is; the largest card is named."""
    body = "for e in find_low_limit(draft_of(2, 200)): print(e.message, e.hint, e.element, sep='|')"

    message, hint, element = run(body, 300, 300).strip().split("|")

    assert message.startswith("the VM needs ")
    assert "202 for queues of taps, 8 for eBPF, " in message
    assert message.endswith("and this session may have 300")
    assert "ulimit -Hn" in hint
    assert "LimitNOFILE=" in hint
    assert element == "cards[1].queues"


def test_limit_that_is_enough() -> None:
    """Nothing is said, and nothing is changed."""
    body = (
        "it = draft_of(2); before = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "raise_limit(it)\n"
        "print(list(find_low_limit(it)), before == resource.getrlimit(resource.RLIMIT_NOFILE))"
    )

    assert run(body, 1024, 4096) == "[] True\n"


@pytest.mark.parametrize(("hard", "soft"), [(1000, 1000), (4096, 2000)])
def test_soft_limit_is_raised(hard: int, soft: int) -> None:
    """As far as the VM may need it and the hard limit lets us; what we start inherits it."""
    body = (
        "it = draft_of(200); raise_limit(it)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], count_open_files(it).most)\n"
        "with start_child(['/bin/sh', '-c', 'ulimit -n']) as child:\n"
        "    child.wait(10)\n"
        "    print(child.tail())"
    )

    raised, most, inherited = run(body, 256, hard).split()

    assert soft > 256
    assert int(raised) == min(hard, int(most)) == int(inherited)


def test_ends_of_children_are_seen_with_many_files_open() -> None:
    """Fds above 1,023 are no problem for waiting."""
    body = (
        "fds = [os.open('/dev/null', os.O_RDONLY) for _ in range(1500)]\n"
        "with start_child(['/bin/true']) as child: print(child.wait(10), child.exit_status())"
    )

    assert run(body, 4000, 4000) == "True 0\n"
