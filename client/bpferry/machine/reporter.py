# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface for reports while a VM is prepared and while it runs."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bpferry.commandline.parts import Endpoint
    from bpferry.steering.maps import Steering


class Reporter(Protocol):
    """Takes sentences, and values for programs. ``cli.output`` implements it for people."""

    def progress(self, text: str) -> None:
        """Take note of a step that is about to be done, for a user who waits."""

    def note(self, text: str) -> None:
        """Take note of something that the user should know."""

    def warn(self, text: str, hint: str = "") -> None:
        """Take note of something that is less than the user asked for."""

    def qemu_said(self, line: str) -> None:
        """Take one line that QEMU wrote, unchanged."""

    def steering_changed(self, card_id: str, steering: "Steering") -> None:
        """Take the steering that the guest's driver has set up."""

    def reachable(self, endpoint: "Endpoint") -> None:
        """Take note of a place where somebody can connect to the VM now."""


class Silent:
    """A reporter for whom nobody is there."""

    def progress(self, text: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str, hint: str = "") -> None:
        """Say nothing."""

    def qemu_said(self, line: str) -> None:
        """Say nothing."""

    def steering_changed(self, card_id: str, steering: "Steering") -> None:
        """Say nothing."""

    def reachable(self, endpoint: "Endpoint") -> None:
        """Say nothing."""
