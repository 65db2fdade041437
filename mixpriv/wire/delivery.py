"""To whom a mixture went: noted when its first byte may leave, so that nothing that left is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass
class Delivery:
    """One try to have a mixture segmented.

    Attributes
    ----------
    server : its address, with the name that it was found under
    certificate : SHA-256 of the one that the server showed on this connection, hexadecimal; None in plain text
    time : UTC, ISO 8601, to the second
    answered : whether a usable answer came; without one it is not known what arrived
    """

    server: str
    certificate: str | None
    time: str
    answered: bool = False


def now() -> str:
    """Tell the time: UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
