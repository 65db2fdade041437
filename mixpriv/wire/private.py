"""Whether a file that holds a secret can be read by others."""

from __future__ import annotations

import os
from pathlib import Path

from mixpriv.errors import InputError


def check_private(found: os.stat_result, what: str, path: Path) -> None:
    """Refuse a file that others may read.

    Somebody else's file may be readable by our group: so secrets are shown to a service that is not root.

    Parameters
    ----------
    found : what the system says of the file
    what : begins the message

    Raises
    ------
    InputError
        others may read or change it.
    """
    if os.name != "posix":
        return
    permissions = found.st_mode & 0o777
    forbidden = 0o077 if found.st_uid == os.geteuid() else 0o027
    if permissions & forbidden:
        raise InputError(f"{what}: {path}: expected mode 0600, got {permissions:04o}; others may know this secret")
