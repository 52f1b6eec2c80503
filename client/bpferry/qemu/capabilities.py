# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one QEMU can do, as a frozen value. ``probe`` finds it out; this module knows nobody."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EbpfObject:
    """One ELF file that a QEMU carries."""

    data: bytes = field(repr=False)
    digest: bytes
    """SHA-256 of the data."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one QEMU can do, as far as bpferry cares."""

    qemu: str
    version: tuple[int, int, int]
    objects: dict[str, EbpfObject]
    card_properties: frozenset[str]
    """The properties of virtio-net-pci, such as ``rss``, ``hash`` and ``ebpf-rss-fds``."""
    sandbox: bool
    """It takes ``-sandbox``."""
    exit_with_parent: bool
    """It takes ``-run-with exit-with-parent=on``."""

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(str(number) for number in self.version)

    @property
    def has_rss(self) -> bool:
        """Whether its cards can offer RSS to the guest."""
        return "rss" in self.card_properties

    @property
    def takes_ebpf_fds(self) -> bool:
        """Whether its cards take programs and maps that somebody else loaded."""
        return "ebpf-rss-fds" in self.card_properties
