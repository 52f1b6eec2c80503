# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words of a command line, as QEMU divides them."""

import re
import subprocess

import pytest

from bpferry.launcher.words import NO_ARGUMENT, Option, has_network, read_options
from tests import requires


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("-netdev user,id=n", [Option(1, "netdev", "user,id=n")]),
        ("--netdev user,id=n", [Option(1, "netdev", "user,id=n")]),
        ("disk.img -S -m 1G", [Option(2, "S"), Option(3, "m", "1G")]),
        ("-append -netdev -S", [Option(1, "append", "-netdev"), Option(3, "S")]),
        ("-name -- -nic none", [Option(1, "name", "--"), Option(3, "nic", "none")]),
        ("-netdev", [Option(1, "netdev")]),
        ("", []),
    ],
)
def test_an_option_takes_the_next_word_whatever_it_is(words: str, found: list[Option]) -> None:
    """Also if that begins with a dash; a word that is no option is an image."""
    assert found == list(read_options(["qemu", *words.split()]))


def test_a_value_that_looks_like_an_option_is_no_network() -> None:
    """The guest's command line may have any word in it."""
    assert not has_network(["qemu", "-append", "-nic", "-daemonize"])
    assert has_network(["qemu", "-daemonize", "-nic", "user"])


@pytest.mark.qemu
def test_options_without_an_argument_are_those_of_the_installed_qemu() -> None:
    """What its help shows without an argument is listed, and nothing that it shows with one."""
    text = subprocess.run(
        [requires.qemu(), "-help"], check=True, capture_output=True, text=True
    ).stdout
    shown = dict(re.findall(r"^--?([a-zA-Z][\w-]*)( *$|  +\S| \S)", text, re.MULTILINE))
    without = {name for name, after in shown.items() if not after.strip() or after[:2] == "  "}
    # Descriptions that QEMU sets apart with blanks may be arguments that it sets apart likewise.
    doubtful = {"dtb", "no-user-config", "enable-sync-profile"}

    assert {"S", "snapshot", "nodefaults", "nographic", "daemonize"} <= without
    assert without - doubtful <= NO_ARGUMENT, without - NO_ARGUMENT
    # The line of the help itself is "-h or -help".
    assert {"h"} == {name for name in shown if name not in without} & NO_ARGUMENT
