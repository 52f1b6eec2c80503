# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests of 512 bytes that greet on the serial port. They need a PC with SeaBIOS.

They start in a second under TCG, and cost no time while nothing happens to them. One echoes what is
typed, ignores its power button, powers the machine off on 'q', and on the bytes of PANIC and the
others does what their names say. Another one powers down, as guests do, when somebody presses its
power button. The third takes all the memory that it can reach. The last says nothing, and keeps its
processor busy.
"""

from pathlib import Path

GREETING = b"hello from the boot sector\r\n"

PANIC, CRASH_LOADED, RESET, START_WATCHDOG = b"\x01", b"\x02", b"\x06", b"\x07"
"""What can be typed: a panic, a panic that a crash kernel looks at, a reset, an ib700 for 2 s."""

CODE = bytes.fromhex(
    "fa"  # 00  cli
    "31c0"  # 01  xor ax, ax
    "8ed8"  # 03  mov ds, ax
    "fc"  # 05  cld
    "c7063000687c"  # 06  mov [0x30], 0x7c68  COM1's interrupt
    "a33200"  # 0c  mov [0x32], ax
    "e421"  # 0f  in al, 0x21       it is let through
    "24ef"  # 11  and al, 0xef
    "e621"  # 13  out 0x21, al
    "baf903"  # 15  mov dx, 0x3f9     and asked for when something is typed
    "b001"  # 18  mov al, 0x1
    "ee"  # 1a  out dx, al
    "be6f7c"  # 1b  mov si, 0x7c6f    the greeting
    "ac"  # 1e  lodsb
    "08c0"  # 1f  or al, al
    "7409"  # 21  je 2c
    "baf803"  # 23  mov dx, 0x3f8     COM1, data
    "ee"  # 26  out dx, al
    "ebf5"  # 27  jmp 1e
    "fb"  # 29  sti
    "f4"  # 2a  hlt               until then, or until the timer's next tick
    "fa"  # 2b  cli
    "bafd03"  # 2c  mov dx, 0x3fd     COM1, line status
    "ec"  # 2f  in al, dx
    "a801"  # 30  test al, 0x1      something was typed
    "74f5"  # 32  je 29
    "baf803"  # 34  mov dx, 0x3f8
    "ec"  # 37  in al, dx
    "ee"  # 38  out dx, al
    "3c71"  # 39  cmp al, 'q'
    "7422"  # 3b  je 5f
    "3c02"  # 3d  cmp al, 0x2       1, 2: what the kernel says to pvpanic
    "7610"  # 3f  jbe 51
    "3c06"  # 41  cmp al, 0x6       6: reset
    "7412"  # 43  je 57
    "3c07"  # 45  cmp al, 0x7       7: start the watchdog
    "75e3"  # 47  jne 2c
    "ba4304"  # 49  mov dx, 0x443     ib700: on, 2 s
    "b00e"  # 4c  mov al, 0xe
    "ee"  # 4e  out dx, al
    "ebdb"  # 4f  jmp 2c
    "ba0505"  # 51  mov dx, 0x505     pvpanic
    "ee"  # 54  out dx, al
    "ebd5"  # 55  jmp 2c
    "baf90c"  # 57  mov dx, 0xcf9     the chipset's reset control
    "b006"  # 5a  mov al, 0x6
    "ee"  # 5c  out dx, al
    "eb07"  # 5d  jmp 66
    "ba0406"  # 5f  mov dx, 0x604     where SeaBIOS puts q35's PM1a control register
    "b80020"  # 62  mov ax, 0x2000    sleep enable, type S5
    "ef"  # 65  out dx, ax
    "ebfe"  # 66  jmp 66
    "50"  # 68  push ax           the interrupt has woken the processor up, and that is all
    "b020"  # 69  mov al, 0x20
    "e620"  # 6b  out 0x20, al
    "58"  # 6d  pop ax
    "cf"  # 6e  iret
)


FAREWELL = b"powering down\r\n"

OBEDIENT = bytes.fromhex(
    "31c0"  # 00  xor ax, ax
    "8ed8"  # 02  mov ds, ax
    "fc"  # 04  cld
    "fb"  # 05  sti                 for the timer; that of the power button is masked
    "ba0206"  # 06  mov dx, 0x602       q35's PM1a enable register
    "b80001"  # 09  mov ax, 0x0100      the power button
    "ef"  # 0c  out dx, ax
    "be3c7c"  # 0d  mov si, 0x7c3c      the greeting
    "ac"  # 10  lodsb
    "08c0"  # 11  or al, al
    "7406"  # 13  jz 0x1b
    "baf803"  # 15  mov dx, 0x3f8
    "ee"  # 18  out dx, al
    "ebf5"  # 19  jmp 0x10
    "ba0006"  # 1b  mov dx, 0x600       PM1a status
    "f4"  # 1e  hlt                 until the timer's next tick, after at most 55 ms
    "ed"  # 1f  in ax, dx
    "f6c401"  # 20  test ah, 1          it was pressed
    "74f9"  # 23  jz 0x1e
    "be597c"  # 25  mov si, 0x7c59      the farewell
    "ac"  # 28  lodsb
    "08c0"  # 29  or al, al
    "7406"  # 2b  jz 0x33
    "baf803"  # 2d  mov dx, 0x3f8
    "ee"  # 30  out dx, al
    "ebf5"  # 31  jmp 0x28
    "ba0406"  # 33  mov dx, 0x604
    "b80020"  # 36  mov ax, 0x2000
    "ef"  # 39  out dx, ax
    "ebfe"  # 3a  jmp 0x3a
)

REACH_MIB = 512
"""Up to where the third goes; its machine needs as much."""

GREEDY = bytes.fromhex(
    "31c0"  # 00  xor ax, ax
    "8ed8"  # 02  mov ds, ax
    "fc"  # 04  cld
    "be587c"  # 05  mov si, 0x7c58      the greeting
    "ac"  # 08  lodsb
    "08c0"  # 09  or al, al
    "7406"  # 0b  jz 0x13
    "baf803"  # 0d  mov dx, 0x3f8
    "ee"  # 10  out dx, al
    "ebf5"  # 11  jmp 0x8
    "fa"  # 13  cli
    "0f0116487c"  # 14  lgdt [0x7c48]
    "0f20c0"  # 19  mov eax, cr0        into protected mode, and back
    "0c01"  # 1c  or al, 0x1
    "0f22c0"  # 1e  mov cr0, eax
    "bb0800"  # 21  mov bx, 0x8         es reaches 4 GiB from now on
    "8ec3"  # 24  mov es, bx
    "24fe"  # 26  and al, 0xfe
    "0f22c0"  # 28  mov cr0, eax
    "66bf00001000"  # 2b  mov edi, 0x100000   from 1 MiB
    "26678807"  # 31  mov es:[edi], al    one byte of each page
    "6681c700100000"  # 35  add edi, 0x1000
    "6681ff00000020"  # 3c  cmp edi, 0x20000000 up to 512 MiB
    "72ec"  # 43  jb 0x31
    "f4"  # 45  hlt
    "ebfd"  # 46  jmp 0x45
    # 48  Segments: the first is none, so its place has size and address of this table.
    "0f00487c00000000"
    "ffff00000092cf00"  # 50  writable, from 0 to 4 GiB
)

BUSY = bytes.fromhex("ebfe")  # jmp 0


def write_disk(path: Path) -> None:
    """Write a disk image with this guest to *path*."""
    _write(path, CODE + GREETING + b"\0")


def write_obedient_disk(path: Path) -> None:
    """Write one with the guest that powers down when it is asked to."""
    _write(path, OBEDIENT + GREETING + b"\0" + FAREWELL + b"\0")


def write_greedy_disk(path: Path) -> None:
    """Write one with the guest that takes memory."""
    _write(path, GREEDY + GREETING + b"\0")


def write_busy_disk(path: Path) -> None:
    """Write one with the guest that never sleeps."""
    _write(path, BUSY)


def _write(path: Path, code: bytes) -> None:
    sector = code.ljust(510, b"\0") + b"\x55\xaa"
    path.write_bytes(sector.ljust(1 << 20, b"\0"))
