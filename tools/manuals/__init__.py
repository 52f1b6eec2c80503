# SPDX-License-Identifier: LGPL-2.1-or-later
"""Man pages and completions, made from the parser and from docs/ when bpferry is installed.

    roff           text as man(7) wants it
    command_pages  section 1, from the parser
    text_pages     sections 5, 7 and 8, from Markdown
    completions    for bash, zsh and fish, by shtab
    commands       all commands of the parser

    PYTHONPATH=tools:client:shared python3 -m manuals FOLDER

writes all of them below FOLDER, as they are below /usr/local/share.
"""
