"""Which code made a result."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mixpriv import __version__


def commit() -> str:
    """Short hash of the checkout that runs, ``-dirty`` if changed; the version outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
