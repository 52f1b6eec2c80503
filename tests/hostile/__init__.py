# SPDX-License-Identifier: LGPL-2.1-or-later
"""A member of the socket's group who means harm, one file for each kind of it.

Each attack has a control beside it: the same done where the defence is not, and then it works. An
attack that would fail anyway shows nothing.
"""
