"""``mixpriv-client``: a file for each command, with what its options are and what it does.

The commands import what they need when they run, so that ``--help`` answers at once.
"""

PROGRAM = "mixpriv-client"
