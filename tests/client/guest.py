# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest of 512 bytes: a boot sector that greets on the serial port and echoes what is typed.

It needs a PC with SeaBIOS and starts in a second under TCG. On 'q' it powers the machine off.
"""

from pathlib import Path

GREETING = b"hello from the boot sector\r\n"

CODE = bytes.fromhex(
    "31c0"  # 00  xor ax, ax
    "8ed8"  # 02  mov ds, ax
    "fc"  # 04  cld
    "be2d7c"  # 05  mov si, 0x7c2d      the greeting
    "ac"  # 08  lodsb
    "08c0"  # 09  or al, al
    "7406"  # 0b  jz 0x13
    "baf803"  # 0d  mov dx, 0x3f8       COM1, data
    "ee"  # 10  out dx, al
    "ebf5"  # 11  jmp 0x08
    "bafd03"  # 13  mov dx, 0x3fd       COM1, line status
    "ec"  # 16  in al, dx
    "a801"  # 17  test al, 1          something was typed
    "74f8"  # 19  jz 0x13
    "baf803"  # 1b  mov dx, 0x3f8
    "ec"  # 1e  in al, dx
    "ee"  # 1f  out dx, al
    "3c71"  # 20  cmp al, 'q'
    "75ef"  # 22  jne 0x13
    "ba0406"  # 24  mov dx, 0x604       where SeaBIOS puts q35's PM1a control register
    "b80020"  # 27  mov ax, 0x2000      sleep enable, type S5
    "ef"  # 2a  out dx, ax
    "ebfe"  # 2b  jmp 0x2b
)


def write_disk(path: Path) -> None:
    """Write a disk image with this guest to *path*."""
    sector = (CODE + GREETING + b"\0").ljust(510, b"\0") + b"\x55\xaa"
    path.write_bytes(sector.ljust(1 << 20, b"\0"))
