# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of bridges: what passes the check is the kernel's name, byte for byte."""

import fnmatch
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry_helper.errors import RequestError
from bpferry_helper.policy.names import (
    check_bridge_name,
    check_network_name,
    is_bridge_name,
    is_bridge_pattern,
)
from bpferry_wire.errors import Code

LONGEST = "b" * 15
TRUNCATED = LONGEST + "X"

BAD = [
    "", ".", "..", ".br0", "-br0", "tap%d", "%s", "%d%d", TRUNCATED, "b" * 4096, "br0\n", "br0\0",
    "a/b", "br 0", "br:0", "br0 ", " br0", "br\u00f6", "\u0431r0", "br\uff10", "\udcff", "br*",
    "br?", "[b]", "br+0", "br@if2", "br0\r", "\u202ebr0", '"', "'", "\\",
]  # fmt: skip
GOOD = ["b", "0", "_", "br0", "br0.100", "vm-bridge_1", "lo", "all", "default", "a.-.", LONGEST]

ALLOWED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

MAKE_TAPS = """
import fcntl, os, struct, sys
for name in sys.argv[1:]:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    made = fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    os.close(fd)
    print(made[:16].split(b"\\0")[0].decode())
"""
"""TUNSETIFF of linux/if_tun.h. The kernel writes the name that it took into the same struct, which
has the same 16 bytes for a name as that of the calls about bridges (struct ifreq, linux/if.h)."""


def kernel_names(names: Sequence[str]) -> list[str]:
    """Return what the kernel calls taps that are asked for by *names*, in an empty network."""
    argv = ["unshare", "--net", "--", sys.executable, "-c", MAKE_TAPS, *names]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def _short(name: str) -> str:
    return ascii(name[:20])


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_name_passes(name: str) -> None:
    """Letters, digits, and three signs."""
    check_bridge_name(name)


@pytest.mark.parametrize("name", BAD, ids=_short)
def test_another_name_is_not_a_bridge_s(name: str) -> None:
    """It is answered as one that does not exist."""
    with pytest.raises(RequestError) as caught:
        check_bridge_name(name)

    assert caught.value.code == Code.NO_SUCH_BRIDGE


@pytest.mark.parametrize("name", BAD, ids=_short)
def test_the_refusal_can_be_printed(name: str) -> None:
    """It has no byte that a terminal or a log could misread, and is short."""
    with pytest.raises(RequestError) as caught:
        check_bridge_name(name)

    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1024


@given(st.text(max_size=20) | st.text(ALLOWED, max_size=20))
def test_a_name_that_passes_survives_the_kernel_s_struct(name: str) -> None:
    """16 bytes with a closing NUL hold all of it, and nothing in it has a meaning of its own."""
    if is_bridge_name(name):
        raw = name.encode()

        assert raw == raw[:15].split(b"\0")[0]
        assert 1 <= len(raw) <= 15
        assert set(name) <= set(ALLOWED)
        assert name not in (".", "..")


@pytest.mark.privileged
def test_a_name_that_passes_is_the_kernel_s() -> None:
    """Byte for byte. Three of them the kernel knows for other things, and makes no interface."""
    names = [name for name in GOOD if name not in ("lo", "all", "default")]

    assert names == kernel_names(names)


@pytest.mark.privileged
@pytest.mark.parametrize("name", ["", "tap%d", TRUNCATED])
def test_a_name_that_the_kernel_changes_does_not_pass(name: str) -> None:
    """The attack that the check is for: asked for one name, the kernel takes another."""
    assert [name] != kernel_names([name])
    assert not is_bridge_name(name)


@pytest.mark.parametrize("name", ["default", "default/fast", "n" * 64, "B\u00fcro 2"])
def test_a_network_may_have_any_printable_name(name: str) -> None:
    """It is looked up in the policy file and nowhere else."""
    check_network_name(name)


@pytest.mark.parametrize("name", ["", "n" * 65, "\u00f6" * 33, "a\nb", "\0", "\u202ea"], ids=ascii)
def test_another_name_is_not_a_network_s(name: str) -> None:
    """It is answered as one that does not exist."""
    with pytest.raises(RequestError) as caught:
        check_network_name(name)

    assert (Code.NO_SUCH_BRIDGE, True) == (caught.value.code, str(caught.value).isprintable())


PARTS = st.sampled_from([*ALLOWED, "*", "?"]) | st.text(ALLOWED, min_size=1).map("[{}]".format)


@given(st.lists(PARTS, min_size=1, max_size=20).map("".join), st.text(ALLOWED, max_size=15))
def test_a_pattern_that_passes_can_be_tried(pattern: str, name: str) -> None:
    """Whatever its sets hold, it is not an error of the module that tries it."""
    if is_bridge_pattern(pattern):
        assert fnmatch.fnmatchcase(name, pattern) in (True, False)


@pytest.mark.parametrize("pattern", ["br0", "vm-*", "*", "v?", "v[0-9]", "v[.-]*", "[a-c][x]"])
def test_a_pattern_of_names_passes(pattern: str) -> None:
    """Wildcards as in a shell."""
    assert is_bridge_pattern(pattern)
