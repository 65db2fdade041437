"""The attacks: a file each, found by its presence here."""
