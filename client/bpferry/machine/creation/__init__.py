# SPDX-License-Identifier: LGPL-2.1-or-later
"""A new VM from an image that somebody else has installed: ``bpferry create``.

    wish          what the user asks for, and what is made of it
    names         what a VM can be called, and where its files are
    base_image    whether the image can be used, and its format
    qemu_img      the program that knows images
    networks      what the card is connected to, by what the helper allows
    logins        who can log in: a user, its keys, its password
    seed          what cloud-init reads at the guest's first boot
    description   the TOML file
    together      files and folders that are all made, or none of them
    build         all of it, step by step

Depends on: errors, domain, network, qemu.defaults, machine.folders, machine.image_formats and other
modules of machine about files.
Never does: change the image, overwrite a file, start anything that goes on, or leave half a VM.
"""
