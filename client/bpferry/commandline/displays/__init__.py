# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees, hears and touches.

    build              all of it
    graphics           ways to see the screen
    vnc                one of them
    spice              another one
    spice_ports        which ports it has, in plain text and with TLS
    passwords          what lets people connect
    endpoints          where these listen
    videos             graphics cards
    vhost_user_videos  those whose GPU is another process
    inputs             mice, tablets, keyboards
    sounds             sound cards
    audios             where their sound goes

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
