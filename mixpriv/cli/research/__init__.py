"""``mixpriv``: training, evaluation, audit; a file for each command."""
