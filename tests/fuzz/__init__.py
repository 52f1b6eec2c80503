# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that reads what somebody else wrote, with input that a fuzzer makes up.

    targets  what is read, and what has to hold for any input
    seeds    real input, from which the fuzzer starts
    __main__ one target, driven by atheris: coverage decides what is tried next

Whatever is found is kept in ``found``, one file each, and tried again by every run of the tests.
"""
