# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has to survive a day of abuse: storms of clients, kills, and calls that fail.

Each has a short form, which every run of the tests includes, and a long one: ``tools/test --long``.
Both say how many times they tried (``amounts``), since no failure in N trials says only that the
true rate is below 3/N in 19 of 20 cases.
"""
