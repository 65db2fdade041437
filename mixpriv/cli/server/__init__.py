"""``mixpriv-server``: a file for each command."""
