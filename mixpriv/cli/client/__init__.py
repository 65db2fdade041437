"""``mixpriv-client``: a file for each command."""
