# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each mistake that a policy file can have, with its line."""

from pathlib import Path

import pytest

from bpferry_helper.errors import PolicyError
from tests.helper.policy.conftest import read

pytestmark = pytest.mark.privileged


MISTAKES = {
    "a number as text": ("[quota]\n\nsets-per-user = '4'\n", 3, "from 0 to 1024"),
    "a boolean as number": ("[quota]\nsets-per-user = true\n", 2, "from 0 to 1024"),
    "a float as number": ("[quota]\nsets-per-user = 1.0\n", 2, "from 0 to 1024"),
    "a negative number": ("[quota]\nsets-in-total = -1\n", 2, "from 0 to 1024"),
    "a number too large": ("[quota]\nsets-in-total = 1025\n", 2, "from 0 to 1024"),
    "a burst of none": ("[quota]\nloads-at-once = 0\n", 2, "from 1 to 1000"),
    "a pace of none": ("[quota]\nloads-per-second = 0\n", 2, "from 1 to 1000"),
    "no idle time": ("[service]\nidle-exit-seconds = 0\n", 2, "from 1 to 86400"),
    "no name of a user": ("[load]\nusers = [\n 1,\n '-1',\n]\n", 2, "has '-1', which cannot be"),
    "no name of a group": ("[load]\ngroups = ['']\n", 2, "has '', which cannot be the name of a"),
    "a user with NUL": ('[load]\nusers = ["a\\u0000b"]\n', 2, "users"),
    "a negative user": ("[load]\nusers = [-1]\n", 2, "has -1"),
    "the user 2^32-1": ("[load]\nusers = [4294967295]\n", 2, "has 4294967295"),
    "a boolean as user": ("[load]\nusers = [true]\n", 2, "has True"),
    "users that are no list": ("[load]\nusers = 'root'\n", 2, "must be a list"),
    "a list in a list": ("[load]\nusers = [['root']]\n", 2, "neither a user name"),
    "a path that is relative": ("[qemu]\ntrusted = ['bin/qemu']\n", 2, "not an absolute path"),
    "a path with ..": ("[qemu]\ntrusted = ['/usr/../bin/qemu']\n", 2, "not an absolute path"),
    "a path of a folder": ("[qemu]\ntrusted = ['/usr/bin/']\n", 2, "not an absolute path"),
    "a wildcard in a folder": ("[qemu]\ntrusted = ['/home/*/qemu']\n", 2, "only the last part"),
    "paths that are no list": ("[qemu]\ntrusted = '/usr/bin/qemu'\n", 2, "list of paths"),
    "a path that is a number": ("[qemu]\ntrusted = [1]\n", 2, "list of paths"),
    "an unknown program type": ("[objects]\nprogram-types = ['lsm']\n", 2, "has 'lsm'"),
    "a list as program type": ("[objects]\nprogram-types = [['xdp']]\n", 2, "has ['xdp']"),
    "types that are no list": ("[objects]\nprogram-types = 'xdp'\n", 2, "must be a list"),
    "an unknown table": ("\n[loads]\nusers = []\n", 2, "unknown 'loads'"),
    "an unknown key": ("[load]\nuser = []\n", 2, "unknown key 'user' in [load]"),
    "a key without a table": ("users = []\n", 1, "'users' must be a table"),
    "a table of tables": ("[[load]]\nusers = []\n", 1, "'load' must be a table"),
    "a table within": ("[load.users]\na = 1\n", 1, "must be a list"),
    "an inline table": ("\nload = { users = [], who = 1 }\n", 2, "unknown key 'who'"),
    "a dotted key": ("\nload.users = 1\n", 2, "must be a list"),
    "a quoted key": ("[load]\n'users' = 1\n", 2, "must be a list"),
    "the same key twice": ("[load]\nusers = []\nusers = []\n", 3, "not valid TOML"),
    "the same table twice": ("[load]\n[quota]\n[load]\n", 3, "not valid TOML"),
    "no value": ("[load]\nusers =\n", 2, "not valid TOML"),
    "an open list": ("[load]\nusers = [1,\n2,\n", 4, "not valid TOML"),
    "a byte order mark": ("\ufeff[load]\n", 1, "not valid TOML"),
    "a lone carriage return": ("[load]\rusers = []\n", 1, "not valid TOML"),
    "a date that is none": ("[load]\nusers = 2026-13-40\n", 2, "not valid TOML"),
    "bytes that are no UTF-8": (b"[load]\n# \xff\n", 2, "is not UTF-8"),
    "an unknown table of tables": ("\n[[loads]]\nusers = []\n", 2, "unknown 'loads'"),
    "a mistake in a rule that is skipped": ("[users.nosuch]\ntaps = -1\n", 2, "from 0 to 1024"),
    "a rule of no group": ("\n[groups.-1]\n", 2, "'-1' cannot be the name of a group"),
    "a rule of the user 2^32-1": ("[users.4294967295]\n", 1, "cannot be the name of a user"),
    "a range of all, with root": ("[users.0-9]\n", 1, "is no range such as 20000-29999"),
    "a range that ends before it begins": ("[users.20-10]\n", 1, "is no range such as"),
    "a range of one": ("[users.20-20]\n", 1, "is no range such as"),
    "a range with the user 2^32-1": ("[users.9-4294967295]\n", 1, "is no range such as"),
    "a range of groups": ("[groups.10-20]\n", 1, "'10-20' cannot be the name of a group"),
    "a rule of an id of 5,000 digits": (f"[users.{'9' * 5000}]\n", 1, "cannot be the name of a"),
    "a rule of an id with a zero": ("[users.01]\n", 1, "cannot be the name of a user"),
    "a rule of an id with a sign": ("[users.-1]\n", 1, "cannot be the name of a user"),
    "a rule of another script's id": ('[users."\u0661"]\n', 1, "cannot be the name of a user"),
    "a rule of a user with NUL": ('[users."a\\u0000"]\n', 1, "cannot be the name of a user"),
    "a rule of nobody": ('[users.""]\n', 1, "cannot be the name of a user"),
    "two rules of a user": (
        "[users.root]\n\n[users.0]\n", 3, "'0' is id 0, as is [users.root]"
    ),
    "a rule that is a list": ("[users]\nroot = ['br0']\n", 2, "must be a table: [users.root]"),
    "a rule that is a list of tables": ("[[users.root]]\n", 1, "must be a table: [users.root]"),
    "an unknown key of a rule": (
        "[users.root]\nbridge = ['br0']\n", 2,
        "unknown key 'bridge' in [users.root]; possible: bridges, deny, queues-per-tap, taps",
    ),
    "bridges that are no list": ("[users.root]\nbridges = 'br0'\n", 2, "must be a list"),
    "a bridge that is a number": ("[users.root]\nbridges = [0]\n", 2, "has 0; a name"),
    "a bridge without a name": ("[users.root]\nbridges = ['']\n", 2, "has ''; a name"),
    "a bridge of 16 bytes": (
        f"[groups.root]\nbridges = ['{'b' * 16}']\n", 2, "at most 15 of the characters"
    ),
    "a bridge with a slash": ("[users.root]\nbridges = ['a/b']\n", 2, "has 'a/b'; a name"),
    "a bridge with a percent": ("[users.root]\nbridges = ['br%d']\n", 2, "has 'br%d'; a name"),
    "a bridge in another script": ("[users.root]\nbridges = ['bro\u0308']\n", 2, "a name has"),
    "a bridge of two dots": ("[users.root]\nbridges = ['..']\n", 2, "has '..'; a name"),
    "an open bracket": ("[users.root]\nbridges = ['v[0-9']\n", 2, "has 'v[0-9'; a name"),
    "a bracket too many": ("[users.root]\nbridges = ['v0]']\n", 2, "has 'v0]'; a name"),
    "a set that leaves out": ("[users.root]\nbridges = ['v[!0]']\n", 2, "has 'v[!0]'; a name"),
    "a pattern too long": (
        f"[users.root]\nbridges = ['{'v' * 64}*']\n", 2, "a name has at most"
    ),
    "queues of none": ("[users.root]\nqueues-per-tap = 0\n", 2, "from 1 to 64"),
    "too many queues": ("[groups.root]\nqueues-per-tap = 65\n", 2, "from 1 to 64"),
    "too many queues for all": ("[quota]\nqueues-per-tap = 65\n", 2, "from 1 to 64"),
    "taps below none": ("[users.root]\ntaps = -1\n", 2, "from 0 to 1024"),
    "too many taps": ("[quota]\ntaps-in-total = 1025\n", 2, "from 0 to 1024"),
    "taps that are true": ("[quota]\ntaps-per-user = true\n", 2, "from 0 to 1024"),
    "a burst of no taps": ("[quota]\ntaps-at-once = 0\n", 2, "from 1 to 1000"),
    "a pace of no taps": ("[quota]\ntaps-per-second = 0\n", 2, "from 1 to 1000"),
    "settings of no bridge": ('\n[bridges."br 0"]\n', 2, "'br 0' matches no name of a bridge"),
    "settings that are no table": ("\n[bridges]\nbr0 = 1\n", 3, "must be a table: [bridges.br0]"),
    "an unquoted dot": (
        "\n[bridges.br0.7]\nisolated = true\n", 2, "unknown key '7' in [bridges.br0]"
    ),
    "a flag that is a number": ("[bridges.br0]\nisolated = 1\n", 2, "must be true or false"),
    "a flag that is a text": ("[bridges.br0]\naddress-lock = 'no'\n", 2, "must be true or false"),
    "a key of an earlier version": (
        "[bridges.br0]\nlearning = false\n", 2, "write 'address-lock = true' in place of"
    ),
    "a flag of a user that is a number": (
        "[users.root]\nunicast-flood = 1\n", 2, "must be true or false"
    ),
    "addresses that are no list": (
        "[bridges.br0]\naddresses = '52:54:00:00:00:01'\n", 2, "must be a list such as"
    ),
    "no addresses": ("[users.root]\naddresses = []\n", 2, "must be a list such as"),
    "half an address": (
        "[groups.root]\naddresses = ['52:54:00']\n", 2, "has '52:54:00', which is"
    ),
    "an address that is a number": (
        "[bridges.br0]\naddresses = [1]\n", 2, "has 1, which is neither"
    ),
    "an address of 49 bits": (
        "[bridges.br0]\naddresses = ['52:54:00:00:00:01/49']\n", 2, "which is neither a MAC address"
    ),
    "a prefix with more than its bits": (
        "[bridges.br0]\naddresses = ['52:54:00:00:00:01/24']\n", 2, "more than the first 24 bits"
    ),
    "an address of a group": (
        "[bridges.br0]\naddresses = ['01:00:5e:00:00:01']\n", 2, "no card can have it"
    ),
    "a prefix of groups": (
        "[bridges.br0]\naddresses = ['33:33:00:00:00:00/16']\n", 2, "no card can have it"
    ),
    "VLANs that are no list": ("[bridges.br0]\nvlans = 10\n", 2, "must be a list of VLANs"),
    "no VLANs": ("[users.root]\nvlans = []\n", 2, "must be a list of VLANs"),
    "VLAN 4095": ("[bridges.br0]\nvlans = [4095]\n", 2, "has 4095, which is neither"),
    "VLAN true": ("[bridges.br0]\nvlans = [true]\n", 2, "has True, which is neither"),
    "VLANs that count down": ("[bridges.br0]\nvlans = ['30-20']\n", 2, "has '30-20', which"),
    "VLANs in words": ("[bridges.br0]\nvlans = ['all']\n", 2, "has 'all', which is neither"),
    "a bandwidth that is one rate": (
        "[bridges.br0]\nbandwidth = '1 MB/s'\n", 2, "must have rates, as in"
    ),
    "a bandwidth without rates": ("[users.root]\nbandwidth = {}\n", 2, "must have rates, as in"),
    "a bandwidth of a third way": (
        "[users.root]\nbandwidth = { both = '1 MB/s' }\n", 2, "must have rates, as in"
    ),
    "a bandwidth without a unit": (
        "[users.root]\nbandwidth = { inbound = 1000 }\n", 2, "has 'inbound', which must be a rate"
    ),
    "a bandwidth of nothing": (
        "[bridges.br0.bandwidth]\noutbound = '7 kbit/s'\n", 1, "has 'outbound', which must be from"
    ),
    "a queue without room": ("[bridges.br0]\ntx-queue-length = 0\n", 2, "from 1 to 4096"),
    "an address of its own": ("[bridges.br0]\naddress = 'fe:0'\n", 2, "'set' or 'refuse'"),
    "an address that is a list": ("[bridges.br0]\naddress = []\n", 2, "'set' or 'refuse'"),
    "a network of a pattern": ("[networks]\na = 'br*'\n", 2, "must be the name of one bridge"),
    "a network of a number": ("[networks]\na = 0\n", 2, "must be the name of one bridge"),
    "a network of a table": ("[networks.a]\nb = 'br0'\n", 1, "must be the name of one bridge"),
    "a network without a name": ("[networks]\n'' = 'br0'\n", 2, "must be 1 to 64 bytes"),
    "a network of 65 bytes": (f"[networks]\n{'n' * 65} = 'br0'\n", 2, "must be 1 to 64 bytes"),
    "a network with a newline": ('[networks]\n"a\\nb" = "br0"\n', 2, "must be 1 to 64 bytes"),
    "bridge.conf by name": ("[qemu]\nbridge-conf = '/x'\n", 2, "must be true or false"),
    "a mistake in a rule in a line": ("\nusers = { root = { taps = -1 } }\n", 2, "from 0"),
    "a mistake after CR LF": ("[quota]\r\n\r\nsets-per-user = -1\r\n", 3, "from 0"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_line(path: Path, text: str | bytes, line: int, words: str) -> None:
    """The administrator is told where it is and what it is."""
    with pytest.raises(PolicyError) as caught:
        read(path, text)

    assert (line, True) == (caught.value.line, words in str(caught.value))
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize("text", ["[load]\nusers = " + "9" * 5000, "a = " + "[" * 30_000])
def test_what_breaks_the_parser_is_a_mistake(path: Path, text: str) -> None:
    """What tomllib answers with other errors is not a reason to crash."""
    with pytest.raises(PolicyError, match="not valid TOML"):
        read(path, text)
