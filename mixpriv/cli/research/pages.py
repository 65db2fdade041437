"""What commands that write a page with tables share."""

from __future__ import annotations

from pathlib import Path

from mixpriv.errors import InputError


def require_markdown(path: Path) -> None:
    """Table and picture are put beside it, by other endings."""
    if path.suffix != ".md":
        raise InputError(f"{path.name}: expected an output named .md")
