"""Entries of the ledger, and what of them forbids to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixpriv.errors import InputError
from mixpriv.reid.scan_hash import SAME_SCAN, distance

EMBEDDED = "embedded"
"""Server name of an entry whose proxy never left this machine."""

MOST_VIEWS = 4
"""Requests of one scan to a server, unless the user says otherwise: five and more approach the scan (audit, A4)."""


@dataclass(frozen=True)
class Entry:
    """One scan sent: when (UTC, ISO 8601), to which server, how, and keyed digests of what.

    ``client`` tells keys apart, ``request`` the bytes that were sent: the same bytes again show nothing new. Both are
    empty in entries of mixpriv before the second schema. ``domain``: what an operator is known by that is trusted apart
    from the others; empty where all servers count as one.
    """

    time: str
    server: str
    bundle: str
    mode: str
    requests: int
    content: bytes
    scan_hash: bytes
    client: bytes = b""
    request: bytes = b""
    domain: str = ""

    @property
    def left_machine(self) -> bool:
        """Whether a server elsewhere may have seen it."""
        return self.server != EMBEDDED

    def shows(self, other: Entry) -> bool:
        """Whether a server that has this one learns nothing from the other."""
        same = self.request == other.request if self.request else (self.mode, self.bundle) == (other.mode, other.bundle)
        return self.content == other.content and same and self.requests >= other.requests

    def is_copy_of(self, other: Entry) -> bool:
        """Whether both left this machine, as different content that looks the same."""
        if not (self.left_machine and other.left_machine) or self.content == other.content:
            return False
        return distance(self.scan_hash, other.scan_hash) < SAME_SCAN


def refuse_repeat(entry: Entry, earlier: Sequence[Entry]) -> None:
    """Refuse, by an `InputError`, to show a server what tells it more than all that left this machine earlier.

    What went to an operator that is trusted apart is known to it alone. All else counts as known to every server.
    """
    seen = [one for one in earlier if not (entry.domain and one.domain) or _overlap(entry.domain, one.domain)]
    if any(one.shows(entry) for one in seen if entry.domain or not one.domain):
        return
    if earlier and all(one.client not in (entry.client, b"") for one in earlier):
        raise InputError(
            "client key: all that the ledger tells of was sent under another key, and under this one it cannot be told "
            "whether the scan was; restore that key, or give --allow-repeat (allow_repeat=True) once"
        )
    if entry.requests > MOST_VIEWS:
        raise InputError(
            f"references: expected at most {MOST_VIEWS} for a server, got {entry.requests}: their mean approaches the "
            "scan; give --allow-repeat (allow_repeat=True) to send them"
        )
    same = [one for one in seen if one.content == entry.content]
    if same:
        raise InputError(
            f"scan: a server saw it on {same[-1].time} (mode {same[-1].mode}, references {same[-1].requests}); another "
            "view would tell it more; give --allow-repeat (allow_repeat=True) to send it"
        )


def _overlap(one: str, other: str) -> bool:
    return not set(one.split()).isdisjoint(other.split())
