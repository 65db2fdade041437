"""What the ledger is told of a scan before any of it is sent."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from mixpriv.client.entry import Entry
from mixpriv.client.pipeline import Pipeline
from mixpriv.wire.delivery import now
from mixpriv.wire.spread import Spread


def note(content: bytes, scan_hash: bytes, first: NDArray[np.float16], pipeline: Pipeline) -> tuple[str, ...]:
    """Note in the ledger what is about to be sent; warn if another file of this scan went to a server before.

    Parameters
    ----------
    content, scan_hash : of the scan
    first : its first request; the further ones follow from it

    Raises
    ------
    InputError
        the ledger refuses.
    """
    if pipeline.ledger is None:
        return ()
    entries = _entries(content, scan_hash, first, pipeline)
    earlier = pipeline.ledger.enter(*entries, allow_repeat=pipeline.allow_repeat)
    copies = [e for e in earlier if e.is_copy_of(entries[0])]
    if not copies:
        return ()
    return (
        f"looks like another copy of a scan, or another scan of a person, sent on {copies[-1].time} "
        f"(mode {copies[-1].mode}): together they tell a server more",
    )


def _entries(content: bytes, scan_hash: bytes, first: NDArray[np.float16], pipeline: Pipeline) -> list[Entry]:
    """One for all servers, or one for each operator that is trusted apart from the others."""
    key, mode, spread = pipeline.key, pipeline.mode, pipeline.segmenter
    # what is sent first, and not how it is made: an update or another processor may make other bytes of the scan
    digest = hashlib.sha256(first.tobytes()).digest()

    def entry(server: str, requests: int, number: int, domain: str) -> Entry:
        return Entry(
            time=now(),
            server=server,
            bundle=f"{pipeline.bundle.name} {pipeline.bundle.version}",
            mode=mode.name,
            requests=requests,
            content=key.derive("ledger", content),
            scan_hash=scan_hash,
            client=key.derive("ledger/client")[:8],
            request=key.derive("ledger/view", digest, number),
            domain=domain,
        )

    if not isinstance(spread, Spread):
        return [entry(pipeline.server, mode.count, 0, "")]
    return [entry(spread.recipient(n).address, 1, n, spread.domain(n)) for n in range(mode.count)]
