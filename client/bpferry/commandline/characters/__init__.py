# SPDX-License-Identifier: LGPL-2.1-or-later
"""Character devices, and what uses them.

    build        all of them
    chardevs     the back ends
    ports        serial and parallel ports
    channels     consoles and channels between guest and host
    redirection  USB devices that come over a character device
    smartcards   readers with their cards
    tpm          TPMs, and swtpm beside QEMU

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
