# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees, hears and touches.

    display    all of it
    graphics   ways to see the screen: vnc, spice, and others; endpoints, where they listen
    videos     graphics cards; vhost_user_videos, those whose GPU is another process
    inputs     mice, tablets, keyboards
    sounds     sound cards
    audios     where their sound goes

Depends on: the modules above this folder, domain.model, qemu.capabilities, errors.
Never does: open, ask, start or look for anything.
"""
