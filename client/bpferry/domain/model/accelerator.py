# SPDX-License-Identifier: LGPL-2.1-or-later
"""What executes the guest's instructions."""

from enum import StrEnum


class Accelerator(StrEnum):
    """What a description may ask for."""

    AUTO = "auto"
    """KVM if a trial shows that it works, else TCG."""
    KVM = "kvm"
    TCG = "tcg"
