"""What installed packages add to an audit."""

from __future__ import annotations

import importlib.metadata

import pytest

from mixpriv.audit import extensions
from mixpriv.errors import InputError


def test_a_protection_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is called, and that is somebody else's code, too."""
    point = importlib.metadata.EntryPoint("broken", "package:Broken", extensions.PROTECTIONS)

    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no licence")

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: Broken)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **of: [point])
    with pytest.raises(InputError, match=r"^mixpriv\.protections broken: cannot be loaded \(RuntimeError: no licence"):
        extensions.protection("broken")
