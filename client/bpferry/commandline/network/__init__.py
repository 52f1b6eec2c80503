# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network cards.

    build        the devices that the guest sees
    card_fields  which fields mean something for which type and model
    netdevs      what is behind them
    tap_card     what the plan of a card with a tap means in QEMU's words
    forwards     ports of the host that lead into the guest
    passt        the process behind a card of type user

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
