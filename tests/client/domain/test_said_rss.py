# SPDX-License-Identifier: LGPL-2.1-or-later
"""That RSS is asked for, is off, or is not said: in both forms, and from one to the other."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes, to_toml, to_xml
from bpferry.domain.model.machine import Machine

TOML = 'name = "x"\nmemory = "64 MiB"\n{top}\n[[cards]]\nbridge = "br0"\nqueues = 4\n{card}\n'
XML = """\
<domain type='kvm' xmlns:bpferry='https://bpferry.org/schemas/domain/1.0'>
  <name>x</name>
  <memory unit='MiB'>64</memory>
  {top}
  <os><type>hvm</type></os>
  <devices>
    <interface type='bridge'>
      <source bridge='br0'/>
      <model type='virtio'/>
      <driver queues='4' {card}/>
    </interface>
  </devices>
</domain>
"""
BY_DEFAULT = "<metadata><bpferry:vm default-rss='yes'/></metadata>"

FORMS = [
    (TOML, "", "", (None, True)),
    (TOML, "", "rss = true", (True, True)),
    (TOML, "", "rss = false", (False, True)),
    (TOML, "default-rss = false", "", (None, False)),
    (XML, "", "", (None, False)),
    (XML, "", "rss='on'", (True, False)),
    (XML, "", "rss='off'", (False, False)),
    (XML, BY_DEFAULT, "", (None, True)),
]


def machine_of(text: str) -> Machine:
    """Return the VM of a document of either form."""
    suffix = "xml" if text.startswith("<") else "toml"
    return read_bytes(text.encode(), Path(f"/vm.{suffix}")).machine


def said(machine: Machine) -> tuple[bool | None, bool]:
    """Return what its card says, and what counts for a card that does not say."""
    (card,) = machine.cards
    return card.rss, machine.default_rss


@pytest.mark.parametrize(("form", "top", "card", "expected"), FORMS)
def test_what_is_said(form: str, top: str, card: str, expected: tuple[bool | None, bool]) -> None:
    """A card says that it has RSS, that it has none, or does not say; then the VM decides.

    That is RSS by default in the native form, and none in libvirt's.
    """
    assert expected == said(machine_of(form.format(top=top, card=card)))


@pytest.mark.parametrize(("form", "top", "card", "_expected"), FORMS)
def test_nothing_is_lost(form: str, top: str, card: str, _expected: object) -> None:
    """From one form to the other and back, it says the same."""
    machine = machine_of(form.format(top=top, card=card))

    assert machine == machine_of(to_toml(machine))
    assert machine == machine_of(to_xml(machine))
    assert machine == machine_of(to_xml(machine_of(to_toml(machine))))
    assert machine == machine_of(to_toml(machine_of(to_xml(machine))))


def test_rss_by_default_is_written_where_libvirt_lets_it_stand() -> None:
    """In libvirt's form it is metadata, which libvirt keeps; the card has what libvirt knows."""
    written = to_xml(machine_of(TOML.format(top="", card="")))

    assert 'default-rss="yes"' in written
    assert '<driver queues="4" />' in written
