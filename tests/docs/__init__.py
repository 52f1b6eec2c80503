# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documentation says is what the programs do."""
