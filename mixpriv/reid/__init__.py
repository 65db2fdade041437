"""How similar two images are to an attacker: re-identification and its check."""
