# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is set and has no effect is said, with what it would need."""

import pytest

from bpferry.commandline.parts import Remark
from bpferry.domain.forms import in_form
from tests.client.commandline.small_vms import composed, read


@pytest.mark.parametrize(
    ("text", "key", "sentence"),
    [
        (
            "[[cards]]\ntype = 'user'\naddress = { type = 'pci', bus = 1, slot = 0, unit = 3 }",
            "cards[0].address.unit",
            "'unit' has no effect: an address of type 'pci' has none",
        ),
        (
            "[[cards]]\ntype = 'user'\naddress = { type = 'pci', function = 3 }",
            "cards[0].address.function",
            "'function' has no effect: an address without a bus and a slot counts as none",
        ),
        (
            "[[cards]]\ntype = 'user'\nalias = 'lan'",
            "cards[0].alias",
            "'alias' has no effect: a name that users choose begins with 'ua-'",
        ),
        (
            "[[serials]]\nlog-append = true",
            "serials[0].log-append",
            "'log-append' has no effect: there is no log",
        ),
        (
            "[[disks]]\nfile = '/d'\nsocket = '/s'",
            "disks[0].socket",
            "'socket' has no effect: it is for 'type' vhostuser only",
        ),
        (
            "[[sysinfo]]\ntype = 'smbios'\nsystem = [{ name = 'serial', value = 'x' }]",
            "sysinfo[0].system",
            "'system' has no effect: the guest sees it where 'smbios' is 'sysinfo'",
        ),
        (
            "[clock]\nbasis = 'localtime'",
            "clock.basis",
            "'basis' has no effect: it is for the offset 'variable'",
        ),
        (
            "[memory-backing]\nallocation-threads = 2",
            "memory-backing.allocation-threads",
            "'allocation-threads' has no effect: memory is not allocated at the start",
        ),
    ],
)
def test_what_has_no_effect(text: str, key: str, sentence: str) -> None:
    """The remark is about the key itself, and says what it would need."""
    told = {remark.key: remark for remark in composed(read(text)).built.of(Remark)}

    assert sentence == in_form(told[key].text, "toml")
    assert "leave out '" in in_form(told[key].hint, "toml")


@pytest.mark.parametrize("alias", ["net0", "ua-lan"])
def test_ids_of_a_run_and_of_users(alias: str) -> None:
    """What libvirt called a device is in descriptions that were converted, and worth no word."""
    text = f"[[cards]]\ntype = 'user'\nalias = '{alias}'\n"

    assert () == composed(read(text)).built.of(Remark)


def test_what_has_its_effect_is_not_told() -> None:
    """A key with what it needs is no matter for a remark."""
    text = "[memory-backing]\nsource = 'file'\ndiscard = true\n[[serials]]\nlog = '/l'\n"

    assert () == composed(read(f"{text}log-append = true")).built.of(Remark)
